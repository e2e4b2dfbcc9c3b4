//! Published address vectors: each is accepted or rejected as its source states.

use arx_core::address::{Address, Network};

fn is_valid(network: &str, address: &str) -> bool {
    Network::parse(network).and_then(|network| Address::parse(address, &network)).is_ok()
}

/// The only wrong line of the file: it calls the case of this address wrong, but spells it as
/// EIP-55 does, like another line of the file. No interpretation of EIP-55 satisfies both lines;
/// the published spelling is accepted.
const MISTAKEN: &str = "ethereum\t0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\t0\twrong EIP-55 case\tmade from EIP-55";

#[test]
fn every_published_vector_is_valid_or_invalid_as_its_source_states() {
    let lines: Vec<&str> = include_str!("vectors/addresses.tsv").lines().skip(1).collect();
    assert_eq!(lines.len(), 108);
    let (mistaken, vectors): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| *line == MISTAKEN);
    assert_eq!((mistaken.len(), vectors.len()), (1, 107));
    for line in vectors {
        let fields: Vec<&str> = line.split('\t').collect();
        let [network, address, valid, reason, source] = fields[..] else { panic!("5 fields expected in {line:?}") };
        assert_eq!(is_valid(network, address), valid == "1", "{network} {address:?} ({source}: {reason})");
    }
}

#[test]
fn a_checksummed_address_with_one_letter_in_the_other_case_is_rejected() {
    let right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    assert!(is_valid("ethereum", right));
    for (index, letter) in right.char_indices().skip(2).filter(|(_, c)| c.is_ascii_alphabetic()) {
        let other = if letter.is_ascii_uppercase() { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() };
        let wrong = format!("{}{other}{}", &right[..index], &right[index + 1..]);
        assert!(!is_valid("ethereum", &wrong), "{wrong}");
    }
}

#[test]
fn real_addresses_of_litecoin_tron_and_solana_are_accepted() {
    for (network, address) in [
        ("litecoin", "MVCnsSFE23gvm1cb2BJ68cEMMGJkT7kSwT"),
        ("litecoin", "ltc1qmrf5gsptkp2xsunvxc57txjhr53w4d5003smpe"),
        ("tron", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"),
        ("tron", "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"),
        ("solana", "So11111111111111111111111111111111111111112"),
        ("solana", "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"),
        ("solana", "11111111111111111111111111111111"),
    ] {
        assert!(is_valid(network, address), "{network} {address}");
    }
}

#[test]
fn litecoin_tron_and_solana_reject_addresses_of_other_networks_and_typos() {
    for (network, address) in [
        ("litecoin", "MVCnsSFE23gvm1cb2BJ68cEMMGJkT7kSwU"),
        ("litecoin", "1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i"),
        ("litecoin", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        ("litecoin", "ltc1qmrf5gsptkp2xsunvxc57txjhr53w4d5003smpf"),
        ("litecoin-testnet", "ltc1qmrf5gsptkp2xsunvxc57txjhr53w4d5003smpe"),
        ("tron", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6T"),
        ("tron", "42a614f803b6fd780986a42c78ec9c7f77e6ded13c"),
        ("tron", "1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i"),
        ("solana", "So1111111111111111111111111111111111111111"),
        ("solana", "111111111111111111111111111111111"),
        ("solana", "So1111111111111111111111111111111111111111O"),
    ] {
        assert!(!is_valid(network, address), "{network} {address}");
    }
}
