//! `risk.udf_rows.vs_python_udf`: scores per second of ClickHouse's executable function, compared
//! with one in Python that uses the same scorecard.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arx_stack::programs;

use crate::graph::Runs;
use crate::graph::side::session;
use crate::report::Measurement;
use crate::sets::Real;
use crate::shapes::python::interpreter;
use crate::timing::in_turn;

pub const CASE: &str = "risk.udf_rows.vs_python_udf";

/// The name of the case among the executable functions.
pub const AMONG_FUNCTIONS: &str = "udf.risk_rows.vs_python_udf";

const ROWS: usize = 65_536;
const CHUNK: usize = 16_384;

/// Bytes of a `Nullable(Decimal(4, 1))` with a value.
const RESULT: usize = 5;

/// Features of wallets in an order that is independent of their behaviour.
const SAMPLE: &str = "SELECT features FROM arx.feature_vectors('ethereum', ARRAY( \
         SELECT address FROM (SELECT from_address AS address FROM arx.transactions WHERE network = 'ethereum' \
             UNION SELECT to_address FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL) AS wallet \
          ORDER BY md5(address) LIMIT $1))";

/// Runs the measurement.
///
/// # Errors
/// When a side fails, or the scores differ.
pub async fn measure(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let sample = client.query(SAMPLE, &[&(ROWS as i64)]).await.context("read features")?;
    let vectors = sample.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Vec<Option<f64>>>, _>>()?;
    ensure!(!vectors.is_empty(), "there are no wallets");
    let input = chunks(&vectors);
    let names =
        client.query_one("SELECT string_agg(feature, ',' ORDER BY position) FROM arx.risk_features()", &[]).await;
    let names: String = names.context("read the names of features")?.try_get(0)?;
    let model = client.query_one("SELECT document::text FROM arx.risk_models WHERE state = 'active'", &[]).await;
    let model: String = model.context("read the risk model")?.try_get(0)?;
    let scorecard = real.database.data_folder().join("scorecard.json");
    std::fs::write(&scorecard, model).with_context(|| format!("write {}", scorecard.display()))?;

    let mut command = Command::new(programs::udf()?);
    let mut ours = FunctionProcess::start(command.arg("risk-score").arg("--scorecard").arg(&scorecard))?;
    let mut command = Command::new(interpreter()?);
    let mut peer =
        FunctionProcess::start(command.args(["-c", include_str!("udf_peer.py")]).arg(&scorecard).arg(names))?;
    let (our_scores, peer_scores) = (ours.call(&input)?, peer.call(&input)?);
    let differing =
        our_scores.chunks(RESULT).zip(peer_scores.chunks(RESULT)).filter(|(ours, peers)| ours != peers).count();
    ensure!(differing == 0, "{differing} of {ROWS} scores differ from the peer's");
    let mut distinct: Vec<&[u8]> = our_scores.chunks(RESULT).collect();
    distinct.sort_unstable();
    distinct.dedup();
    ensure!(distinct.len() > 10, "there are only {} different scores", distinct.len());

    let rate = |function: &mut FunctionProcess| {
        let start = Instant::now();
        function.call(&input)?;
        Ok(ROWS as f64 / start.elapsed().as_secs_f64())
    };
    let medians = in_turn(runs.slow, |_| rate(&mut ours), |_| rate(&mut peer))?;
    let setting = format!(
        "features of {} wallets of {}, {ROWS} rows in chunks of {CHUNK}, {:.0} MB; both are running processes that read the \
         same bytes from a pipe, in ClickHouse's format (RowBinary, chunk headers). The peer is pure Python: `struct` and \
         `bisect` with the same scorecard. Both returned the same scores, {} different ones. {} runs.",
        vectors.len(),
        real.name,
        input.len() as f64 / 1e6,
        distinct.len(),
        runs.slow,
    );
    Ok(Measurement::new(CASE, medians, "rows/s", true).against("an executable function in Python", setting))
}

/// Encodes rows as ClickHouse sends them.
fn chunks(vectors: &[Vec<Option<f64>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, row) in vectors.iter().cycle().take(ROWS).enumerate() {
        if number % CHUNK == 0 {
            bytes.extend(format!("{CHUNK}\n").into_bytes());
        }
        // A length below 128 is one byte.
        bytes.push(row.len() as u8);
        for value in row {
            bytes.push(u8::from(value.is_none()));
            bytes.extend(value.map(f64::to_le_bytes).into_iter().flatten());
        }
    }
    bytes
}

/// A process of an executable function.
struct FunctionProcess {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl FunctionProcess {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a function")?;
        let input = child.stdin.take().context("the function has no standard input")?;
        let output = child.stdout.take().context("the function has no standard output")?;
        Ok(Self { child, input, output })
    }

    /// Writes and reads at the same time, as ClickHouse does.
    fn call(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        let mut results = vec![0; ROWS * RESULT];
        std::thread::scope(|scope| {
            let written = scope.spawn(|| self.input.write_all(input));
            self.output.read_exact(&mut results).context("read the function's results")?;
            written.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))?.context("write to the function")
        })?;
        Ok(results)
    }
}

impl Drop for FunctionProcess {
    fn drop(&mut self) {
        // Fails when the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
