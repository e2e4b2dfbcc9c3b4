use std::io::BufReader;

use super::*;

const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";
const BOB: &str = "0x6b75d8af000000e20b7a7ddf000ba900b4009a80";
const TRON: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
const BITCOIN: &str = "1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i";

/// The content of a list, in memory.
struct Collected {
    resolver: Resolver,
    /// Network, address, category, label, source, confidence in thousandths, dates.
    rows: Vec<String>,
    faults: Vec<String>,
    skipped: Vec<&'static str>,
    unused: Vec<String>,
}

impl Sink for Collected {
    fn record(&mut self, record: Record<'_>) -> Result<(), ImportError> {
        let rows = &mut self.rows;
        let outcome = self.resolver.row(&record, |row| {
            let day = |time: Option<i64>| {
                let time = time.and_then(|time| DateTime::from_timestamp(time, 0));
                time.map_or_else(|| "-".to_owned(), |time| time.format("%Y-%m-%d").to_string())
            };
            let thousandths = row.confidence / 1_000_000_000_000_000;
            rows.push(format!(
                "{} {} {} {:?} {} {thousandths} {} {}",
                row.network,
                row.address,
                row.category,
                row.label,
                row.source,
                day(row.valid_from),
                day(row.valid_to)
            ));
        });
        if let Err(fault) = outcome {
            self.faults.push(format!("{}: {fault}", record.number));
        }
        Ok(())
    }

    fn malformed(&mut self, number: u64, _: &dyn Display, fault: RecordError) -> Result<(), ImportError> {
        self.faults.push(format!("{number}: {fault}"));
        Ok(())
    }

    fn skip(&mut self, kind: &'static str) {
        self.skipped.push(kind);
    }

    fn unused(&mut self, column: &str) {
        self.unused.push(column.to_owned());
    }

    fn default_source(&mut self, source: &str) {
        self.resolver.default_source(source);
    }

    fn is_address(&self, text: &str) -> bool {
        self.resolver.is_address(text)
    }

    fn is_stated(&self) -> bool {
        self.resolver.has_network()
    }
}

fn facts() -> Facts {
    let mut facts = Facts::shipped(&Network::parse("ethereum").unwrap());
    for (name, _) in Network::known() {
        facts.networks.insert(name.to_owned(), Network::parse(name).unwrap());
    }
    facts
}

fn collected(defaults: Defaults, text: &str) -> (Collected, Result<(), ImportError>) {
    let resolver = Resolver::new(facts(), defaults, "l").unwrap();
    let mut sink = Collected { resolver, rows: vec![], faults: vec![], skipped: vec![], unused: vec![] };
    let content = Box::new(BufReader::new(std::io::Cursor::new(text.as_bytes().to_vec())));
    let ended = formats::read(Reading { file: "l", content, columns: &[] }, None, &mut sink);
    (sink, ended)
}

/// Reads a list that has no faults.
fn rows(defaults: Defaults, text: &str) -> Vec<String> {
    let (sink, ended) = collected(defaults, text);
    ended.unwrap();
    assert_eq!(sink.faults, Vec::<String>::new());
    sink.rows
}

fn stated(network: &str) -> Defaults {
    let own = |text: &str| Some(text.to_owned());
    Defaults { network: own(network), category: own("scam"), source: own("s"), ..Defaults::default() }
}

#[test]
fn a_csv_has_its_columns_in_any_order_and_under_any_common_name() {
    let text = format!(
        "\u{feff}Listed On;Source;Wallet Address;Chain;Category;Nametag;Score;Valid To\n\
         2021-04-15;x;{ALICE};ETH;UK OFSI;\"A; B\";3;2025-03-21\n"
    );
    let expected = format!("ethereum {ALICE} sanctions \"A; B\" x 1000 2021-04-15 2025-03-21");
    let (sink, ended) = collected(Defaults::default(), &text);
    ended.unwrap();
    assert_eq!((sink.rows, sink.unused), (vec![expected], vec!["Score".to_owned()]));
}

