use proptest::prelude::*;

use super::*;

fn parse(text: &str, network: &str) -> Result<String, AddressError> {
    Address::parse(text, &Network::parse(network).unwrap()).map(Address::into_string)
}

const CHECKSUMMED: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

#[test]
fn shipped_networks_are_those_of_the_table_networks() {
    let sql = include_str!("../../../sql/postgres/tables/10_networks.sql");
    let insert = sql.split("INSERT INTO arx.networks").nth(1).unwrap().split(';').next().unwrap();
    let mut in_sql: Vec<&str> = insert
        .split("\n    (")
        .skip(1)
        .flat_map(|l| l.split("), ("))
        .filter_map(|row| row.split('\'').nth(1))
        .collect();
    let mut known: Vec<&str> = Network::known().map(|(name, _)| name).collect();
    in_sql.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, in_sql);
}

#[test]
fn every_alias_names_one_network_and_canonical_names_name_themselves() {
    for (name, family) in Network::known() {
        let network = Network::parse(name).unwrap();
        assert_eq!((network.name(), network.family()), (name, family));
        assert_eq!(Network::parse(&name.to_uppercase()).unwrap(), network);
    }
    for (alias, name) in [
        ("ETH", "ethereum"),
        ("btc", "bitcoin"),
        ("LTC", "litecoin"),
        ("trx", "tron"),
        ("SOL", "solana"),
        ("matic", "polygon"),
        ("BEP20", "bsc"),
        ("bnb", "bsc"),
        ("BEP2", "binance-beacon"),
        ("avax", "avalanche"),
        ("arb", "arbitrum"),
        ("etc", "ethereum-classic"),
        ("Ripple", "ripple"),
        ("XRP", "ripple"),
        ("eip155:1", "ethereum"),
        ("EIP155:137", "polygon"),
        ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana"),
    ] {
        assert_eq!(Network::parse(alias).unwrap().name(), name, "{alias}");
    }
}

#[test]
fn an_unlisted_chain_id_is_evm_and_any_other_name_is_opaque() {
    let chain = Network::parse("eip155:9999999").unwrap();
    assert_eq!((chain.name(), chain.family()), ("eip155:9999999", NetworkFamily::Evm));
    let other = Network::parse("KCS").unwrap();
    assert_eq!((other.name(), other.family().as_str()), ("kcs", "opaque"));
}

#[test]
fn bad_network_names_are_refused_with_the_reason() {
    assert_eq!(Network::parse(""), Err(AddressError::EmptyNetwork));
    for (name, character, position) in
        [(" eth", ' ', 1), ("eth ", ' ', 4), ("a\tb", '\t', 2), ("-x", '-', 1), ("Ĺtc", 'Ĺ', 1), ("a'b", '\'', 2)]
    {
        let expected = AddressError::NetworkCharacter { network: name.into(), character, position };
        assert_eq!(Network::parse(name), Err(expected));
    }
    assert!(Network::parse(&"x".repeat(64)).is_ok());
    assert!(matches!(Network::parse(&"x".repeat(65)), Err(AddressError::NetworkTooLong { bytes: 65, .. })));
    for name in ["eip155:", "eip155:01", "eip155:0", "eip155:1a", "eip155:-1"] {
        assert_eq!(Network::parse(name), Err(AddressError::ChainId { network: name.into() }));
    }
}

#[test]
fn evm_addresses_become_lower_case_whatever_their_case() {
    let lower = CHECKSUMMED.to_lowercase();
    let upper = format!("0X{}", lower[2..].to_uppercase());
    for text in [CHECKSUMMED, &lower, &upper, &format!("0x{}", &upper[2..]), &format!("0X{}", &CHECKSUMMED[2..])] {
        assert_eq!(parse(text, "polygon").unwrap(), lower);
    }
    let address = Address::parse(&lower, &Network::parse("eip155:1").unwrap()).unwrap();
    assert_eq!(address.to_checksum().unwrap(), CHECKSUMMED);
}

