//! `arx-sidecar risk-report` on a database: a page on the models that exist, and errors for those
//! that do not.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use arx_stack::{Database, Stack};
use arx_tests::fixtures::import_sample;

/// Labels some unlabelled wallets as licit.
const LABEL_LICIT: &str = "
INSERT INTO arx.address_labels (network, address, category, severity, source)
SELECT DISTINCT 'ethereum', t.from_address, 'licit', 'none'::arx.label_severity_enum, 'made <up>'
  FROM arx.transactions AS t
 WHERE NOT EXISTS (SELECT FROM arx.address_labels AS l WHERE l.address = t.from_address AND l.network = 'ethereum')
 ORDER BY 2 LIMIT 200";

fn report(database: &Database<'_>, out: &Path, arguments: &[&str]) -> Output {
    let mut command = database.sidecar().unwrap();
    command.args(["risk-report", "--out", out.to_str().unwrap()]).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Returns the page of a report, which must succeed.
fn page(database: &Database<'_>, arguments: &[&str]) -> String {
    let out: PathBuf = database.data_folder().join("report.html");
    let output = report(database, &out, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    page
}

fn error(database: &Database<'_>, out: &Path, arguments: &[&str]) -> String {
    let output = report(database, out, arguments);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_report_shows_the_active_model_and_a_draft() {
    let database = Stack::shared().unwrap().database("risk_report").unwrap();
    import_sample(&database);

    let alone = page(&database, &[]);
    assert!(alone.contains("There is no draft to compare"));
    assert!(
        alone.contains("could not be measured on your labels: network ethereum has no wallet that is labelled licit")
    );
    assert!(alone.contains("Bands of ethereum-1"), "all wallets are scored without licit labels");
    let out = database.data_folder().join("report.html");
    let message = error(&database, &out, &["--evaluate", "always"]);
    assert!(message.contains("is labelled licit"), "{message}");
    assert!(!out.exists(), "a failed report leaves no page");
    let message = error(&database, &out, &["--draft", "house-9"]);
    assert!(message.contains("there is no risk model \"house-9\"; there are: ethereum-1"), "{message}");
    let message = error(&database, database.data_folder(), &[]);
    assert!(message.contains("is a directory"), "{message}");

    database.query(LABEL_LICIT).unwrap();
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

    // The sidecar scores again, with the server's features. The same wallets move.
    let evaluated = page(&database, &["--evaluate", "always", "--draft", "house-1"]);
    assert!(evaluated.contains(&expected), "{expected}");
    assert!(evaluated.contains("Bands of house-1") && evaluated.contains("labelled when this page was made"));
    assert!(evaluated.contains("<b>ethereum-1</b> and <b>house-1</b> were measured on"), "on the same labels");
    assert!(evaluated.contains("licit (made &lt;up&gt;)"), "a mistake shows the label and its source");
}
