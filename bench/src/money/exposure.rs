//! `exposure.screen_10k.vs_sql`: how much of what ten thousand wallets received and sent came from illicit wallets and went there.

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

/// The case.
pub const CASE: &str = "exposure.screen_10k.vs_sql";

const WALLETS: usize = 10_000;

/// Wallets in an order that has nothing to do with what they did; what a labelled wallet has of itself is not exposure.
const DRAWN: &str = "SELECT address FROM ( \
         SELECT from_address AS address FROM arx.transactions WHERE network = 'ethereum' \
         UNION SELECT to_address FROM arx.transactions WHERE network = 'ethereum' AND to_address IS NOT NULL) AS wallet \
     WHERE NOT EXISTS (SELECT FROM arx.address_labels AS l WHERE l.network = 'ethereum' AND l.address = wallet.address) \
     ORDER BY md5(address) LIMIT $1";

const OURS: &str = "SELECT address, illicit_share_in, sanctions_in::double precision, illicit_share_out, sanctions_out::double precision \
     FROM arx.screen_wallets($1, 'ethereum', max_hops => 3, max_fan_out => 1000)";

const PEER: &str = "SELECT address, illicit, sanctions FROM peer.screen($1, $2, 3, 1000)";

/// How far shares may be apart; amounts, relative to themselves.
const TOLERANCE: f64 = 1e-6;

/// The illicit share and the amount from or to sanctioned wallets, of those wallets that have received or sent anything.
type Side = BTreeMap<String, (f64, f64)>;

/// The measurement. The peer takes half a minute, so it runs twice: once to compare, once to measure.
///
/// # Errors
/// When a call fails, or when the two sides disagree.
pub async fn measure(real: &Real<'_>, runs: Runs) -> Result<Measurement> {
    let client = session(&real.database, "SET client_min_messages = warning").await?;
    client.batch_execute(include_str!("exposure_peer.sql")).await.context("make the peer's functions")?;
    let drawn = client.query(DRAWN, &[&(WALLETS as i64)]).await.context("draw wallets")?;
    let wallets = drawn.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;

    let rows = client.query(OURS, &[&wallets]).await.context("screen")?;
    let (incoming, outgoing) = (side_of(&rows, 1)?, side_of(&rows, 3)?);
    let mut exposed = 0;
    for (side, is_incoming) in [(&incoming, true), (&outgoing, false)] {
        let rows = client.query(PEER, &[&wallets, &is_incoming]).await.context("ask the peer")?;
        ensure_close(side, &side_of(&rows, 1)?)?;
        exposed += side.values().filter(|(share, _)| *share > 0.0).count();
    }
    let mut of_ours = Vec::new();
    for _ in 0..runs.slow {
        let start = Instant::now();
        client.query(OURS, &[&wallets]).await.context("screen")?;
        of_ours.push(millis(start));
    }
    let peer = peer_run(&client, &wallets).await?;
    let setting = format!(
        "{}, with the labels beside it; the first {} wallets without a label by md5 of the address, what they received and what they sent, 3 hops, wallets \
         with more than 1,000 counterparties not passed through. The same illicit shares to {TOLERANCE:e} and sanctioned amounts on both \
         sides, {exposed} of them above zero. The peer works set by set: the wallets within reach level by level, their balances by \
         window functions, and a window aggregate over all their transfers a hop; it prepares nothing beforehand. {} runs of ours, one of \
         the peer's.",
        real.name,
        wallets.len(),
        runs.slow,
    );
    Ok(Measurement::new(CASE, (median(&of_ours)?, peer), "ms a call", false)
        .against("window functions in SQL", setting))
}

async fn peer_run(client: &Rc<Client>, wallets: &Vec<String>) -> Result<f64> {
    let start = Instant::now();
    for incoming in [true, false] {
        client.query(PEER, &[wallets, &incoming]).await.context("ask the peer")?;
    }
    Ok(millis(start))
}

/// Reads a share and an amount beside an address; wallets without a share received or sent nothing.
fn side_of(rows: &[Row], column: usize) -> Result<Side> {
    let mut side = Side::new();
    for row in rows {
        if let Some(share) = row.try_get::<_, Option<f64>>(column)? {
            let sanctions = row.try_get::<_, Option<f64>>(column + 1)?.unwrap_or_default();
            side.insert(row.try_get(0)?, (share, sanctions));
        }
    }
    Ok(side)
}

fn ensure_close(ours: &Side, peers: &Side) -> Result<()> {
    ensure!(ours.len() == peers.len(), "{} wallets have a share by ours, {} by the peer", ours.len(), peers.len());
    for (wallet, (share, sanctions)) in ours {
        let (peer_share, peer_sanctions) =
            peers.get(wallet).with_context(|| format!("the peer does not know {wallet}"))?;
        ensure!((share - peer_share).abs() <= TOLERANCE, "{wallet}: {share} of ours, {peer_share} of the peer's");
        let apart = (sanctions - peer_sanctions).abs();
        ensure!(
            apart <= TOLERANCE * sanctions.max(1.0),
            "{wallet}: {sanctions} sanctioned of ours, {peer_sanctions} of the peer's"
        );
    }
    Ok(())
}
