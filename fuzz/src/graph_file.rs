//! Graph files, which a session opens in place without verifying their contents.

use std::sync::LazyLock;

use arx_core::graph::chokepoints::chokepoints;
use arx_core::graph::communities::{CommunityOptions, CommunityQuestion, communities};
use arx_core::graph::match_paths::{PathKinds, PathPattern, PathQuestion, match_paths};
use arx_core::graph::{
    AssetId, AssetSelection, Base, Builder, Digests, Direction, EdgeFilter, Graph, HeapBuffer, HeapScratch, HeapSink,
    Interrupt, MemoryBudget, MergePlan, Overlay, Position, Provenance, Scratch, SearchLimits, Side, Status,
    TransferRow, U256, Upkeep, WalletId, Weight, connections, in_time, neighbourhood, reach, shortest_paths,
};
use xxhash_rust::xxh3::xxh3_64;

/// Header fields before the table of sections: magic, version, number of sections, length, checksum
/// of the sections.
const FIXED_FIELDS: usize = 32;

/// Searches stop after this many cancellation checks.
const MAX_CHECKS: u32 = 10_000;

/// Opens a file of these bytes, in which the header and all checksums are made valid. Whatever its
/// sections contain, every search, the overlay and a merge give a result or an error.
pub fn graph_file(data: &[u8]) {
    let mut file = HeapScratch.allocate(data.len()).unwrap();
    file[..data.len()].copy_from_slice(data);
    seal(&mut file);
    let Ok(base) = Base::open(file) else { return };
    let verified = base.verify(&mut Countdown(MAX_CHECKS)).is_ok();

    let mut overlay = Overlay::new();
    for row in rows().iter().take(4) {
        let _ = overlay.remove(&base, row);
        let _ = overlay.add(&base, row);
    }
    let graph = Graph::new(&base, &overlay);
    for wallet in graph.wallet_ids().take(6) {
        let _ = (graph.address(wallet), graph.network(wallet), graph.is_active(wallet));
        for side in [Side::Out, Side::In] {
            let _ = graph.transfers(wallet, side, |_| Ok::<_, arx_core::graph::Damaged>(()));
        }
        search(&graph, wallet);
    }
    let _ = Digests::default().add_graph(&graph, &mut Countdown(MAX_CHECKS));
    let merged = merge(&base, &overlay);
    if verified && let Some(merged) = merged {
        // The merge of a verified file is a valid file.
        Base::open(merged).unwrap().verify(&mut Countdown(u32::MAX)).unwrap();
    }
}

fn search(graph: &Graph<'_>, wallet: WalletId) {
    let limits = SearchLimits { max_depth: 3, max_wallets: Some(100), memory: MemoryBudget::new(1 << 22) };
    search_in_time(graph, wallet, &limits);
    for assets in [AssetSelection::Native, AssetSelection::Token(AssetId::new(1)), AssetSelection::All] {
        let all = EdgeFilter { assets, ..EdgeFilter::default() };
        let some = EdgeFilter { since: Some(2), min_value: Some(U256::ONE), include_failed: false, ..all };
        for (filter, direction) in [(all, Direction::Out), (all, Direction::Both), (some, Direction::In)] {
            let interrupt = &mut Countdown(MAX_CHECKS);
            for totals in [false, true] {
                let _ = reach(graph, wallet, direction, &filter, totals, &limits, interrupt);
            }
            let _ = connections(graph, wallet, direction, &filter, Some(3), &limits, interrupt);
            let _ = neighbourhood(graph, wallet, direction, &filter, 3, &limits, interrupt);
            for weight in [Weight::Hops, Weight::Value] {
                let _ =
                    shortest_paths(graph, wallet, WalletId::new(1), direction, &filter, weight, 2, &limits, interrupt);
            }
        }
    }
}

/// Labels that every wallet has.
struct SameLabel;

impl PathKinds for SameLabel {
    type Error = arx_core::graph::SearchError;

    fn prepare(&mut self, _graph: &Graph<'_>, _wallets: &[WalletId]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn has_any(&self, _wallet: WalletId, _names: &[usize]) -> bool {
        true
    }
}

