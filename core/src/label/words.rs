//! The words that public label lists use for the built-in categories, as data, and the folding by
//! which words are compared.
//!
//! Sources: the sanctions lists of OFAC, the EU, the UK and the UN and the data sets of
//! OpenSanctions (with its topics and schemata); the label clouds of Etherscan and Blockscout; the
//! taxonomies of INTERPOL and GraphSense; the risk categories that vendors document (MetaSleuth,
//! Beosin, Chainalysis, Elliptic, TRM, Crystal, Aegis, Merkle Science).

use std::collections::HashMap;
use std::sync::LazyLock;

/// Words by category. Case, blanks, punctuation and the plural do not matter.
const WORDS: &[(&str, &str)] = &[
    (
        "sanctions",
        "sanction; sanctioned; sanctioned entity; sanctioned address; sanctioned jurisdiction; sanctions list; \
         ofac; ofac sdn; ofac sdn list; ofac sanctioned; ofac sanctions lists; us ofac; us ofac sdn; us ofac cons; sdn; \
         specially designated national; specially designated nationals list; sdgt; sdntk; ssi; \
         uk ofsi; ofsi; uk hmt; hmt; hm treasury; gb hmt sanctions; gb fcdo sanctions; uk sanctions; \
         eu sanctions; eu fsf; eu consolidated; eu consolidated list; eu sanctions map; \
         un; un sc; unsc; un security council; un consolidated list; un sc sanctions; un sanctions; \
         ch seco sanctions; seco; ca dfatd; au dfat; au dfat sanctions; jp mof; jp mof sanctions; \
         embargo; embargoed; blocked person; consolidated sanctions list",
    ),
    (
        "terrorism",
        "terrorist; terror; terrorist financing; terrorism financing; terror financing; terrorist organization; \
         terrorist organisation; terrorist entity; financing of terrorism; crime terror; nbctf; \
         il mod crypto; il mod terrorists",
    ),
    (
        "child_abuse",
        "csam; csae; csem; child sexual abuse; child sexual abuse material; child sexual abuse material vendor; \
         child abuse material; child exploitation; child sexual exploitation; child pornography; child porn; \
         minor exploitation",
    ),
    (
        "ransomware",
        "ransom; ransomware payment; ransomware operator; ransom extortion; crypto locker; wannacry; lockbit; conti; \
         ryuk; revil; darkside; blackcat; alphv",
    ),
    (
        "hack",
        "service hack; hacker; hacked; hacking; hacked fund; hack funds; heist; exploit; exploiter; attacker; attack; theft; thief; \
         stolen; stolen fund; stolen coin; stolen asset; stolen crypto; stolen bitcoin; cyber theft; crime theft; \
         bridge exploit; bridge hack; exchange hack; defi exploit; defi hack; protocol exploit; hack exploit; \
         hack theft; private key theft; lazarus; lazarus group",
    ),
    (
        "darknet_market",
        "darknet; darknet marketplace; darknet service; darknet vendor; darknet vendor shop; darknet shop; dark market; \
         darkmarket; dark net market; darkweb; dark web; dark web market; darkweb market; darkweb business; dark service; dark web service; \
         dnm; fraud shop; carding; carding shop; card shop; cvv shop; drug market; drug vendor; drug; narcotic; \
         drug trafficking; stolen account vendor; compromised credit card; weapons vendor; arms vendor; black market; \
         illegal market; hydra market; alphabay; silk road; genesis market; dream market; hansa market",
    ),
    ("extremism", "extremist; extremist group; extremist financing; hate group; violent extremism; far right"),
    (
        "phishing",
        "phish; phisher; phish hack; phishing hack; fake phishing; phishing scam; phishing address; phishing site; \
         phishing activity; drainer; wallet drainer; address poisoning; poisoning; poison; ice phishing; impersonation; \
         impersonator; inferno drainer; pink drainer; angel drainer",
    ),
    (
        "scam",
        "fraud; fraudulent; scammer; fraudster; investment fraud; investment scam; giveaway scam; giveaway; fake giveaway; rug pull; rug; rugpuller; \
         honeypot; honeypots; pig butchering; romance scam; crime fraud; fake token; fake project; fake exchange; fake ico; fake wallet; \
         exit scam; scam token; scam project; tech support scam; support scam; fraudulent exchange; exchange fraudulent; \
         advance fee fraud; impersonation scam; approval scam; honey pot; malicious contract",
    ),
    ("sextortion", "extortion; blackmail; extortionist; sextortion scam; cyber extortion"),
    (
        "ponzi_scheme",
        "ponzi; pyramid; pyramid scheme; high yield investment program; hyip; mlm; multi level marketing; ponzi fraud",
    ),
    (
        "blocked",
        "black list; black listed; block list; block listed; blocklisted address; deny list; deny listed; frozen; freeze; frozen asset; \
         asset frozen; asset freeze; banned; blocked by usdt; blocked by usdc; blocked address; usdt banned address; \
         usdt blacklist; usdc blacklist; tether blacklist; dark list",
    ),
    (
        "illicit",
        "crime; criminal; abuse; money laundering; money launderer; laundering; launderer; money mule; malicious; malicious address; malware; \
         illegal; illegal service; illegal activity; illicit activity; illicit actor; illicit actor org; illicit actor organization; illicit individual; \
         illicit organization; illicit service; illicit fund; cybercrime; cyber crime; cybercriminal; cryptojacking; botnet; \
         crime cyber; crime fin; crime env; crime war; crime boss; crime traffick; crime traffick drug; crime traffick human; \
         human trafficking; trafficking; forced labor; forced labour; wanted; spam; perpetrator; counterfeit; identity theft; ddos; \
         hitman; hitman service; bad actor; organized crime; organised crime; counterfeiter; murder for hire; \
         financial crime; underground banking; black gray market",
    ),
    (
        "mixer",
        "coinjoin; coin join; coin mixer; mixing service; mixing; mixer service; tumbler; tumbling service; tornado; tornado cash; typhoon cash; \
         cyclone protocol; ethereum mixer; bitcoin mixer; crypto mixer; decentralized mixer; wasabi; wasabi wallet; \
         samourai; whirlpool; joinmarket; blender; blender io; sinbad; chip mixer; helix; best mixer; bitcoin fog; \
         privacy protocol; protocol privacy; privacy pool; railgun",
    ),
    (
        "gambling",
        "gambling service; gambling site; online gambling; casino; online casino; betting; bet; sports betting; lottery; dice; \
         poker; gambling platform; unlicensed gambling; licensed gambling; fomo3d; etheroll; stake com; rollbit",
    ),
    (
        "exchange",
        "cex; dce; vasp; crypto exchange; centralized exchange; centralised exchange; cryptocurrency exchange; otc; otc desk; otc broker; \
         otc trading; fiat gateway; fiat on ramp; on ramp; off ramp; ramp; hot wallet; cold wallet; deposit wallet; \
         deposit address; exchange wallet; exchange deposit; exchange deposit address; exchange hot wallet; exchange cold wallet; \
         high risk exchange; no kyc exchange; p2p exchange; p2p exchange platform; instant exchange; swap service; broker; \
         atm; crypto atm; bitcoin atm; trading platform; \
         binance; huobi; htx; bitfinex; okx; okex; kucoin; coinbase; crypto com; poloniex; kraken; bithumb; bitstamp; ftx; korbit; \
         upbit; gate io; gemini; bittrex; hitbtc; hotbit; latoken; coinone; digifinex; bitmart; ascendex; coinbit; \
         coinmetro; hoo com; paribu; deribit; coinsquare; zb com; cobinhood; yunbi; bgogo; coinhako; topbtc; remitano; \
         bybit; mexc; bitget; garantex; cryptopia; mtgox; mt gox; btc e; localbitcoins; paxful; robinhood; bitflyer; \
         whitebit; exmo; coincheck; bitvavo; bitso; kuna",
    ),
    (
        "wallet_service",
        "hosted wallet; hosted wallet service; custodial wallet; custodial wallet service; custodian; custody; custodial; custody service; \
         wallet provider; web wallet; institutional custody",
    ),
    (
        "payment_processor",
        "psp; payment; payment service; payment service provider; payment provider; payment gateway; merchant service; merchant; \
         crypto payment; payment platform; bitpay; coinpayments; heleket; merchant processing",
    ),
    (
        "bridge",
        "cross chain bridge; token bridge; defi bridge; bridge protocol; blockchain bridge; cross chain; crosschain; bridging; \
         rollup bridge; canonical bridge; bridge contract; multichain bridge; hop protocol; across protocol; multichain; anyswap; wormhole; \
         synapse; synapse protocol; connext; stargate; stargate finance; layerzero; celer bridge; celer network; cbridge; orbiter finance; \
         polygon bridge; arbitrum bridge; optimism bridge; avalanche bridge; ronin bridge; harmony bridge; renbridge; \
         debridge; thorchain; portal bridge; allbridge; rainbow bridge; gravity bridge; zksync bridge",
    ),
    (
        "defi",
        "dex; decentralized exchange; decentralised exchange; decentralized finance; decentralised finance; yield farming; farming; yield; \
         yield aggregator; lending; loan; lending protocol; borrowing; defi lending; defi dex; defi protocol; liquidity; \
         liquidity pool; staking; staking pool; liquid staking; vault; amm; automated market maker; aggregator; \
         dex aggregator; swap; flash loan; derivative; derivatives protocol; uniswap; sushiswap; curve fi; curve finance; \
         balancer; bancor; kyber network; kyberswap; 1inch; pancakeswap; quickswap; dodo; matcha; paraswap; shapeshift; \
         synthetix; yearn finance; aave; compound; compound finance; maker; makerdao; cream finance; mstable; dydx; lido; 0x protocol; \
         0x protocol ecosystem; idle finance; set protocol; convex finance; airswap; loopring; rari capital; \
         alchemix finance; inverse finance; abracadabra money; liquity; instadapp; idex; cow protocol; rocket pool; \
         eigenlayer; pendle; gmx",
    ),
    (
        "miner",
        "mining; mining pool; mining pools; pool mining; mining service; block producer; validator; validators pool; f2pool; \
         miningpoolhub; antpool; ethermine; sparkpool; nanopool; viabtc; slush pool; foundry usa; poolin; mev builder; \
         block builder; proposer fee recipient; fee recipient; coinbase reward; staking validator; beacon depositor; relayer mev",
    ),
    (
        "token",
        "token contract; token sale; tokensale; stablecoin; stable coin; algorithmic stablecoin; meme; meme coin; memecoin; ico; \
         ico wallet; initial coin offering; presale; tokenized asset; tokenized equity; bitcoin pegged; wrapped bitcoin; \
         wrapped token; erc20; erc 20; erc20 token; erc721; erc1155; airdrop; token team; token contracts erc20; trc20",
    ),
    (
        "licit",
        "legit; legitimate; safe; whitelist; white listed; allow list; allow listed; licit service; benign; trusted; verified safe",
    ),
    (
        "other",
        "others; wallet; personal wallet; private wallet; self custody wallet; self custodial wallet; unhosted wallet; eoa; wallet app; \
         user; individual; person; organization; organisation; legal entity; company; public body; crypto wallet; cryptowallet; vessel; \
         security; asset; service; entity; business; merchant shop; nft; nft marketplace; marketplace nft; nft collection; opensea; \
         blur; nft market; marketplace; market; bot; mev bot; trading bot; arbitrage bot; sniper bot; mev; contract; smart contract; \
         contract deployer; deployer; factory contract; multisig; multi sig; gnosis safe; safe multisig; proxy contract; \
         old contract; oracle; governance; dao; treasury; team wallet; investor; fund; hedge fund; venture capital; vc; \
         institution; institutional; bank; insurance; charity; ngo; non profit; donation; donate; faucet; social; social network; \
         social networking; gaming; game; metaverse; gamefi; hosting; hosting service; vpn; cloud; infrastructure; \
         infrastructure as a service; domain; ens; ethereum name service; shop; store; e commerce; ecommerce; messaging service; \
         file sharing; filesharing; search engine; index; media; entertainment; iot; identity; healthcare; real estate; \
         supply chain; energy sector; seized fund; seized asset; law enforcement; government; us government; burn; burn address; \
         null address; genesis; dust; blockchain; protocol; finance; trading; investment; website down; mainnet launched; data; \
         currency; services solution; layer 2; layer2; l2; rollup; sidechain; gas station; public figure; influencer; \
         celebrity; developer; role pep; role pol; role rca; role judge; role civil; role diplo; role lawyer; role acct; role spy; \
         role oligarch; role journo; role act; role lobby; pep; gov; gov national; gov state; gov muni; gov soe; gov igo; \
         gov admin; mil; pol party; pol union; rel; fin; fin bank; fin fund; fin advisor; corp public; corp offshore; corp shell; poi; \
         collectible; art; music; sports; education; charity donation; mixed service; known address; labelled; label; \
         shiba inu; ethereum foundation; software; analytics",
    ),
];