#[test]
fn every_common_form_of_json_is_read() {
    let row = |address: &str, label: &str| format!("ethereum {address} scam {label:?} s 1000 - -");
    for text in [
        format!("[\"{ALICE}\", \"{}\"]", BOB.to_uppercase().replace('X', "x")),
        format!("[{{\"address\": \"{ALICE}\"}}, {{\"address\": \"{BOB}\", \"comment\": null}}]"),
        format!("{{\"address\": \"{ALICE}\"}}\n{{\"address\": \"{BOB}\"}}\n"),
        format!("{{\"addresses\": [\"{ALICE}\", \"{BOB}\"], \"version\": 3}}"),
        format!("{{\"data\": {{\"results\": [{{\"wallet\": \"{ALICE}\"}}, {{\"wallet\": \"{BOB}\"}}]}}}}"),
        format!("{{\"{ALICE}\": null, \"{BOB}\": {{}}}}"),
        format!("[{{\"addresses\": [\"{ALICE}\", \"{BOB}\"]}}]"),
    ] {
        assert_eq!(rows(stated("ethereum"), &text), [row(ALICE, ""), row(BOB, "")], "{text}");
    }
    let named = format!("{{\"fake-shop.example\": [\"{ALICE}\"], \"{BOB}\": \"Fake_Phishing1\"}}");
    let mut found = rows(stated("ethereum"), &named);
    found.sort();
    assert_eq!(found, [row(BOB, "Fake_Phishing1"), row(ALICE, "fake-shop.example")]);
    let labels = format!("{{\"{ALICE}\": {{\"name\": \"Binance 14\", \"labels\": [\"binance\", \"exchange\"]}}}}");
    assert_eq!(rows(stated("eth"), &labels), [format!("ethereum {ALICE} exchange \"Binance 14\" s 1000 - -")]);
    let chain =
        format!("[{{\"address\": \"{ALICE}\", \"chainId\": 56, \"label\": \"phish-hack\", \"nameTag\": \"F\"}}]");
    assert_eq!(rows(stated("eth"), &chain), [format!("bsc {ALICE} phishing \"F\" s 1000 - -")]);
    for (text, message) in [("[1, 2]", None), ("[\"0x", Some("invalid JSON")), ("{\"a\": [", Some("invalid JSON"))] {
        let (sink, ended) = collected(stated("eth"), text);
        let shown = ended.err().map(|error| error.to_string());
        assert_eq!(shown.is_some(), message.is_some(), "{text}: {shown:?}");
        assert!(message.is_none_or(|message| shown.unwrap().contains(message)), "{text}");
        assert_eq!(sink.rows.len(), 0);
    }
}

#[test]
fn an_entity_of_opensanctions_is_its_wallets() {
    let text = format!(
        "{{\"id\": \"w\", \"schema\": \"CryptoWallet\", \"caption\": \"W\", \"datasets\": [\"us_ofac_sdn\"], \"properties\": \
         {{\"publicKey\": [\"{BITCOIN}\"], \"currency\": [\"XBT\"], \"topics\": [\"sanction\"]}}}}\n\
         {{\"id\": \"p\", \"schema\": \"Person\", \"datasets\": [\"d\"], \"properties\": {{\"name\": [\"P\"], \"topics\": [\"crime.fraud\"], \
         \"cryptoWallets\": [{{\"schema\": \"CryptoWallet\", \"properties\": {{\"publicKey\": [\"{TRON}\"], \"currency\": [\"USDT\"]}}}}]}}}}\n\
         {{\"id\": \"q\", \"schema\": \"Person\", \"properties\": {{}}}}\n"
    );
    let (sink, ended) = collected(Defaults::default(), &text);
    ended.unwrap();
    let expected = [
        format!("bitcoin {BITCOIN} sanctions \"W\" us_ofac_sdn 1000 - -"),
        format!("tron {TRON} scam \"P\" d 1000 - -"),
    ];
    assert_eq!((sink.rows.as_slice(), sink.skipped.len(), sink.faults.len()), (expected.as_slice(), 1, 0));
}

#[test]
fn the_tags_of_a_pack_inherit_its_fields() {
    let text = format!(
        "title: T\ncreator: c\nsource: https://example.org/x\nlabel: L\ncategory: user\nabuse: scam\ncurrency: BTC\nconfidence: web_crawl\n\
         lastmod: 2022-04-14\ntags:\n  - address: {BITCOIN}\n  - address: {ALICE}\n    currency: ETH\n    label: M\n    abuse: null\n\
         \x20   category: organization\n    concepts: [mixing_service]\n    confidence: 0.25\n"
    );
    let (sink, ended) = collected(Defaults::default(), &text);
    ended.unwrap();
    let expected = [
        format!("bitcoin {BITCOIN} scam \"L\" https://example.org/x 200 - -"),
        format!("ethereum {ALICE} scam \"M\" https://example.org/x 250 - -"),
    ];
    assert_eq!((sink.rows, sink.faults), (expected.to_vec(), vec![]));
    assert_eq!(sink.unused, ["title", "creator", "lastmod"]);
    let bomb =
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\ntags: [*c,*c]\n";
    let (_, ended) = collected(Defaults::default(), bomb);
    assert!(ended.unwrap_err().to_string().contains("is not a tag pack"));
}

