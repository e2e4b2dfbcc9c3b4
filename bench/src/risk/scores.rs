//! `risk.score_all_real.*` and `risk.one_wallet.*`: features and scores, compared with SQL that
//! computes some of the features.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::graph::Runs;
use crate::graph::side::session;
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{in_turn_async, median, millis};

pub const ALL: &str = "risk.score_all_real.vs_sql_features";

pub const ONE: &str = "risk.one_wallet.vs_sql";

const ALL_OURS: &str = "SELECT sum(wallets)::bigint FROM arx.risk_distribution('ethereum')";

/// The peer's sums, computed from our features.
const ALL_CHECK: &str = "SELECT count(*), sum(f.features[1])::bigint, \
            sum(coalesce(f.features[p.senders], 0) + coalesce(f.features[p.receivers], 0))::bigint, \
            sum(coalesce(f.features[p.lifetime], 0)) \
       FROM arx.feature_vectors('ethereum') AS f, \
            (SELECT max(position) FILTER (WHERE feature = 'senders') AS senders, \
                    max(position) FILTER (WHERE feature = 'receivers') AS receivers, \
                    max(position) FILTER (WHERE feature = 'lifetime') AS lifetime FROM arx.risk_features()) AS p";

/// Selects unlabelled wallets in an order that is independent of their behaviour.
const SAMPLE: &str = "SELECT address FROM ( \
         SELECT from_address AS address FROM arx.transactions WHERE network = 'ethereum' AND status <> 'failed' \
            AND to_address <> from_address \
         UNION SELECT to_address FROM arx.transactions WHERE network = 'ethereum' AND status <> 'failed' \
            AND to_address <> from_address) AS wallet \
     WHERE NOT EXISTS (SELECT FROM arx.address_labels AS l WHERE l.network = 'ethereum' AND l.address = wallet.address) \
     ORDER BY md5(address) LIMIT $1";

const ONE_OURS: &str = "SELECT state FROM arx.wallet_risk($1, 'ethereum')";

const ONE_CHECK: &str = "SELECT max(value) FILTER (WHERE feature = 'transactions')::bigint, \
            coalesce(max(value) FILTER (WHERE feature = 'lifetime'), 0), \
            coalesce(max(value) FILTER (WHERE feature = 'senders'), 0)::bigint, \
            coalesce(max(value) FILTER (WHERE feature = 'receivers'), 0)::bigint \
       FROM arx.wallet_features($1, 'ethereum')";

/// Imports a copy of the active scorecard. The two take turns, and a backend keeps both.
const TWIN: &str = "SELECT arx.import_risk_model(m.document || jsonb_build_object('version', m.version || '-twin')) \
                      FROM arx.risk_models AS m WHERE m.state = 'active'";

const SWITCH: &str = "SELECT arx.activate_risk_model(m.version) FROM arx.risk_models AS m \
                       WHERE m.version LIKE '%-twin' AND m.state <> 'active' OR m.builtin AND m.state <> 'active' \
                       ORDER BY m.created_at LIMIT 1";

/// Makes another copy of the shipped scorecard active, which no backend has read.
const NEW: &str = "SELECT arx.activate_risk_model(arx.import_risk_model( \
                       m.document || jsonb_build_object('version', m.version || '-new-' || $1::bigint))) \
                     FROM arx.risk_models AS m WHERE m.builtin";

/// Wallets that are scored with a new scorecard each.
const NEW_CARDS: usize = 21;

/// Number of wallets, which are scored one by one.
const WALLETS: usize = 201;