/// Stems of tokens that state an abuse within a longer word, such as `UK sanctions list`. Services
/// have none: `exchange` in a longer word need not make the address one.
const STEMS: &[(&str, &[&str])] = &[
    ("sanctions", &["sanction", "ofac", "ofsi", "sdn"]),
    ("terrorism", &["terror"]),
    ("child_abuse", &["csam", "csae", "csem", "pedophil", "paedophil"]),
    ("ransomware", &["ransom"]),
    ("hack", &["hack", "heist", "stolen", "exploiter", "attacker"]),
    ("darknet_market", &["darknet", "darkweb"]),
    ("extremism", &["extremis"]),
    ("phishing", &["phish", "drainer"]),
    ("scam", &["scam", "fraud", "rugpull", "honeypot"]),
    ("sextortion", &["sextort", "extort", "blackmail"]),
    ("ponzi_scheme", &["ponzi", "hyip"]),
];

/// Tokens that deny or weaken what stands next to them. A longer word with one of them is unknown
/// unless it is listed.
const DENIALS: &[&str] = &[
    "non",
    "not",
    "no",
    "un",
    "anti",
    "ex",
    "former",
    "formerly",
    "delisted",
    "delist",
    "lifted",
    "removed",
    "revoked",
    "expired",
    "cleared",
    "false",
    "victim",
    "counter",
    "linked",
    "exposure",
    "reporter",
    "reported",
    "donation",
    "defender",
    "recovery",
    "recovered",
    "whitehat",
    "whitelist",
    "white",
    "ethical",
    "unsanctioned",
    "suspected",
    "possible",
    "potential",
    "indirect",
    "related",
    "test",
];