#[test]
fn the_files_of_ofac_are_read_in_all_three_forms() {
    let simple = format!(
        "<?xml version=\"1.0\"?><sdnList xmlns=\"u\"><sdnEntry><uid>1</uid><firstName>A</firstName><lastName>B &amp; C</lastName>\
         <akaList><aka><lastName>X</lastName></aka></akaList><idList><id><uid>2</uid><idType>Digital Currency Address - XBT</idType>\
         <idNumber>{BITCOIN}</idNumber></id><id><idType>Passport</idType><idNumber>9</idNumber></id>\
         <id><idType>Digital Currency Address - USDT</idType><idNumber>{TRON}</idNumber></id></idList></sdnEntry>\
         <sdnEntry><uid>3</uid><lastName>D</lastName></sdnEntry></sdnList>"
    );
    let advanced = format!(
        "<Sanctions xmlns=\"u\"><ReferenceValueSets><FeatureTypeValues><FeatureType ID=\"344\">Digital Currency Address - XBT</FeatureType>\
         <FeatureType ID=\"8\">Birthdate</FeatureType><FeatureType ID=\"9\">Digital Currency Address - USDT</FeatureType></FeatureTypeValues></ReferenceValueSets>\
         <DistinctParties><DistinctParty FixedRef=\"1\"><Profile ID=\"7\"><Identity><Alias Primary=\"false\"><DocumentedName><DocumentedNamePart>\
         <NamePartValue>Z</NamePartValue></DocumentedNamePart></DocumentedName></Alias><Alias Primary=\"true\"><DocumentedName><DocumentedNamePart>\
         <NamePartValue>A</NamePartValue></DocumentedNamePart><DocumentedNamePart><NamePartValue>B &amp; C</NamePartValue></DocumentedNamePart></DocumentedName></Alias></Identity>\
         <Feature ID=\"1\" FeatureTypeID=\"344\"><FeatureVersion><VersionDetail DetailTypeID=\"1432\">{BITCOIN}</VersionDetail></FeatureVersion></Feature>\
         <Feature ID=\"2\" FeatureTypeID=\"8\"><FeatureVersion><VersionDetail>1970</VersionDetail></FeatureVersion></Feature>\
         <Feature ID=\"3\" FeatureTypeID=\"9\"><FeatureVersion><VersionDetail>{TRON}</VersionDetail></FeatureVersion></Feature></Profile></DistinctParty>\
         <DistinctParty FixedRef=\"2\"><Profile ID=\"8\"/></DistinctParty></DistinctParties>\
         <SanctionsEntries><SanctionsEntry ID=\"1\" ProfileID=\"7\"><EntryEvent><Date><Year>2018</Year><Month>11</Month><Day>8</Day></Date></EntryEvent></SanctionsEntry></SanctionsEntries></Sanctions>"
    );
    let csv = format!(
        "1,\"A B & C\",\"individual\",\"CYBER2\",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,\"DOB 1970; Digital Currency Address - XBT {BITCOIN}; \
         alt. Digital Currency Address - USDT {TRON}; Linked To: D.\"\n3,\"D\",-0- ,\"CUBA\",-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- ,-0- \n"
    );
    for (text, from) in [(simple.as_str(), "-"), (&advanced, "2018-11-08"), (&csv, "-")] {
        let (sink, ended) = collected(Defaults::default(), text);
        ended.unwrap();
        let expected = [
            format!("bitcoin {BITCOIN} sanctions \"A B & C\" OFAC SDN 1000 {from} -"),
            format!("tron {TRON} sanctions \"A B & C\" OFAC SDN 1000 {from} -"),
        ];
        assert_eq!((sink.rows, sink.faults), (expected.to_vec(), vec![]), "{text}");
        assert_eq!(sink.skipped, ["entry without an address"]);
    }
    let (_, ended) = collected(Defaults::default(), &simple[..simple.len() - 30]);
    assert!(ended.unwrap_err().to_string().contains("invalid XML"));
    let (_, ended) = collected(Defaults::default(), "<html></html>");
    assert!(ended.unwrap_err().to_string().contains("no entries"));
}

