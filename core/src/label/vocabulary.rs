//! Mapping of words of public label lists onto the built-in categories.

use super::CATEGORIES;

/// Returns the built-in category of a label that a list describes by `category` and `abuse`. Either
/// may be empty, and `category` may hold several words separated by `|`, `,` or `;`. The abuse
/// decides if one is stated: an exchange that was used for a scam is labelled for the scam. Of
/// several words the most severe wins, in the order of [`CATEGORIES`]. Case, blanks and dashes do
/// not matter. Unknown categories become `other`, unknown abuses `illicit`.
///
/// ```
/// use arx_core::label::categorize;
///
/// assert_eq!(categorize("exchange", ""), "exchange");
/// assert_eq!(categorize("user", "service_hack"), "hack");
/// assert_eq!(categorize("ofac-sanctions-lists|tornado-cash", ""), "sanctions");
/// ```
#[must_use]
pub fn categorize(category: &str, abuse: &str) -> &'static str {
    let stated = words(abuse).filter(|word| !is_placeholder(word)).collect::<Vec<_>>();
    if !stated.is_empty() {
        return most_severe(stated.iter().filter_map(|word| category_of(word))).unwrap_or("illicit");
    }
    most_severe(words(category).filter_map(|word| category_of(&word))).unwrap_or("other")
}

/// Returns the category by [`categorize`], or if that is `other`, by the text of the label:
/// sanctions lists are named there, and GraphSense's word `market` covers darknet markets and token
/// contracts, which only the market's name distinguishes.
#[must_use]
pub fn categorize_with_label(category: &str, abuse: &str, label: &str) -> &'static str {
    match categorize(category, abuse) {
        "other" => by_label(category, label),
        category => category,
    }
}

/// Names of darknet markets in public lists, in lower case without blanks.
const DARKNET_MARKETS: [&str; 20] = [
    "hydramarket",
    "alphabaymarket",
    "nucleusmarket",
    "germanplazamarket",
    "greenroadmarket",
    "agoramarket",
    "silkroadmarket",
    "silkroad2market",
    "evolutionmarket",
    "abraxasmarket",
    "middleearthmarket",
    "sheepmarket",
    "blackbankmarket",
    "blueskymarket",
    "cannabisroadmarket",
    "babylonmarket",
    "pandoraopenmarket",
    "dreammarket",
    "hansamarket",
    "wallstreetmarket",
];

fn by_label(category: &str, label: &str) -> &'static str {
    let text: String = label.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    if text.contains("ofacsanction") || text.contains("ofacsdn") {
        return "sanctions";
    }
    let is_market = words(category).any(|word| word == "market");
    if is_market && DARKNET_MARKETS.iter().any(|market| text.starts_with(market)) {
        return "darknet_market";
    }
    "other"
}

/// Splits a list into words in lower case, with `_` between their parts.
fn words(text: &str) -> impl Iterator<Item = String> {
    let split = text.split(['|', ',', ';']).map(str::trim).filter(|word| !word.is_empty());
    split.map(|word| word.chars().map(|c| if c == '-' || c == ' ' { '_' } else { c.to_ascii_lowercase() }).collect())
}

/// Matches placeholders that lists use for the absence of an abuse.
fn is_placeholder(word: &str) -> bool {
    matches!(word, "none" | "no" | "false" | "0" | "null" | "nan" | "n/a" | "_" | "unknown")
}

fn most_severe(categories: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    categories.min_by_key(|name| CATEGORIES.iter().position(|category| category.name == *name))
}

fn category_of(word: &str) -> Option<&'static str> {
    if let Some(category) = CATEGORIES.iter().find(|category| category.name == word) {
        // A list's `other` carries no information and must not win over another word.
        return (category.name != "other").then_some(category.name);
    }
    illicit_word(word).or_else(|| service_word(word)).or_else(|| neutral_word(word))
}