/// `risk.score_all_real.vs_sql_features`.
///
/// # Errors
/// When a call fails, or the results differ.
pub async fn all(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    // The peer runs with the server's default settings, and again with tuned ones for the
    // description.
    let tuned = client.prepare(include_str!("scores_all_peer.sql")).await.context("prepare the peer")?;
    let untuned = session(&real.database, "RESET jit; RESET work_mem").await?;
    let peer = untuned.prepare(include_str!("scores_all_peer.sql")).await.context("prepare the peer")?;
    let sums = |row: &tokio_postgres::Row| -> Result<(i64, i64, i64, f64)> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
    };
    let (ours, peers) = (
        sums(&client.query_one(ALL_CHECK, &[]).await.context("sum our features")?)?,
        sums(&untuned.query_one(&peer, &[]).await.context("call the peer")?)?,
    );
    ensure!(
        (ours.0, ours.1, ours.2) == (peers.0, peers.1, peers.2) && (ours.3 - peers.3).abs() <= peers.3 * 1e-9,
        "the sums of our features are {ours:?}, the peer's {peers:?}"
    );
    let scored: i64 = client.query_one(ALL_OURS, &[]).await.context("score all wallets")?.try_get(0)?;
    let medians = in_turn_async(
        runs.slow,
        async |_| {
            let start = Instant::now();
            client.query_one(ALL_OURS, &[]).await.context("score all wallets")?;
            Ok(millis(start))
        },
        async |_| {
            let start = Instant::now();
            untuned.query_one(&peer, &[]).await.context("call the peer")?;
            Ok(millis(start))
        },
    )
    .await?;
    let mut tuned_times = Vec::new();
    for _ in 0..runs.slow {
        let start = Instant::now();
        client.query_one(&tuned, &[]).await.context("call the tuned peer")?;
        tuned_times.push(millis(start));
    }
    let tuned_millis = median(&tuned_times)?;
    let setting = format!(
        "{} with its labels: `risk_distribution()` computes all features and the scores of {scored} wallets, with as many \
         threads as a parallel query has processes. The peer computes counts, sums, distinct counterparties, lifetime and \
         mean gap of {} wallets, and no score; the sums of our features are the same. It runs with the server's default \
         settings, in a parallel plan; without JIT and with 256 MB of work_mem it takes {tuned_millis:.0} ms. {} runs.",
        real.name, peers.0, runs.slow,
    );
    Ok(Measurement::new(ALL, medians, "ms", false).against("one SQL statement for a few of the features", setting))
}

/// `risk.one_wallet.vs_sql`.
///
/// # Errors
/// When a call fails, or the results differ.
pub async fn one(real: &Real<'_>) -> Result<Measurement> {
    let client = session(&real.database, "").await?;
    let sample = client.query(SAMPLE, &[&(WALLETS as i64)]).await.context("select wallets")?;
    let wallets = sample.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    let ours = client.prepare(ONE_OURS).await.context("prepare ours")?;
    let peer = client.prepare(include_str!("one_wallet_peer.sql")).await.context("prepare the peer")?;
    client.query_one(TWIN, &[]).await.context("store a twin of the scorecard")?;
    // The first call of a session maps the graph and reads the labels.
    let first = time(&client, &ours, &wallets[0]).await?;
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for wallet in &wallets {
        let read = |row: &tokio_postgres::Row| -> Result<(i64, f64, i64, i64)> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let our_values = read(&client.query_one(ONE_CHECK, &[wallet]).await.context("read features")?)?;
        peer_times.push(time(&client, &peer, wallet).await?);
        let peer_values = read(&client.query_one(&peer, &[wallet]).await.context("call the peer")?)?;
        ensure!(our_values == peer_values, "{wallet}: our features are {our_values:?}, the peer's {peer_values:?}");
        client.query_one(SWITCH, &[]).await.context("switch scorecards")?;
        our_times.push(time(&client, &ours, wallet).await?);
    }
    let mut new_times = Vec::new();
    for (number, wallet) in (0_i64..).zip(wallets.iter().take(NEW_CARDS)) {
        client.query_one(NEW, &[&number]).await.context("activate a new scorecard")?;
        new_times.push(time(&client, &ours, wallet).await?);
    }
    let new = median(&new_times)?;
    let setting = format!(
        "{} with its labels; the first {} wallets without a label by md5 of the address, one by one. Ours is \
         `wallet_risk()`: all features, score and reasons; the graph and the labels are warm, and of two scorecards, which \
         the session keeps, the other one becomes active before each call (the first call of a session took {first:.0} \
         ms, and one with a scorecard that is new to the session {new:.2} ms). The peer is \
         a prepared SQL statement for counts, sums, lifetime, mean gap, distinct counterparties, and their contacts and \
         illicit contacts up to a thousand; counts and lifetimes are equal.",
        real.name,
        wallets.len(),
    );
    Ok(Measurement::new(ONE, (median(&our_times)?, median(&peer_times)?), "ms a wallet", false)
        .against("one SQL statement for a few of the features", setting))
}

async fn time(client: &Client, statement: &tokio_postgres::Statement, wallet: &String) -> Result<f64> {
    let start = Instant::now();
    client.query(statement, &[wallet]).await.context("score a wallet")?;
    Ok(millis(start))
}