#[test]
fn a_plain_list_has_one_address_a_line() {
    let text = format!("# sanctioned\n{ALICE}\n\n  {BOB}\n// end\n");
    let (sink, ended) = collected(stated("ethereum"), &text);
    ended.unwrap();
    assert_eq!((sink.rows.len(), sink.faults.len(), sink.skipped), (2, 0, vec!["comment", "comment"]));
    let (_, ended) = collected(stated("ethereum"), &format!("{ALICE} bad\n"));
    assert!(ended.unwrap_err().to_string().contains("no column for addresses"));
    let (_, ended) = collected(Defaults::default(), " \n");
    assert!(matches!(ended, Err(ImportError::Empty { .. })));
}

#[test]
fn the_symbol_of_a_token_is_no_network_and_the_address_decides() {
    let header = "network,address,category,source\n";
    let text = format!(
        "{header}XBT,{TRON},sanctions,o\nETH,{},sanctions,o\nUSDT,{TRON},sanctions,o\nUSDT,{ALICE},sanctions,o\nquux,{ALICE},sanctions,o\nUSDC,nonsense,sanctions,o\n",
        &ALICE[..41]
    );
    let (sink, ended) = collected(Defaults::default(), &text);
    ended.unwrap();
    assert_eq!(sink.rows.len(), 2);
    for (fault, part) in sink.faults.iter().zip(["2: ", "3: ", "6: network \"quux\"", "7: address \"nonsense\""]) {
        assert!(fault.starts_with(part), "{fault}");
    }
    let by_address: Vec<_> = sink.resolver.notes.networks_by_address.keys().map(String::as_str).collect();
    assert_eq!(by_address, ["USDT: ethereum", "USDT: tron"]);
    let defaults = Defaults {
        network_by_address: true,
        networks: vec![("Quux".to_owned(), "polygon".to_owned())],
        ..Defaults::default()
    };
    let (sink, _) = collected(defaults, &text);
    assert_eq!((sink.rows.len(), sink.faults.len()), (4, 2), "{:?}", sink.faults);
    assert!(sink.rows[0].starts_with("tron ") && sink.rows[3].starts_with("polygon "), "{:?}", sink.rows);
}

#[test]
fn words_dates_and_confidences_that_are_not_understood_are_reported() {
    let header = "network,address,category,abuse,label,source,confidence,valid_from,valid_to,severity\n";
    let text = format!(
        "{header}eth,{ALICE},quux,,,s,50%,2020-01-02 03:04:05,,\neth,{ALICE},quux|exchange,,,s,ownership,1577934245,,HIGH\n\
         eth,{ALICE},,,,s,0.5,01/02/2020,,\neth,{ALICE},,,,s,7,,,\neth,{ALICE},,,,s,0.5,2021-01-01,2021-01-01,\neth,{ALICE},,,,s,0.5,,,dire\n\
         eth,{ALICE},,,,,1,,,\n"
    );
    let (sink, ended) = collected(Defaults::default(), &text);
    ended.unwrap();
    assert_eq!(
        sink.rows,
        [
            format!("ethereum {ALICE} unknown \"\" s 500 2020-01-02 -"),
            format!("ethereum {ALICE} exchange \"\" s 1000 2020-01-02 -")
        ]
    );
    for (fault, part) in
        sink.faults.iter().zip(["valid_from", "confidence", "valid_from is not before", "severity", "no source"])
    {
        assert!(fault.contains(part), "{fault}");
    }
    assert_eq!(sink.faults.len(), 5);
    assert_eq!(sink.resolver.notes.unknown_words["quux"], 2);
    let mapped = Defaults { words: vec![("QUUX".to_owned(), "mixer".to_owned())], ..Defaults::default() };
    let (sink, _) = collected(mapped, &text);
    assert!(sink.rows[0].contains(" mixer "), "{:?}", sink.rows);
    let wrong = Defaults { words: vec![("quux".to_owned(), "no such".to_owned())], ..Defaults::default() };
    assert!(Resolver::new(facts(), wrong, "l").is_err_and(|error| error.to_string().contains("no such")));
}