#[test]
fn a_wrong_eip55_case_shows_the_right_one() {
    let wrong = CHECKSUMMED.replace("aAeb", "aaeb");
    let error = parse(&wrong, "ethereum").unwrap_err();
    assert_eq!(error, AddressError::Eip55 { address: wrong, expected: CHECKSUMMED.into() });
    assert!(error.to_string().contains(CHECKSUMMED));
}

#[test]
fn malformed_evm_addresses_say_what_is_wrong() {
    let digits = "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed";
    assert!(matches!(parse(digits, "eth"), Err(AddressError::WrongPrefix { .. })));
    assert!(matches!(parse("0x", "eth"), Err(AddressError::WrongLength { found: 0, .. })));
    assert!(matches!(parse(&format!("0x{digits}0"), "eth"), Err(AddressError::WrongLength { found: 41, .. })));
    let bad = format!("0x{}g", &digits[..39]);
    assert!(matches!(parse(&bad, "eth"), Err(AddressError::BadCharacter { character: 'g', position: 42, .. })));
}

#[test]
fn white_space_and_invisible_characters_are_rejected_on_every_network() {
    for network in ["ethereum", "bitcoin", "solana", "monero"] {
        assert!(matches!(parse("", network), Err(AddressError::Empty { .. })));
        for text in [" a", "a ", "a\n", "\u{a0}a"] {
            assert!(matches!(parse(text, network), Err(AddressError::SurroundingWhitespace { .. })), "{text:?}");
        }
        for text in ["a b", "a\0b", "a\u{200b}b", "a\u{202e}b"] {
            assert!(matches!(parse(text, network), Err(AddressError::BadCharacter { position: 2, .. })), "{text:?}");
        }
        assert!(matches!(parse(&"a".repeat(257), network), Err(AddressError::TooLong { bytes: 257, .. })));
    }
    assert_eq!(parse(&"a".repeat(256), "monero").unwrap().len(), 256);
}

#[test]
fn an_address_of_another_network_is_an_error_that_names_the_network() {
    for (text, network, belongs_to) in [
        ("1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i", "ethereum", "bitcoin"),
        ("mo9ncXisMeAoXwqcV5EWuyncbmCcQN4rVs", "bitcoin", "bitcoin-testnet"),
        ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7", "bitcoin", "bitcoin-testnet"),
        ("ltc1qmrf5gsptkp2xsunvxc57txjhr53w4d5003smpe", "bitcoin", "litecoin"),
        (CHECKSUMMED, "tron", "ethereum"),
        ("TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "ethereum", "tron"),
        ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "bitcoin", "solana"),
    ] {
        let expected = AddressError::WrongNetwork { address: text.into(), network: network.into(), belongs_to };
        assert_eq!(parse(text, network), Err(expected));
    }
}

#[test]
fn bitcoin_errors_name_the_cause() {
    let kind = |text| parse(text, "bitcoin").unwrap_err();
    let mixed = "bc1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4";
    assert_eq!(kind(mixed), AddressError::MixedCase { address: mixed.into() });
    assert!(matches!(kind("1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62j"), AddressError::BadChecksum { .. }));
    assert!(matches!(kind("1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW620"), AddressError::BadCharacter { position: 34, .. }));
    assert!(matches!(kind("1AGNa15"), AddressError::WrongLength { .. }));
    let unknown = kind("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut");
    assert!(matches!(unknown, AddressError::WrongPrefix { ref found, .. } if found == "tc1"), "{unknown}");
    let bech32 = kind("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd");
    assert!(matches!(bech32, AddressError::WrongChecksumKind { version: 1, expected: "bech32m", .. }));
    let letter = kind("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4");
    assert!(matches!(letter, AddressError::BadCharacter { character: 'o', position: 60, .. }), "{letter}");
    let version = kind("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R");
    assert!(matches!(version, AddressError::WitnessVersion { .. }));
    assert!(matches!(kind("bc1pw5dgrnzv"), AddressError::WitnessLength { version: 1, bytes: 1, .. }));
    let short = kind("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P");
    assert!(matches!(short, AddressError::WitnessLength { version: 0, bytes: 16, .. }));
    let padding = kind("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf");
    assert!(matches!(padding, AddressError::Padding { .. }));
}

