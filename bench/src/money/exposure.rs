//! `exposure.screen_10k.vs_sql`: shares of illicit wallets in the incoming and outgoing funds of
//! ten thousand wallets.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Row};

use crate::graph::Runs;
use crate::graph::side::session;
use crate::report::Measurement;
use crate::sets::Real;
use crate::timing::{median, millis};

pub const CASE: &str = "exposure.screen_10k.vs_sql";

const WALLETS: usize = 10_000;

/// Selects unlabelled wallets in an order that is independent of their behaviour.
const SAMPLE: &str = "SELECT address FROM ( \
         SELECT from_address AS address FROM arx.transactions WHERE network = 'ethereum' \
         UNION SELECT to_address FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL) AS wallet \
     WHERE NOT EXISTS (SELECT FROM arx.address_labels AS l WHERE l.network = 'ethereum' AND l.address = wallet.address) \
     ORDER BY md5(address) LIMIT $1";

const OURS: &str = "SELECT address, illicit_share_in, sanctions_in::double precision, illicit_share_out, sanctions_out::double precision \
     FROM arx.screen_wallets($1, 'ethereum', max_hops => 3, max_fan_out => 1000)";

const PEER: &str = "SELECT address, illicit, sanctions FROM peer.screen($1, $2, 3, 1000)";

/// Allowed difference of shares, and allowed relative difference of amounts.
const TOLERANCE: f64 = 1e-6;

/// Illicit share and sanctioned amount by wallet, for wallets with any transfers in a direction.
type ExposureByWallet = BTreeMap<String, (f64, f64)>;

/// Runs the measurement. The peer takes half a minute, so it runs only twice: once to compare, once
/// to measure.
///
/// # Errors
/// When a call fails, or the results differ.
pub async fn measure(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "SET client_min_messages = warning").await?;
    client.batch_execute(include_str!("exposure_peer.sql")).await.context("create the peer's functions")?;
    let sample = client.query(SAMPLE, &[&(WALLETS as i64)]).await.context("select wallets")?;
    let wallets = sample.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;

    let rows = client.query(OURS, &[&wallets]).await.context("screen")?;
    let (incoming, outgoing) = (side_of(&rows, 1)?, side_of(&rows, 3)?);
    let mut exposed = 0;
    for (side, is_incoming) in [(&incoming, true), (&outgoing, false)] {
        let rows = client.query(PEER, &[&wallets, &is_incoming]).await.context("call the peer")?;
        ensure_close(side, &side_of(&rows, 1)?)?;
        exposed += side.values().filter(|(share, _)| *share > 0.0).count();
    }
    let mut our_times = Vec::new();
    for _ in 0..runs.slow {
        let start = Instant::now();
        client.query(OURS, &[&wallets]).await.context("screen")?;
        our_times.push(millis(start));
    }
    let peer = peer_run(&client, &wallets).await?;
    let setting = format!(
        "{} with its labels; the first {} wallets without a label by md5 of the address, incoming and outgoing funds, 3 \
         hops, not through wallets with more than 1,000 counterparties. Illicit shares are equal to {TOLERANCE:e} on both \
         sides, sanctioned amounts too; {exposed} shares are above zero. The peer works on sets: reached wallets level by \
         level, their balances by window functions, and per hop a window aggregate over all their transfers; it needs no \
         preparation. {} runs for ours, one for the peer.",
        real.name,
        wallets.len(),
        runs.slow,
    );
    Ok(Measurement::new(CASE, (median(&our_times)?, peer), "ms a call", false)
        .against("window functions in SQL", setting))
}

async fn peer_run(client: &Rc<Client>, wallets: &Vec<String>) -> Result<f64> {
    let start = Instant::now();
    for incoming in [true, false] {
        client.query(PEER, &[wallets, &incoming]).await.context("call the peer")?;
    }
    Ok(millis(start))
}

/// Reads shares and amounts by address. Wallets without a share have no transfers in that
/// direction.
fn side_of(rows: &[Row], column: usize) -> Result<ExposureByWallet> {
    let mut side = ExposureByWallet::new();
    for row in rows {
        if let Some(share) = row.try_get::<_, Option<f64>>(column)? {
            let sanctions = row.try_get::<_, Option<f64>>(column + 1)?.unwrap_or_default();
            side.insert(row.try_get(0)?, (share, sanctions));
        }
    }
    Ok(side)
}

fn ensure_close(ours: &ExposureByWallet, peers: &ExposureByWallet) -> Result<()> {
    ensure!(ours.len() == peers.len(), "{} wallets have a share in ours, {} in the peer", ours.len(), peers.len());
    for (wallet, (share, sanctions)) in ours {
        let (peer_share, peer_sanctions) =
            peers.get(wallet).with_context(|| format!("the peer has no share for {wallet}"))?;
        ensure!(
            (share - peer_share).abs() <= TOLERANCE,
            "{wallet}: ours has a share of {share}, the peer {peer_share}"
        );
        let difference = (sanctions - peer_sanctions).abs();
        ensure!(
            difference <= TOLERANCE * sanctions.max(1.0),
            "{wallet}: ours has a sanctioned amount of {sanctions}, the peer {peer_sanctions}"
        );
    }
    Ok(())
}