fn illicit_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "sanction" | "sanctioned" | "ofac" | "ofac_sanctions_lists" | "ofac_sdn" => "sanctions",
        "terrorist" | "terrorist_financing" | "terrorism_financing" => "terrorism",
        "csam" | "csae" | "child_sexual_abuse" | "child_exploitation" | "child_abuse_material" => "child_abuse",
        "ransom" => "ransomware",
        "service_hack" | "hacks" | "hacker" | "heist" | "exploit" | "theft" | "stolen" | "stolen_funds" => "hack",
        "darknet" | "darkmarket" | "dark_market" | "darknet_marketplace" | "dark_web_market" => "darknet_market",
        "extremist" => "extremism",
        "phish" | "phish_hack" | "phishing_hack" | "fake_phishing" => "phishing",
        "fraud" | "scams" | "scammer" | "investment_fraud" | "giveaway_scam" | "giveaway" | "rug_pull" | "rugpull" => {
            "scam"
        }
        "extortion" | "blackmail" => "sextortion",
        "ponzi" | "pyramid" | "pyramid_scheme" => "ponzi_scheme",
        "black_list" | "blacklist" | "blacklisted" | "frozen" => "blocked",
        "crime" | "abuse" | "money_laundering" | "malicious" => "illicit",
        _ => return None,
    })
}

fn service_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "coinjoin" | "mixing_service" | "mixing" | "mixers" | "tumbler" | "tornado_cash" | "typhoon_cash"
        | "ethereum_mixer" => "mixer",
        "casino" | "betting" | "lottery" | "fomo3d" | "etheroll" => "gambling",
        "exchanges" | "otc" | "fiat_gateway" | "hot_wallet" | "cold_wallet" => "exchange",
        _ if word.starts_with("exchange_") || word.ends_with("_exchange") => "exchange",
        // Custodial exchanges that Etherscan labels by name.
        "binance" | "huobi" | "bitfinex" | "okx" | "okex" | "kucoin" | "coinbase" | "crypto_com" | "poloniex"
        | "kraken" => "exchange",
        "bithumb" | "bitstamp" | "ftx" | "korbit" | "upbit" | "gate_io" | "gemini" | "bittrex" | "hitbtc"
        | "hotbit" => "exchange",
        "latoken" | "coinone" | "digifinex" | "bitmart" | "ascendex" | "coinbit" | "coinmetro" | "hoo_com"
        | "paribu" => "exchange",
        "deribit" | "coinsquare" | "zb_com" | "cobinhood" | "yunbi" | "bgogo" | "coinhako" | "topbtc" | "remitano" => {
            "exchange"
        }
        "hosted_wallet" | "custodial_wallet" | "wallet_services" => "wallet_service",
        "payments" | "payment" | "payment_service" | "payment_processors" | "merchant_services" => "payment_processor",
        _ => return None,
    })
}