/// Tokens that do not change the meaning of the rest of a word.
const MODIFIERS: &[&str] = &[
    "crypto",
    "cryptocurrency",
    "bitcoin",
    "ethereum",
    "digital",
    "virtual",
    "online",
    "web3",
    "the",
    "a",
    "of",
    "and",
    "service",
    "platform",
    "provider",
    "protocol",
    "operator",
    "website",
    "site",
    "address",
    "wallet",
    "contract",
    "activity",
    "entity",
    "category",
    "type",
    "account",
    "cluster",
    "high",
    "low",
    "medium",
    "risk",
    "risky",
    "severe",
    "critical",
    "licensed",
    "unlicensed",
    "regulated",
    "unregulated",
    "centralized",
    "centralised",
    "global",
    "router",
    "deposit",
    "hot",
    "cold",
    "withdrawal",
];

static TABLE: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let names = WORDS.iter().map(|(category, _)| (fold(category), *category));
    let words = WORDS.iter().flat_map(|(category, words)| words.split(';').map(|word| (fold(word), *category)));
    words.chain(names).collect()
});

/// Returns the spelling by which words are compared: lower case, without blanks and punctuation,
/// each part in the singular. `Tornado.Cash` becomes `tornadocash`, `Stolen Funds` and
/// `stolen_fund` become `stolenfund`.
#[must_use]
pub fn fold(word: &str) -> String {
    tokens(word).concat()
}

