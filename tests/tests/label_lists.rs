//! Label lists of others into PostgreSQL: their words keep their meaning, an address has one
//! spelling, and the next edition of a list ends what is gone from it.

use std::process::Stdio;

use arx_stack::{Database, Stack, programs};
use serde_json::Value;
use tempfile::TempDir;

struct Desk<'a> {
    database: Database<'a>,
    folder: TempDir,
}

struct Outcome {
    code: i32,
    report: Value,
    error: String,
}

impl Outcome {
    /// Imported, re-opened, updated, unchanged, closed, and rejected records.
    fn counts(&self) -> [u64; 6] {
        let count = |name: &str| self.report[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", self.error));
        let rejected = self.report["rejected"].as_object().into_iter().flatten();
        let rejected = rejected.map(|(_, count)| count.as_u64().unwrap()).sum();
        [count("imported"), count("reopened"), count("updated"), count("unchanged"), count("closed"), rejected]
    }
}

impl Desk<'_> {
    fn new(name: &str) -> Desk<'static> {
        Desk { database: Stack::shared().unwrap().database(name).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    /// Writes a list and imports it.
    fn import(&self, name: &str, content: &str, options: &[&str]) -> Outcome {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self.run(&[&["labels", name, "--json"], options].concat())
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.database.sidecar().unwrap();
        command.arg("import").args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Outcome {
            code: output.status.code().unwrap(),
            report: text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn query(&self, sql: &str) -> String {
        self.database.query(sql).unwrap()
    }
}

fn wallet(number: u64) -> String {
    format!("0x{number:040x}")
}

const HEADER: &str = "network,address,category,abuse,label,source,valid_from,valid_to\n";

#[test]
fn the_next_edition_of_a_list_ends_what_is_gone_from_it() {
    let desk = Desk::new("label_editions");
    let line =
        |number: u64, from: &str| format!("ethereum,{},OFAC SDN,,Made-up {number},a list,{from},\n", wallet(number));
    let full = |edition| ["--full-list", "--edition", edition];
    let first = format!("{HEADER}{}{}", line(1, "2021-04-15"), line(2, ""));
    assert_eq!(desk.import("first", &first, &full("2022-08-08")).counts(), [2, 0, 0, 0, 0, 0]);
    assert_eq!(desk.import("first", &first, &full("2022-09-01")).counts(), [0, 0, 0, 2, 0, 0], "again");
    desk.query(&format!(
        "INSERT INTO arx.address_labels (network, address, category, severity, source)
         VALUES ('ethereum', '{}', 'scam', 'high', 'another list')",
        wallet(9)
    ));
    let second = format!("{HEADER}{}{}", line(2, ""), line(3, ""));
    let check = desk.import("second", &second, &[&full("2025-03-21")[..], &["--check"]].concat());
    assert_eq!((check.code, check.counts()), (0, [1, 0, 0, 1, 1, 0]), "a check says what would happen");
    assert_eq!(desk.query("SELECT count(*) FROM arx.address_labels"), "3", "and changes nothing");
    assert_eq!(desk.import("second", &second, &full("2025-03-21")).counts(), [1, 0, 0, 1, 1, 0]);
    let third = format!("{HEADER}{}{}{}", line(1, "2021-04-15"), line(2, ""), line(3, ""));
    assert_eq!(desk.import("third", &third, &full("2025-06-01")).counts(), [0, 1, 0, 2, 0, 0]);
    assert_eq!(desk.import("third", &third, &full("2025-07-01")).counts(), [0, 0, 0, 3, 0, 0]);
    let periods = desk.query(
        "SELECT string_agg(format('%s %s %s', right(address, 1), (valid_from AT TIME ZONE 'UTC')::date,
                                  (valid_to AT TIME ZONE 'UTC')::date), ';' ORDER BY address, valid_from)
           FROM arx.address_labels",
    );
    assert_eq!(
        periods,
        "1 2021-04-15 2025-03-21;1 2025-06-01 infinity;2 -infinity infinity;3 2025-03-21 infinity;9 -infinity infinity"
    );
    let states = |as_of: &str| {
        let of = |number| {
            let wallet = wallet(number);
            desk.query(&format!("SELECT state FROM arx.wallet_risk('{wallet}', 'ethereum', as_of => '{as_of}')"))
        };
        [of(1), of(3)].map(|state| state == "labelled")
    };
    assert_eq!(states("2020-01-01"), [false, false]);
    assert_eq!(states("2023-01-01"), [true, false]);
    assert_eq!(states("2025-04-01"), [false, true]);
    assert_eq!(states("2025-06-02"), [true, true]);
    // A date that would end labels before they began, and a list of nothing.
    let earlier = desk.import("fourth", &format!("{HEADER}{}", line(1, "")), &full("2025-01-01"));
    assert!(earlier.code == 1 && earlier.error.contains("--edition"), "{}", earlier.error);
    let nothing = desk.import("nothing", HEADER, &["--full-list", "--source", "a list"]);
    assert!(nothing.code == 1 && nothing.error.contains("nothing is closed"), "{}", nothing.error);
}

#[test]
fn a_rejected_record_is_not_taken_for_gone() {
    let desk = Desk::new("label_rejects");
    let line = |number: u64, from: &str| format!("ethereum,{},sanctions,,,a list,{from},\n", wallet(number));
    desk.import("first", &format!("{HEADER}{}{}{}", line(1, ""), line(2, ""), line(3, "")), &[]);
    let second = format!("{HEADER}{}{}", line(1, "01/02/2024"), line(2, ""));
    let outcome = desk.import("second", &second, &["--full-list"]);
    assert_eq!((outcome.code, outcome.counts()), (2, [0, 0, 0, 1, 1, 1]));
    assert_eq!(outcome.report["rejected"]["invalid date"], 1);
    let open = "SELECT count(*) FROM arx.address_labels WHERE valid_to = 'infinity'";
    assert_eq!(desk.query(open), "2");
    let cut = format!("{HEADER}{}ethereum,0x\n", line(2, ""));
    let outcome = desk.import("cut", &cut, &["--full-list"]);
    assert_eq!((outcome.code, outcome.counts()), (2, [0, 0, 0, 1, 0, 1]));
    assert!(outcome.report["not_closed"].is_string());
    assert_eq!(desk.query(open), "2");
    let strict = desk.import("second", &second, &["--strict"]);
    assert!(strict.code == 1 && strict.error.contains("line 2"), "{}", strict.error);
}

#[test]
fn unknown_words_are_reported_mapped_or_refused() {
    let desk = Desk::new("label_words");
    desk.query(
        "INSERT INTO arx.label_categories (category, kind, severity, description)
         VALUES ('house_watch_list', 'illicit', 'high', 'our own')",
    );
    let words = ["eu-sanctions", "Frobnicated", "House Watch-Lists", "Cross-Chain Bridge", "frobnicated", ""];
    let lines = (1..).zip(words).map(|(number, word)| format!("ETH,{},{word},,,words,,\n", wallet(number)));
    let list = format!("{HEADER}{}", lines.collect::<String>());
    let strict = desk.import("words.csv", &list, &["--strict"]);
    assert!(strict.code == 1 && strict.error.contains("Frobnicated"), "{}", strict.error);
    assert_eq!(desk.query("SELECT count(*) FROM arx.address_labels"), "0");
    let outcome = desk.import("words.csv", &list, &[]);
    assert_eq!((outcome.code, outcome.counts()), (0, [6, 0, 0, 0, 0, 0]));
    assert_eq!(outcome.report["unknown_words"], serde_json::json!({"Frobnicated": 1, "frobnicated": 1}));
    assert_eq!(outcome.report["without_category"], 1);
    let categories = "SELECT string_agg(category, ',' ORDER BY address) FROM arx.address_labels";
    assert_eq!(desk.query(categories), "sanctions,unknown,house_watch_list,bridge,unknown,unknown");
    assert_eq!(desk.query("SELECT kind FROM arx.label_categories WHERE category = 'bridge'"), "service");
    let mapped = desk.import("words.csv", &list, &["--map", "frobnicated=mixer", "--full-list", "--strict"]);
    assert_eq!((mapped.code, mapped.counts()), (0, [2, 0, 0, 4, 2, 0]), "{}", mapped.error);
    let wrong = desk.import("words.csv", &list, &["--map", "frobnicated=quux"]);
    assert!(wrong.code == 1 && wrong.error.contains("quux"), "{}", wrong.error);
}

#[test]
fn labels_meet_transactions_in_any_spelling() {
    let desk = Desk::new("label_spellings");
    desk.query("SELECT arx.add_network('my-rollup', 'evm', 'ETH', 18)");
    let mixed = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let list = format!(
        "{HEADER}my-rollup,{mixed},hack,,,s,,\nBCH,1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu,sanctions,,,s,,\n\
         tron,41a614f803b6fd780986a42c78ec9c7f77e6ded13c,scam,,,s,,\nmy-rollup,0x12,scam,,,s,,\n"
    );
    let outcome = desk.import("l.csv", &list, &[]);
    assert_eq!((outcome.code, outcome.counts()), (2, [3, 0, 0, 0, 0, 1]));
    for (address, network) in [
        (mixed.to_uppercase().replace("0X", "0x").as_str(), "my-rollup"),
        ("bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "bitcoin-cash"),
        ("qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "bitcoin-cash"),
        ("TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "tron"),
    ] {
        let state = desk.query(&format!("SELECT state FROM arx.wallet_risk('{address}', '{network}')"));
        assert_eq!(state, "labelled", "{address}");
    }
}

#[test]
fn records_that_repeat_or_contradict_each_other_are_distinguished() {
    let desk = Desk::new("label_repetitions");
    let header = "network,address,category,label,source,confidence\n";
    let line = |category: &str, confidence: &str| format!("eth,{},{category},L,s,{confidence}\n", wallet(1));
    let list =
        format!("{header}{}{}{}{}", line("scam", "1"), line("exchange", "1"), line("scam", "1"), line("scam", "0.5"));
    let outcome = desk.import("l.csv", &list, &[]);
    assert_eq!((outcome.code, outcome.counts()), (2, [2, 0, 0, 1, 0, 1]));
    assert_eq!(outcome.report["rejected"]["contradicts another line"], 1);
    let changed = desk.import("l.csv", &format!("{header}{}", line("scam", "0.5")), &[]);
    assert_eq!((changed.code, changed.counts()), (0, [0, 0, 1, 0, 0, 0]));
    assert_eq!(desk.query("SELECT confidence FROM arx.address_labels WHERE category = 'scam'"), "0.500");
}

/// Every command of the page is run on its sample, and accounts for every record.
#[test]
fn every_documented_command_imports_its_sample() {
    let desk = Desk::new("label_documents");
    let workspace = programs::workspace();
    let page = std::fs::read_to_string(workspace.join("docs/labels.md")).unwrap();
    let commands: Vec<&str> =
        page.split('`').filter(|code| code.starts_with("arx-sidecar import labels samples/")).collect();
    let samples = std::fs::read_dir(workspace.join("samples/formats/labels")).unwrap();
    let samples = samples.filter(|entry| entry.as_ref().unwrap().file_name() != "README.md").count();
    assert_eq!(commands.len(), samples, "one command for each sample");
    for command in commands {
        let words = shlex::split(command).unwrap();
        let mut arguments: Vec<String> = words[2..].to_vec();
        arguments[1] = workspace.join(&arguments[1]).display().to_string();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--json", "--strict"]).collect();
        let outcome = desk.run(&arguments);
        assert_eq!(outcome.code, 0, "{command}: {} {}", outcome.report, outcome.error);
        assert!(outcome.counts()[0] > 0, "{command}");
    }
    let unknown = "SELECT count(*) FROM arx.address_labels WHERE category IN ('unknown', 'other')";
    assert_eq!(desk.query(unknown), "0");
}
