//! The SQL in the README runs as it stands, on the sample that the demo imports.

use arx_stack::process::run;
use arx_stack::{Stack, programs};
use arx_tests::fences;

#[test]
fn the_sql_of_the_readme_runs_on_the_sample() {
    let root = programs::workspace();
    let database = Stack::shared().unwrap().database("readme").unwrap();
    for (kind, file) in [("transactions", "transactions.csv.gz"), ("labels", "labels.csv.gz")] {
        run(database.sidecar().unwrap().args(["import", kind]).arg(root.join("samples/ethereum").join(file))).unwrap();
    }
    database.query("SELECT arx.refresh_wallet_profiles(), arx.refresh_daily_stats()").unwrap();
    database.query("CALL arx.refresh_risk_scores()").unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = fences::blocks(&readme, "sql");
    assert!(!blocks.is_empty(), "the README shows no SQL");
    let mut failures = Vec::new();
    for block in blocks {
        if let Err(error) = run(database.psql().args(["-c", &block.text])) {
            failures.push(format!("README.md:{}: {error:#}\n{}", block.line, block.text));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