#[test]
fn both_spellings_of_a_litecoin_script_hash_are_one_address() {
    let present = "MVCnsSFE23gvm1cb2BJ68cEMMGJkT7kSwT";
    let (version, payload) = base58::decode_checked(present, "litecoin", 1).unwrap();
    assert_eq!(version, [0x32]);
    let former = base58::encode_checked(&[0x05], &payload);
    assert!(former.starts_with('3'));
    assert_eq!(parse(&former, "litecoin").unwrap(), present);
    assert_eq!(parse(present, "ltc").unwrap(), present);
    let former = base58::encode_checked(&[0xc4], &payload);
    assert_eq!(parse(&former, "ltc-testnet").unwrap(), base58::encode_checked(&[0x3a], &payload));
}

#[test]
fn every_spelling_of_a_bitcoin_cash_wallet_is_one_address() {
    // Pairs of the CashAddr specification.
    for (older, cash) in [
        ("1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"),
        ("1KXrWXciRDZUpQwQmuM1DbwsKDLYAYsVLR", "bitcoincash:qr95sy3j9xwd2ap32xkykttr4cvcu7as4y0qverfuy"),
        ("3CWFddi6m4ndiGyKqzYvsFYagqDLPVMTzC", "bitcoincash:ppm2qsznhks23z7629mms6s4cwef74vcwvn0h829pq"),
    ] {
        let bare = cash.strip_prefix("bitcoincash:").unwrap();
        for text in [older, cash, bare, &cash.to_uppercase(), &bare.to_uppercase()] {
            assert_eq!(parse(text, "bch").as_deref(), Ok(cash), "{text}");
        }
        let wrong = format!("{}{}", &cash[..cash.len() - 1], if cash.ends_with('q') { 'p' } else { 'q' });
        assert!(matches!(parse(&wrong, "bch"), Err(AddressError::BadChecksum { .. })));
        assert!(matches!(parse(cash, "bitcoin"), Err(AddressError::WrongNetwork { belongs_to: "bitcoin-cash", .. })));
    }
    let mixed = "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6A";
    assert!(matches!(parse(mixed, "bch"), Err(AddressError::MixedCase { .. })));
    assert!(matches!(parse("bchtest:qpm2", "bch"), Err(AddressError::WrongPrefix { .. })));
    for text in ["garbage", "bitcoincash:", "q", "bitcoincash:q", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"] {
        assert!(parse(text, "bch").is_err(), "{text}");
    }
}

#[test]
fn tron_accounts_in_hex_are_the_same_wallets() {
    let account = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
    for hex in [
        "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
        "0x41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
        "41A614F803B6FD780986A42C78EC9C7F77E6DED13C",
    ] {
        assert_eq!(parse(hex, "tron").as_deref(), Ok(account));
    }
    assert!(parse("42a614f803b6fd780986a42c78ec9c7f77e6ded13c", "tron").is_err());
    assert!(parse("41a614f803b6fd780986a42c78ec9c7f77e6ded1", "tron").is_err());
}

