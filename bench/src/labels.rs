//! `import.labels_500k.vs_psql_copy`: labels a second into an empty `arx.address_labels`, from a
//! list with its own words by `arx-sidecar import labels`, and from a CSV of the table's columns by
//! `psql \copy`. The peer maps no words, validates no spelling beyond the table's constraint,
//! finds no repetitions and makes no report.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::process::run;
use arx_stack::{Database, Stack};

use crate::report::Measurement;
use crate::timing::in_turn;

/// Name of the case.
pub const CASE: &str = "import.labels_500k.vs_psql_copy";

const LABELS: u64 = 500_000;
const SEED: u64 = 7;

/// A list's words with their categories and severities.
const WORDS: [(&str, &str, &str); 6] = [
    ("CEX", "exchange", "none"),
    ("Phish / Hack", "phishing", "high"),
    ("Scams", "scam", "high"),
    ("Lending Protocol", "defi", "none"),
    ("Coin Mixer", "mixer", "medium"),
    ("Darknet Market", "darknet_market", "high"),
];

/// Runs the measurement.
///
/// # Errors
/// When a side fails or does not load every label.
pub fn measure(stack: &Stack, runs: usize) -> Result<Measurement> {
    let folder = stack.folder();
    let (list, table) = (folder.join("labels_list.csv"), folder.join("labels_table.csv"));
    write_lists(&list, &table).context("write the label lists")?;
    let medians = in_turn(runs, |run| ours(stack, &list, run), |run| peer(stack, &table, run))?;
    let setting = format!(
        "{LABELS} labels into an empty `arx.address_labels` with its indexes and constraints, {runs} runs each. The \
         peer's CSV has the columns of the table."
    );
    Ok(Measurement::new(CASE, medians, "labels/s", true).against("`psql \\copy`", setting))
}

fn write_lists(list: &Path, table: &Path) -> Result<()> {
    let create = |path: &Path| std::fs::File::create(path).map(BufWriter::new);
    let (mut list, mut table) = (create(list)?, create(table)?);
    let mut random = fastrand::Rng::with_seed(SEED);
    writeln!(list, "network,address,category,abuse,label,source")?;
    for (number, (word, category, severity)) in (0..LABELS).zip(WORDS.iter().cycle()) {
        let address = format!("0x{:032x}{:08x}", random.u128(..), random.u32(..));
        writeln!(list, "ethereum,{address},{word},,Name {number},a vendor")?;
        writeln!(table, "ethereum,{address},{category},{severity},Name {number},a vendor")?;
    }
    list.flush()?;
    table.flush()?;
    Ok(())
}

fn ours(stack: &Stack, list: &Path, number: usize) -> Result<f64> {
    let database = stack.database(&format!("our_labels_{number}"))?;
    let mut command = database.sidecar()?;
    command.args(["import", "labels"]).arg(list).arg("--rejects").arg(list.with_extension("rejects"));
    let start = Instant::now();
    run(&mut command)?;
    rate(&database, start)
}

fn peer(stack: &Stack, table: &Path, number: usize) -> Result<f64> {
    let database = stack.database(&format!("peer_labels_{number}"))?;
    let copy = format!(
        "\\copy arx.address_labels (network, address, category, severity, label, source) FROM '{}' WITH (FORMAT csv)",
        table.display().to_string().replace('\'', "''")
    );
    let mut command = database.psql();
    command.args(["-c", &copy]);
    let start = Instant::now();
    run(&mut command)?;
    rate(&database, start)
}

/// Returns the labels per second since `start`, after a check of their number and categories.
fn rate(database: &Database<'_>, start: Instant) -> Result<f64> {
    let seconds = start.elapsed().as_secs_f64();
    let loaded = database.query("SELECT count(*) || ' in ' || count(DISTINCT category) FROM arx.address_labels")?;
    let expected = format!("{LABELS} in {}", WORDS.len());
    ensure!(loaded == expected, "{} has {loaded} categories instead of {expected}", database.name());
    database.drop_now()?;
    Ok(LABELS as f64 / seconds)
}