fn search_in_time(graph: &Graph<'_>, wallet: WalletId, limits: &SearchLimits) {
    let interrupt = &mut Countdown(MAX_CHECKS);
    let pattern = PathPattern::parse("any{1,2} -> any", &["any"]).unwrap();
    let options = CommunityOptions { seed: 1, resolution: 1_000, weighted: true, iterations: 10 };
    if let Ok(network) = graph.network(wallet) {
        let (filter, memory) = (EdgeFilter::default(), limits.memory);
        let _ = communities(graph, &CommunityQuestion { network, options, filter, memory }, interrupt);
    }
    for assets in [AssetSelection::Native, AssetSelection::Token(AssetId::new(1)), AssetSelection::All] {
        let filter = EdgeFilter { assets, ..EdgeFilter::default() };
        for (side, max_gap) in [(Side::Out, None), (Side::In, Some(1))] {
            let _ = in_time::reach(graph, wallet, side, &filter, max_gap, limits, interrupt);
            let _ = in_time::connections(graph, wallet, side, &filter, max_gap, Some(3), limits, interrupt);
            let _ = in_time::path(graph, wallet, WalletId::new(1), side, &filter, max_gap, limits, interrupt);
            let targets = [WalletId::new(1), WalletId::new(3)];
            let _ = chokepoints(graph, wallet, &targets, side, &filter, limits, interrupt);
            let question = PathQuestion {
                pattern: &pattern,
                starts: &[wallet],
                filter,
                max_gap,
                min_kept: 500_000,
                max_paths: 10,
                max_wallets: Some(100),
                memory: limits.memory,
            };
            let _ = match_paths(graph, &question, &mut SameLabel, interrupt);
        }
    }
}

fn merge(base: &Base<HeapBuffer>, overlay: &Overlay) -> Option<HeapBuffer> {
    let interrupt = &mut Countdown(u32::MAX);
    let merge = MergePlan::new(HeapScratch, base, overlay, interrupt).ok()?;
    let sink = HeapSink::default();
    merge.write(base.provenance(), &sink, interrupt).ok()?;
    Some(sink.into_file().0)
}

/// Makes magic, version, length and checksums valid, so that mutations reach what is behind them.
fn seal(file: &mut [u8]) {
    static VALID: LazyLock<Vec<u8>> = LazyLock::new(|| build(&rows()[..1]));
    let sections = u32::from_le_bytes(VALID[12..16].try_into().unwrap()) as usize;
    let checksum = FIXED_FIELDS + sections * 16;
    if file.len() < checksum + 8 {
        return;
    }
    file[..16].copy_from_slice(&VALID[..16]);
    let length = file.len() as u64;
    file[16..24].copy_from_slice(&length.to_le_bytes());
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let hashes: Vec<u8> = (0..sections)
        .flat_map(|section| {
            let at = FIXED_FIELDS + section * 16;
            let (offset, length) = (number(at), number(at + 8));
            let range = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(length)).ok());
            let section = range.and_then(|(start, end)| file.get(start..end)).unwrap_or_default();
            xxh3_64(section).to_le_bytes()
        })
        .collect();
    file[24..32].copy_from_slice(&xxh3_64(&hashes).to_le_bytes());
    let header = xxh3_64(&file[..checksum]);
    file[checksum..checksum + 8].copy_from_slice(&header.to_le_bytes());
}

/// Builds a file.
pub(crate) fn build(rows: &[TransferRow<'_>]) -> Vec<u8> {
    let interrupt = &mut Countdown(u32::MAX);
    let mut builder = Builder::new(HeapScratch, 0).unwrap();
    for row in rows {
        builder.push(row).unwrap();
    }
    let provenance = Provenance {
        system_identifier: 1,
        timeline: 1,
        database: 1,
        relation: 1,
        epoch: 1,
        epoch_snapshot: String::new(),
        generation: 1,
        built_at: 1,
        build_millis: 1,
        boot_id: [0; 16],
        snapshot: "1:1:".into(),
        upkeep: Upkeep::default(),
    };
    let sink = HeapSink::default();
    builder.finish(interrupt).unwrap().write(&provenance, &sink, interrupt).unwrap();
    let (file, length) = sink.into_file();
    file[..length].to_vec()
}

/// Transfers of coins and tokens, with loops, failures, missing receivers, and values and positions
/// of every width.
pub(crate) fn rows() -> Vec<TransferRow<'static>> {
    let wallets = ["a", "b", "0xaaaaaaaaaaaaaaaaaaaaaaa", "d", "e"];
    let values = [U256::ONE, U256::new(u128::from(u64::MAX)), U256::new(u128::MAX), U256::MAX >> 3];
    (0..24_usize)
        .map(|number| TransferRow {
            network: ["testnet", "ethereum"][usize::from(number % 11 == 10)],
            from: Some(wallets[number % 5]),
            to: (number % 7 != 6).then(|| wallets[(number * 3 + 1) % 5]),
            token: (number % 4 == 3).then(|| ["usd", "dai"][number % 8 / 4]),
            time: (number / 2) as i64,
            value: values[number % 3 + usize::from(number == 20)],
            position: Position {
                block: number as u64,
                transaction_index: (number % 3 > 0).then_some(number as u32 * 70_000),
                log_index: (number % 4 == 3).then_some(number as u32),
            },
            status: [Status::Confirmed, Status::Failed, Status::Pending][usize::from(number % 9 == 8)],
        })
        .collect()
}

/// Stops a search after a number of checks.
struct Countdown(u32);

impl Interrupt for Countdown {
    fn should_stop(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}
