//! `feed.initial_tls.vs_plain`: rows a second of a first load over TLS, compared with the same load
//! without it.

use anyhow::{Context, Result};
use arx_stack::Stack;
use arx_stack::tls::{Authority, Terminator, Validity, write};

use super::warehouse::Warehouse;
use crate::graph::Runs;
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::in_turn;

pub const CASE: &str = "feed.initial_tls.vs_plain";

/// Runs the measurement on a stack that listens.
///
/// # Errors
/// When a side fails, or its rows differ from PostgreSQL's.
pub fn measure(stack: &Stack, warehouse: &Warehouse<'_>, real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let authority = Authority::new("ARX benchmark")?;
    let pair = authority.sign(&["localhost"], Validity::Now)?;
    stack.use_certificate(&pair).context("switch TLS on in PostgreSQL")?;
    let root = write(stack.folder(), "benchmark-ca.crt", authority.certificate())?.display().to_string();
    let engine = &warehouse.engine;
    let encrypted = Terminator::start(engine.http_port(), &pair, None)?;
    let plain = Terminator::plain(engine.http_port())?;
    let postgres = |rest: &str| {
        let (port, database) = (stack.cluster().port(), real.database.name());
        format!("host=localhost port={port} user=postgres dbname={database} {rest}")
    };
    let login = [("ARX_CLICKHOUSE_USER", "arx".to_owned()), ("ARX_CLICKHOUSE_PASSWORD", engine.password().to_owned())];
    let rate = |variables: &[(&str, String)]| {
        let variables = [variables, &login].concat();
        Ok::<f64, anyhow::Error>(warehouse.rows as f64 / warehouse.load_with(false, &variables)?.rows)
    };
    let tls = [
        ("ARX_POSTGRES_URL", postgres(&format!("sslmode=verify-full sslrootcert={root}"))),
        ("ARX_CLICKHOUSE_URL", format!("https://localhost:{}", encrypted.port())),
        ("ARX_CLICKHOUSE_ROOT_FILE", root),
    ];
    let without = [
        ("ARX_POSTGRES_URL", postgres("sslmode=disable")),
        ("ARX_CLICKHOUSE_URL", format!("http://localhost:{}", plain.port())),
    ];
    let medians = in_turn(runs.slow, |_| rate(&tls), |_| rate(&without))?;
    let setting = format!(
        "{}, on one machine over the loopback address. Ours is `arx-sidecar sync` until all rows have arrived, from a \
         PostgreSQL with `sslmode=verify-full` into ClickHouse by `https`; the engine has no TLS, so a terminator before it \
         decrypts. The peer is the same with `sslmode=disable` and `http`, through a forwarder without TLS. {} runs.",
        real.name, runs.slow
    );
    Ok(Measurement::new(CASE, medians, "rows/s", true).against("the same without TLS", setting))
}
