//! `arx-sidecar risk-report` on a database: a page for what is there, and a word on what is not.

// helpers of tests fail as tests do
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use arx_stack::process::run;
use arx_stack::{Database, Stack, programs};

/// Wallets that nobody has labelled are licit, for a test.
const LICIT: &str = "
INSERT INTO arx.address_labels (network, address, category, severity, source)
SELECT DISTINCT 'ethereum', t.from_address, 'licit', 'none'::arx.label_severity_enum, 'made <up>'
  FROM arx.transactions AS t
 WHERE NOT EXISTS (SELECT FROM arx.address_labels AS l WHERE l.address = t.from_address AND l.network = 'ethereum')
 ORDER BY 2 LIMIT 200";

fn import_sample(database: &Database<'_>) {
    let folder = programs::workspace().join("samples/ethereum");
    std::fs::create_dir_all(database.data_folder()).unwrap();
    for (kind, file) in [("transactions", "transactions.csv.gz"), ("labels", "labels.csv.gz")] {
        let rejects = database.data_folder().join(format!("{kind}.rejects"));
        let path = folder.join(file);
        let arguments = ["import", kind, path.to_str().unwrap(), "--rejects", rejects.to_str().unwrap()];
        run(database.sidecar().unwrap().args(arguments)).unwrap();
    }
}

fn report(database: &Database<'_>, out: &Path, arguments: &[&str]) -> Output {
    let mut command = database.sidecar().unwrap();
    command.args(["risk-report", "--out", out.to_str().unwrap()]).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The page of a report that succeeds.
fn page(database: &Database<'_>, arguments: &[&str]) -> String {
    let out: PathBuf = database.data_folder().join("report.html");
    let output = report(database, &out, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    page
}

fn complaint(database: &Database<'_>, out: &Path, arguments: &[&str]) -> String {
    let output = report(database, out, arguments);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_page_tells_of_the_model_in_use_and_of_a_draft() {
    let database = Stack::shared().unwrap().database("risk_report").unwrap();
    import_sample(&database);

    let alone = page(&database, &[]);
    assert!(alone.contains("There is no draft to compare"));
    assert!(alone.contains("could not be measured on your labels: no wallet of network ethereum is labelled licit"));
    assert!(alone.contains("Bands of ethereum-1"), "all wallets are scored all the same");
    let out = database.data_folder().join("report.html");
    let said = complaint(&database, &out, &["--evaluate", "always"]);
    assert!(said.contains("is labelled licit"), "{said}");
    assert!(!out.exists(), "no page where there is nothing to show");
    let said = complaint(&database, &out, &["--draft", "house-9"]);
    assert!(said.contains("there is no risk model \"house-9\"; there are: ethereum-1"), "{said}");
    let said = complaint(&database, database.data_folder(), &[]);
    assert!(said.contains("is a folder"), "{said}");

    database.query(LICIT).unwrap();
    let measured = page(&database, &[]);
    assert!(measured.contains("labelled when this page was made") && measured.contains("as it stands"));

    let fitted = database
        .query("SELECT f.change_band, f.wallets_scored FROM arx.fit_risk_model('house-1', description => 'of the <b>house</b>', folds => 3) AS f")
        .unwrap();
    let (moved, all) = fitted.split_once('|').unwrap();
    let stored = page(&database, &["--evaluate", "never"]);
    assert!(stored.contains("Risk models ethereum-1 and house-1"));
    assert!(stored.contains("labelled when house-1 was fitted") && stored.contains("out of fold"));
    assert!(stored.contains("of the &lt;b&gt;house&lt;/b&gt;") && !stored.contains("<b>house</b>"));
    let with_thousands = |number: &str| {
        let (head, tail) = number.split_at(number.len().saturating_sub(3));
        if head.is_empty() { tail.to_owned() } else { format!("{head},{tail}") }
    };
    let expected = format!("<p>{} of {} wallets (", with_thousands(moved), with_thousands(all));
    assert!(stored.contains(&expected), "{expected}");

    // scored anew by the sidecar, out of the server's features: the same wallets move
    let anew = page(&database, &["--evaluate", "always", "--draft", "house-1"]);
    assert!(anew.contains(&expected), "{expected}");
    assert!(anew.contains("Bands of house-1") && anew.contains("labelled when this page was made"));
    assert!(anew.contains("<b>ethereum-1</b> and <b>house-1</b> were measured on"), "on the same labels");
    assert!(anew.contains("licit (made &lt;up&gt;)"), "what is known of a mistake");
}