#[test]
fn icap_and_chain_checksums_are_spellings_of_evm_addresses() {
    let lower = "0x00c5496aee77c1ba1f0854206a26dda82a81d6d8";
    for text in ["XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZS", "xe7338o073kygtwwzn0f2wz0r8px5zppzs"] {
        assert_eq!(parse(text, "ethereum").as_deref(), Ok(lower));
    }
    assert!(matches!(
        parse("XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZT", "ethereum"),
        Err(AddressError::BadChecksum { encoding: "ICAP", .. })
    ));
    assert!(matches!(parse("XE81ETHXREGGAVOFYORK", "ethereum"), Err(AddressError::WrongLength { .. })));
    // Vectors of EIP-1191, for both of Rootstock's chains.
    for (spelling, network) in [
        ("0x3599689E6292b81B2d85451025146515070129Bb", "rsk"),
        ("0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb", "rsk"),
        ("0x27B1FdB04752BbC536007a920D24acB045561C26", "rsk-testnet"),
    ] {
        let network = Network::parse(network).unwrap();
        let lower = spelling.to_lowercase();
        let address = Address::parse(&lower, &network).unwrap();
        let checksummed = address.to_checksum_of(&network).unwrap();
        assert_eq!(Address::parse(&checksummed, &network), Ok(address.clone()));
        assert_eq!(Address::parse(&address.to_checksum().unwrap(), &network), Ok(address));
        assert!(matches!(parse(&checksummed, "ethereum"), Err(AddressError::Eip55 { .. })));
        if network.name() == "rootstock-testnet" {
            assert_eq!(checksummed, spelling);
        }
    }
    assert_eq!(parse("xdc5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "xdc").unwrap(), CHECKSUMMED.to_lowercase());
    let ronin = CHECKSUMMED.replace("0x", "ronin:");
    assert_eq!(parse(&ronin, "ronin").unwrap(), CHECKSUMMED.to_lowercase());
    assert!(parse(&ronin, "ethereum").is_err() && parse(&ronin[..ronin.len() - 1], "ronin").is_err());
}

#[test]
fn addresses_of_other_chains_have_checksums_too() {
    for (text, network) in [
        ("DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L", "dogecoin"),
        ("t1Hsc1LR8yKnbbe3twRp88p6vFfC5t7DLbs", "zcash"),
        ("rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh", "ripple"),
        ("1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i", "bitcoin-sv"),
    ] {
        let parsed = Network::parse(network).unwrap();
        let is_right = parse(text, network).is_ok();
        let changed: String = text
            .chars()
            .rev()
            .enumerate()
            .map(|(i, c)| if i == 3 { if c == '2' { '3' } else { '2' } } else { c })
            .collect();
        let changed: String = changed.chars().rev().collect();
        assert_eq!((is_right, Address::is_valid(&changed, &parsed)), (true, Some(false)), "{text} on {network}");
        assert_eq!(Address::is_valid("garbage", &parsed), Some(false));
    }
    let monero = Network::parse("monero").unwrap();
    assert_eq!(Address::is_valid("garbage", &monero), None);
    assert_eq!(Address::is_valid("two words", &monero), Some(false));
}

#[test]
fn addresses_of_unknown_format_have_one_spelling_where_their_encoding_has_no_case() {
    let upper = CHECKSUMMED.replace("aA", "Aa");
    assert_eq!(parse(&upper, "somewhere").unwrap(), CHECKSUMMED.to_lowercase());
    let cosmos = "cosmos1fl48vsnmsdzcv85q5d2q4z5ajdha8yu34mf0eh";
    assert_eq!(parse(&cosmos.to_uppercase(), "cosmos").unwrap(), cosmos);
    assert_eq!(parse("0xNotHex", "somewhere").unwrap(), "0xNotHex");
    assert_eq!(parse("CaseMatters", "somewhere").unwrap(), "CaseMatters");
    let stated = Network::with_family("somewhere", NetworkFamily::Evm).unwrap();
    assert!(Address::parse("0x12", &stated).is_err());
    assert_eq!(Address::parse(CHECKSUMMED, &stated).unwrap().as_str(), parse(CHECKSUMMED, "somewhere").unwrap());
    let coin = Network::with_family("my-coin", NetworkFamily::Bitcoin).unwrap();
    let segwit = "btg1q9pvjqz5u5sdgpatg3wn0ce438u5cyv85cky5zl";
    for text in ["1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i", "t1Hsc1LR8yKnbbe3twRp88p6vFfC5t7DLbs"] {
        assert_eq!(Address::parse(text, &coin).unwrap().as_str(), text);
    }
    assert!(Address::parse("1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62j", &coin).is_err());
    if let Ok(address) = Address::parse(segwit, &coin) {
        assert_eq!(Address::parse(&segwit.to_uppercase(), &coin), Ok(address));
    }
}

#[test]
fn the_network_of_an_address_follows_from_its_encoding() {
    for (text, network) in [
        (CHECKSUMMED, "ethereum"),
        ("TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "tron"),
        ("1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i", "bitcoin"),
        ("qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "bitcoin-cash"),
        ("So11111111111111111111111111111111111111112", "solana"),
    ] {
        assert_eq!(network_of_address(text).unwrap().name(), network, "{text}");
    }
    assert_eq!(network_of_address("garbage"), None);
    assert_eq!(network_of_address(""), None);
}

#[test]
fn long_texts_are_cut_in_messages() {
    let message = parse(&"é".repeat(128), "bitcoin").unwrap_err().to_string();
    assert!(message.len() < 500, "{message}");
    let message = parse(&"x".repeat(100_000), "bitcoin").unwrap_err().to_string();
    assert!(message.len() < 300 && message.contains("100000 bytes"), "{message}");
}

fn any_network() -> impl Strategy<Value = &'static str> {
    let names: Vec<&'static str> = Network::known().map(|(name, _)| name).chain(["eip155:77", "somewhere"]).collect();
    proptest::sample::select(names)
}

proptest! {
    #[test]
    fn no_text_panics_and_normalisation_is_idempotent(text in "\\PC{0,80}", network in any_network()) {
        if let Ok(once) = parse(&text, network) {
            prop_assert_eq!(parse(&once, network), Ok(once));
        }
    }

    #[test]
    fn no_address_like_text_panics(text in "(bc1|tb1|LTC1|tltc1|0x|1|3|T)[a-zA-Z0-9é]{0,95}", network in any_network()) {
        if let Ok(once) = parse(&text, network) {
            prop_assert_eq!(parse(&once, network), Ok(once));
        }
    }

    #[test]
    fn no_network_name_panics_and_canonical_names_are_stable(text in "\\PC{0,70}|[A-Za-z0-9:._-]{1,70}") {
        if let Ok(network) = Network::parse(&text) {
            prop_assert_eq!(Network::parse(network.name()), Ok(network));
        }
    }

    #[test]
    fn every_hash_makes_a_valid_address(hash in any::<[u8; 20]>()) {
        for (version, network) in [
            (&[0x00][..], "bitcoin"),
            (&[0x05], "bitcoin"),
            (&[0x6f], "bitcoin-testnet"),
            (&[0x30], "litecoin"),
            (&[0x41], "tron"),
            (&[0x00], "bitcoin-sv"),
            (&[0x1e], "dogecoin"),
            (&[0x16], "dogecoin"),
            (&[0x4c], "dash"),
            (&[0x26], "bitcoin-gold"),
            (&[0x1e], "verge"),
            (&[0x1c, 0xb8], "zcash"),
            (&[0x1c, 0xbd], "zcash"),
        ] {
            let text = base58::encode_checked(version, &hash);
            prop_assert_eq!(parse(&text, network), Ok(text));
        }
        for (prefix, network) in [("bc", "bitcoin"), ("tb", "bitcoin-testnet"), ("ltc", "litecoin"), ("tltc", "litecoin-testnet")] {
            let text = bech32::segwit::encode_v0(bech32::Hrp::parse(prefix).unwrap(), &hash).unwrap();
            prop_assert_eq!(parse(&text, network), Ok(text.clone()));
            prop_assert_eq!(parse(&text.to_uppercase(), network), Ok(text));
        }
        let cash = parse(&base58::encode_checked(&[0x05], &hash), "bch").unwrap();
        prop_assert!(cash.starts_with("bitcoincash:p"));
        prop_assert_eq!(parse(&cash[12..].to_uppercase(), "bch"), Ok(cash));
        let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        let checksummed = evm::to_checksum(&hex);
        prop_assert_eq!(parse(&checksummed, "ethereum"), Ok(checksummed.to_lowercase()));
    }

    #[test]
    fn one_changed_character_never_passes_base58check(hash in any::<[u8; 20]>(), position in 1_usize..30, letter in "[2-9A-HJ-NP-Za-km-z]") {
        let text = base58::encode_checked(&[0x00], &hash);
        prop_assume!(position < text.len() && text[position..=position] != letter);
        let changed = format!("{}{letter}{}", &text[..position], &text[position + 1..]);
        prop_assert!(parse(&changed, "bitcoin").is_err());
    }
}