/// Splits a word at blanks, punctuation and where a capital follows a small letter.
fn tokens(word: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut previous = ' ';
    for c in word.chars() {
        if c.is_alphanumeric() {
            let begins = !previous.is_alphanumeric() || (previous.is_lowercase() && c.is_uppercase());
            if begins {
                tokens.push(String::new());
            }
            if let Some(token) = tokens.last_mut() {
                token.extend(c.to_lowercase());
            }
        }
        previous = c;
    }
    tokens.into_iter().map(singular).collect()
}

/// Removes the ending of an English plural.
fn singular(mut token: String) -> String {
    if token.len() > 4 && token.ends_with("ies") {
        token.truncate(token.len() - 3);
        token.push('y');
    } else if token.len() > 3 && token.ends_with('s') && !token.ends_with("ss") {
        token.pop();
    }
    token
}

/// Returns the built-in category that a word stands for; `None` if ARX does not know the word.
///
/// ```
/// use arx_core::label::category_of_word;
///
/// assert_eq!(category_of_word("Tornado.Cash"), Some("mixer"));
/// assert_eq!(category_of_word("uk-ofsi"), Some("sanctions"));
/// assert_eq!(category_of_word("sanctions lifted"), None);
/// assert_eq!(category_of_word("frobnicated"), None);
/// ```
#[must_use]
pub fn category_of_word(word: &str) -> Option<&'static str> {
    let tokens = tokens(word);
    if let Some(category) = TABLE.get(&tokens.concat()) {
        return Some(category);
    }
    let is_listed = |list: &[&str], token: &String| list.iter().any(|listed| singular((*listed).to_owned()) == *token);
    if tokens.iter().any(|token| is_listed(DENIALS, token)) {
        return None;
    }
    let stem =
        STEMS.iter().find(|(_, stems)| tokens.iter().any(|token| stems.iter().any(|stem| token.starts_with(stem))));
    if let Some((category, _)) = stem {
        return Some(category);
    }
    if is_child_abuse(&tokens) {
        return Some("child_abuse");
    }
    let rest: Vec<&str> = tokens.iter().filter(|token| !is_listed(MODIFIERS, token)).map(String::as_str).collect();
    if rest.is_empty() || rest.len() == tokens.len() { None } else { TABLE.get(&rest.concat()).copied() }
}