#[test]
fn remarks_of_sanctions_lists_give_addresses_that_are_certain_and_faults_for_the_others() {
    let uk = format!(
        "Last Updated,01/02/2025\nName 6,name 1,Other Information,Group Type,OFSI Group ID\n\
         DOE,Jane,\"Digital Currency Address - XBT {BITCOIN}; alt. {TRON}\",Individual,1\n\
         ROE,,Uses {ALICE}.,Individual,2\nPOE,,Trades in virtual currency,Individual,3\nLOE,,,Entity,4\n"
    );
    let list = |text: &str, defaults: Defaults| {
        let (sink, ended) = collected(defaults, text);
        ended.unwrap();
        (sink.rows, sink.faults, sink.skipped)
    };
    let row = |network: &str, address: &str, name: &str| {
        format!("{network} {address} sanctions {name:?} UK sanctions list 1000 - -")
    };
    let (rows, faults, skipped) = list(&uk, Defaults::default());
    assert_eq!(rows[0], row("bitcoin", BITCOIN, "DOE"));
    assert_eq!(rows[1..], [row("tron", TRON, "DOE")]);
    assert!(faults.len() == 1 && faults[0].contains(ALICE) && faults[0].contains("without its network"), "{faults:?}");
    assert_eq!(skipped, ["entry that speaks of a currency, without an address", "entry without an address"]);

    let ethereum = Defaults { network: Some("ethereum".to_owned()), ..Defaults::default() };
    let (rows, ..) = list(&uk, ethereum);
    assert!(rows.contains(&row("ethereum", ALICE, "ROE")), "{rows:?}");

    let un = format!(
        "<?xml version=\"1.0\"?><CONSOLIDATED_LIST><INDIVIDUALS><INDIVIDUAL><FIRST_NAME>JOHN</FIRST_NAME>\
         <COMMENTS1>Bitcoin address: {BITCOIN}. Review.</COMMENTS1></INDIVIDUAL></INDIVIDUALS></CONSOLIDATED_LIST>"
    );
    let (rows, faults, _) = list(&un, Defaults::default());
    let source = "UN Security Council";
    assert_eq!(rows, [format!("bitcoin {BITCOIN} sanctions \"JOHN\" {source} 1000 - -")], "{faults:?}");
    let eu = format!(
        "<export><sanctionEntity><remark>ETH: {ALICE}</remark><nameAlias wholeName=\"A &amp; B\"/></sanctionEntity></export>"
    );
    let (rows, faults, _) = list(&eu, Defaults::default());
    let source = "EU consolidated list";
    assert_eq!(rows, [format!("ethereum {ALICE} sanctions \"A & B\" {source} 1000 - -")], "{faults:?}");
    let (_, ended) = collected(Defaults::default(), "<CONSOLIDATED_LIST><INDIVIDUAL>");
    assert!(ended.unwrap_err().to_string().contains("ends in the middle"));
}

#[test]
fn networks_are_named_as_people_write_them() {
    let list = format!(
        "currency,address,category,source\nBNB,{ALICE},scam,x\nArbitrum One,{ALICE},scam,x\nERC-20,{ALICE},scam,x\n\
         Polygon PoS, {BOB}\u{a0},scam,x\nBNB,{BITCOIN},scam,x\nSome Chain,{BOB},scam,x\n"
    );
    let (sink, ended) = collected(Defaults::default(), &list);
    ended.unwrap();
    let row = |network: &str, address: &str| format!("{network} {address} scam \"\" x 1000 - -");
    let expected = [row("bsc", ALICE), row("arbitrum", ALICE), row("ethereum", ALICE), row("polygon", BOB)];
    assert_eq!(sink.rows[..4], expected, "{:?}", sink.faults);
    // A symbol that is a token of several networks follows the address.
    assert_eq!(sink.rows[4..], [row("bitcoin", BITCOIN)]);
    assert!(sink.faults.len() == 1 && sink.faults[0].contains("'Some Chain=NETWORK'"), "{:?}", sink.faults);
}

#[test]
fn addresses_by_network_and_comments_behind_addresses_are_read() {
    let list = format!(
        r#"[{{"id": 7, "name": "Fake shop", "category": "Scam", "addresses": {{"ETH": ["{ALICE}"], "BTC": ["{BITCOIN}"]}}}}]"#
    );
    let stated = Defaults { source: Some("x".to_owned()), ..Defaults::default() };
    let (sink, ended) = collected(stated, &list);
    ended.unwrap();
    let row = |network: &str, address: &str| format!("{network} {address} scam \"Fake shop\" x 1000 - -");
    let mut rows = sink.rows.clone();
    rows.sort_unstable();
    assert_eq!(rows, [row("bitcoin", BITCOIN), row("ethereum", ALICE)], "{:?}", sink.faults);
    assert_eq!(sink.unused, ["id"]);
    let plain = format!("# of mine\n{ALICE} # first\n{BOB}\t# second\n");
    let stated = Defaults {
        network: Some("ethereum".to_owned()),
        category: Some("scam".to_owned()),
        source: Some("x".to_owned()),
        ..Defaults::default()
    };
    let (sink, ended) = collected(stated, &plain);
    ended.unwrap();
    let row = |address: &str| format!("ethereum {address} scam \"\" x 1000 - -");
    assert_eq!(sink.rows, [row(ALICE), row(BOB)], "{:?}", sink.faults);
}