fn neutral_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "dex" | "yield_farming" | "farming" | "lending" | "loans" | "liquidity" | "staking" | "vaults" | "bridge" => {
            "defi"
        }
        _ if word.starts_with("defi_") || word.starts_with("dex_") => "defi",
        // Protocols that Etherscan labels by name, those with the most addresses.
        "sushiswap" | "uniswap" | "pancakeswap" | "balancer" | "bancor" | "curve_fi" | "kyberswap" | "1inch"
        | "paraswap" => "defi",
        "synthetix" | "yearn_finance" | "aave" | "compound" | "maker" | "cream_finance" | "mstable" | "dydx"
        | "lido" => "defi",
        "0x_protocol"
        | "0x_protocol_ecosystem"
        | "idle_finance"
        | "set_protocol"
        | "convex_finance"
        | "airswap"
        | "loopring" => "defi",
        "rari_capital" | "alchemix_finance" | "inverse_finance" | "abracadabra_money" | "liquity" | "instadapp"
        | "idex" => "defi",
        "hop_protocol" | "across_protocol" | "multichain" | "wormhole" | "synapse" | "connext" => "defi",
        "mining" | "miners" | "mining_pool" | "validator" | "f2pool" | "miningpoolhub" | "mev_builder" => "miner",
        "proposer_fee_recipient" => "miner",
        "tokens" | "stablecoin" | "algorithmic_stablecoin" | "meme" | "ico_wallets" | "ico" | "tokenized_asset" => {
            "token"
        }
        "tokenized_equity" | "bitcoin_pegged" | "wrapped_bitcoin" => "token",
        _ if word.starts_with("token_") || word.ends_with("_token") => "token",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_names_map_to_themselves_as_category_and_as_abuse() {
        for category in CATEGORIES {
            assert_eq!(categorize(category.name, ""), category.name);
            if category.name != "other" {
                assert_eq!(categorize("", category.name), category.name);
                assert_eq!(categorize(&category.name.to_uppercase().replace('_', "-"), ""), category.name);
            }
        }
    }

    #[test]
    fn the_abuse_decides_first() {
        for (category, abuse, expected) in [
            ("", "sextortion", "sextortion"),
            ("", "service_hack", "hack"),
            ("sanctioned", "sanctions", "sanctions"),
            ("user", "sanction", "sanctions"),
            ("service", "pyramid_scheme", "ponzi_scheme"),
            ("organization", "extremism", "extremism"),
            ("", "investment_fraud", "scam"),
            ("exchange", "scam", "scam"),
            ("exchange", "something new", "illicit"),
            ("exchange", "none", "exchange"),
        ] {
            assert_eq!(categorize(category, abuse), expected, "{category:?}, {abuse:?}");
        }
    }

    #[test]
    fn categories_of_public_lists_are_mapped_by_meaning() {
        for (category, expected) in [
            ("exchange", "exchange"),
            ("miner", "miner"),
            ("mining", "miner"),
            ("coinjoin", "mixer"),
            ("mixing_service", "mixer"),
            ("gambling", "gambling"),
            ("wallet_service", "wallet_service"),
            ("payments", "payment_processor"),
            ("black_list", "blocked"),
            ("blocked", "blocked"),
            ("defi_lending", "defi"),
            ("defi_dex", "defi"),
            ("dex", "defi"),
            ("token-sale", "token"),
            ("deflationary-token", "token"),
            ("phish-hack", "phishing"),
            ("staking|yield-farming", "defi"),
            ("binance|blocked", "blocked"),
            ("donate|ofac-sanctions-lists|tornado-cash", "sanctions"),
            ("old-contract|huobi", "exchange"),
            ("other|exchange", "exchange"),
            ("market", "other"),
            ("user", "other"),
            ("take-action", "other"),
            ("unknown", "other"),
            ("", "other"),
        ] {
            assert_eq!(categorize(category, ""), expected, "{category:?}");
        }
    }

    #[test]
    fn the_label_decides_where_the_words_are_unknown() {
        let listed = "Asset listed under US Treasury OFAC Sanctions List";
        assert_eq!(categorize_with_label("user", "", listed), "sanctions");
        assert_eq!(categorize_with_label("market", "", "Hydra Market"), "darknet_market");
        assert_eq!(categorize_with_label("market", "", "SilkRoadMarketplace"), "darknet_market");
        assert_eq!(categorize_with_label("market", "", "APENFT (NFT)"), "other");
        assert_eq!(categorize_with_label("art", "", "Hydra Market"), "other");
        assert_eq!(categorize_with_label("exchange", "", "Hydra Market"), "exchange");
    }

    proptest! {
        #[test]
        fn any_words_map_to_a_built_in_category(category in "\\PC{0,40}", abuse in "\\PC{0,20}", label in "\\PC{0,40}") {
            let name = categorize_with_label(&category, &abuse, &label);
            prop_assert!(crate::label::category(name).is_some());
        }
    }
}