/// Matches `child abuse material` and the like in any order.
fn is_child_abuse(tokens: &[String]) -> bool {
    let any = |stems: &[&str]| tokens.iter().any(|token| stems.iter().any(|stem| token.starts_with(stem)));
    any(&["child", "minor", "underage"]) && any(&["abus", "exploit", "porn", "sex"])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::label::CATEGORIES;

    #[test]
    fn no_word_stands_for_two_categories_and_every_category_has_words() {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for (category, words) in WORDS {
            assert!(crate::label::category(category).is_some(), "{category}");
            for word in words.split(';').chain([*category]) {
                let other = seen.insert(fold(word), category);
                assert!(other.is_none_or(|other| other == *category), "{word:?} is in {category} and in {other:?}");
            }
        }
        for category in CATEGORIES.iter().filter(|category| category.name != crate::label::UNKNOWN) {
            assert!(WORDS.iter().any(|(name, _)| *name == category.name), "{} has no words", category.name);
        }
        assert!(STEMS.iter().all(|(category, _)| crate::label::category(category).is_some()));
    }

    #[test]
    fn case_blanks_punctuation_and_plural_do_not_matter() {
        for (word, other) in [
            ("Tornado.Cash", "tornado-cash"),
            ("Phish / Hack", "phish_hack"),
            ("STOLEN FUNDS", "stolen-fund"),
            ("darknetMarket", "Darknet  Markets"),
            ("Hedge Funds", "hedge fund"),
            ("currencies", "Currency"),
        ] {
            assert_eq!(fold(word), fold(other));
            assert_eq!(category_of_word(word), category_of_word(other));
        }
        assert_ne!(fold("us"), fold("u"));
        assert_ne!(fold("business"), fold("busines"));
    }

    #[test]
    fn words_of_official_lists_and_vendors_are_known() {
        for (expected, words) in [
            (
                "sanctions",
                "OFAC|us-ofac-sdn|UK OFSI|EU-Sanctions|eu_fsf|UN_SC_Sanctions|OFAC SANCTIONED|Sanctioned Entities",
            ),
            (
                "sanctions",
                "gb_hmt_sanctions|Swiss SECO sanctions programme|Office sanctions list of 2024|sanctionsList",
            ),
            ("terrorism", "Terrorism Financing|terrorist-organisation|crime.terror"),
            ("child_abuse", "CSAM|Child Abuse Material (CAM)|child-sexual-abuse"),
            ("darknet_market", "DARKWEB BUSINESS|Dark Market|Fraud Shop|darknet market vendor|Darknet-Vendor-Shops"),
            ("hack", "ATTACKER|Stolen Funds|service_hack|Heist|Ronin Bridge Exploiter|EXPLOIT|crime.theft"),
            ("phishing", "Phish / Hack|Fake_Phishing|Wallet Drainers|phishing-activity"),
            ("scam", "RUG PULL|rugpull|Investment Frauds|crime.fraud|Honeypot|Fraudulent Exchange"),
            ("blocked", "Blacklisted|black_list|asset.frozen|USDT Banned Address|Blocked by USDT"),
            ("illicit", "Illicit Actor-Org|ILLICIT ORGANIZATION|Money Laundering|crime.cyber|Malware"),
            ("mixer", "Coin Mixers|Mixing Service|CoinJoin|Protocol Privacy|crypto mixer service"),
            ("exchange", "CEX|Centralized Exchanges|high-risk exchange|No KYC Exchange|Exchange: hot wallet"),
            ("payment_processor", "PSP|Merchant Services|payment gateway"),
            ("bridge", "Bridge|cross-chain bridges|defi_bridge|Wormhole"),
            ("defi", "DEX|Decentralized Exchange|defi_lending|yield-farming|Lending Protocols"),
            ("miner", "Mining Pool|miners|validators"),
            ("other", "wallet|nft_marketplace|Trading Bot|role.pep|CryptoWallet"),
        ] {
            for word in words.split('|') {
                assert_eq!(category_of_word(word), Some(expected), "{word:?}");
            }
        }
    }

    #[test]
    fn words_that_deny_are_unknown() {
        for word in [
            "sanctions lifted",
            "non-sanctioned",
            "sanction.linked",
            "sanction.counter",
            "hack victim",
            "anti-phishing",
        ] {
            assert_eq!(category_of_word(word), None, "{word:?}");
        }
        for word in ["", "  ", "frobnicated", "service of the", "exchange user group chat"] {
            assert_ne!(category_of_word(word), Some("exchange"), "{word:?}");
        }
    }
}
