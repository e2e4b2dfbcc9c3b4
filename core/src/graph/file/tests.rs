//! Builds, merges and overlays return the rows given to them; damage is detected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use crate::graph::file::format::HEADER_BYTES;
use crate::graph::*;

const NETWORKS: [&str; 2] = ["ethereum", "testnet"];
const TOKENS: [&str; 3] = ["", "usd", "dai"];

/// A row that owns what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    network: usize,
    from: Option<u8>,
    to: Option<u8>,
    token: usize,
    time: i64,
    value: (u128, u128),
    position: Position,
    status: u8,
    /// An internal transfer, which is of the native coin.
    is_internal: bool,
}

impl Row {
    fn with<R>(&self, use_it: impl FnOnce(&TransferRow<'_>) -> R) -> R {
        let (from, to) = (self.from.map(name), self.to.map(name));
        use_it(&TransferRow {
            network: NETWORKS[self.network],
            from: from.as_deref(),
            to: to.as_deref(),
            token: (self.token > 0).then(|| TOKENS[self.token]),
            time: self.time,
            value: U256::from_words(self.value.0, self.value.1),
            position: self.position,
            status: [Status::Pending, Status::Confirmed, Status::Failed, Status::Unknown][usize::from(self.status)],
        })
    }
}

impl Row {
    fn source(&self) -> Source {
        match self.token {
            _ if self.is_internal => Source::InternalTransfers,
            0 => Source::Transactions,
            _ => Source::TokenTransfers,
        }
    }
}

/// Neither by number nor of one length.
fn name(wallet: u8) -> String {
    format!("{}{wallet}", ["z", "0xaaaaaaaaaaaaaaaaaaaaaaa", "m"][usize::from(wallet) % 3])
}

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        6 => (0_u128..5).prop_map(|value| (0, value)),
        2 => any::<u128>().prop_map(|value| (0, value)),
        1 => (any::<u128>(), any::<u128>()),
    ];
    let position = (0_u64..3, prop::option::of(0_u32..3), prop::option::of(prop_oneof![Just(1_u32), Just(70_000)]));
    // A transfer has a sender or a receiver.
    let ends = prop_oneof![
        8 => (0..8_u8, 0..8_u8).prop_map(|(from, to)| (Some(from), Some(to))),
        1 => (0..8_u8).prop_map(|from| (Some(from), None)),
        1 => (0..8_u8).prop_map(|to| (None, Some(to))),
    ];
    let row = (0..2_usize, ends, 0..3_usize, 0..6_i64, value, position, 0..4_u8, any::<bool>());
    let row = row.prop_map(|(network, (from, to), token, time, value, position, status, is_internal)| {
        let (block, transaction_index, log_index) = position;
        let position = Position { block, transaction_index, log_index };
        Row { network, from, to, token, time, value, position, status, is_internal: is_internal && token == 0 }
    });
    prop::collection::vec(row, 0..most)
}

pub(crate) fn provenance(generation: u64) -> Provenance {
    Provenance {
        system_identifier: 1,
        timeline: 1,
        database: 5,
        relation: 6,
        epoch: 0,
        epoch_snapshot: String::new(),
        generation,
        built_at: 0,
        build_millis: 0,
        boot_id: [7; 16],
        snapshot: "1:1:".into(),
        upkeep: Upkeep::default(),
    }
}

fn build(rows: &[Row]) -> Base<HeapBuffer> {
    let mut builder = Builder::new(HeapScratch, 0).unwrap();
    for row in rows {
        row.with(|transfer| builder.push_from(row.source(), transfer)).unwrap();
    }
    let plan = builder.finish(&mut Uninterrupted).unwrap();
    let sink = HeapSink::default();
    plan.write(&provenance(1), &sink, &mut Uninterrupted).unwrap();
    opened(sink)
}

fn merge(base: &Base<HeapBuffer>, overlay: &Overlay) -> Base<HeapBuffer> {
    let merge = MergePlan::new(HeapScratch, base, overlay, &mut Uninterrupted).unwrap();
    let sink = HeapSink::default();
    merge.write(&provenance(2), &sink, &mut Uninterrupted).unwrap();
    opened(sink)
}

fn opened(sink: HeapSink) -> Base<HeapBuffer> {
    let (file, length) = sink.into_file();
    // Sections end at multiples of 64 bytes, and so do buffers of the heap.
    assert_eq!(file.len(), length);
    let base = Base::open(file).unwrap();
    base.verify(&mut Uninterrupted).unwrap();
    base
}

type Seen = (Option<String>, String, i64, U256, Position, u8);

/// Every transfer of every wallet on a side, as the graph says it, in its order.
fn transfers(graph: &Graph<'_>, side: Side) -> BTreeMap<(String, String), Vec<Seen>> {
    let mut all = BTreeMap::new();
    for wallet in graph.wallet_ids().filter(|wallet| *wallet != WalletId::NO_SENDER) {
        let mut seen = Vec::new();
        graph
            .transfers(wallet, side, |transfer| -> Result<(), Damaged> {
                let peer = transfer.peer.map(|peer| graph.address(peer).map(str::to_owned)).transpose()?;
                let token = graph.token(transfer.asset)?.to_owned();
                seen.push((peer, token, transfer.time, transfer.value, transfer.position, transfer.status as u8));
                Ok(())
            })
            .unwrap();
        assert_eq!(graph.wallet(graph.network(wallet).unwrap(), graph.address(wallet).unwrap()), Ok(Some(wallet)));
        if !seen.is_empty() {
            assert!(graph.is_active(wallet));
            assert!(seen.is_sorted_by_key(|transfer| (transfer.2, transfer.4)), "{seen:?}");
            seen.sort();
            all.insert((graph.network(wallet).unwrap().to_owned(), graph.address(wallet).unwrap().to_owned()), seen);
        }
    }
    all
}

fn expected_transfers(rows: &[Row], side: Side) -> BTreeMap<(String, String), Vec<Seen>> {
    let mut all: BTreeMap<_, Vec<Seen>> = BTreeMap::new();
    for row in rows {
        let (from, to) = (row.from.map(name), row.to.map(name));
        let (wallet, peer) = match side {
            Side::Out => (from, to),
            Side::In => (to, from),
        };
        let Some(wallet) = wallet else { continue };
        let value = U256::from_words(row.value.0, row.value.1);
        let seen = (peer, TOKENS[row.token].to_owned(), row.time, value, row.position, row.status);
        all.entry((NETWORKS[row.network].to_owned(), wallet)).or_default().push(seen);
    }
    all.values_mut().for_each(|seen| seen.sort());
    all
}

type Edges = BTreeMap<(String, String, String, String), (u64, Option<U256>, i64, i64)>;

fn edges(graph: &Graph<'_>, side: Side, filter: &EdgeFilter) -> Edges {
    let mut all = Edges::new();
    for wallet in graph.wallet_ids().filter(|wallet| *wallet != WalletId::NO_SENDER) {
        graph
            .edges(wallet, side, filter, |edge| -> Result<(), Damaged> {
                let text = |text: Result<&str, Damaged>| text.unwrap().to_owned();
                let (network, own) = (text(graph.network(wallet)), text(graph.address(wallet)));
                let key = (network, own, text(graph.address(edge.peer)), text(graph.token(edge.asset)));
                match all.get_mut(&key) {
                    // The second edge of a sum beyond 256 bits.
                    Some((_, sum, _, _)) => {
                        assert_eq!(edge.transfers, 0);
                        *sum = sum.and_then(|sum| sum.checked_add(edge.value));
                    }
                    None => {
                        let sums = (edge.transfers, Some(edge.value), edge.first, edge.last);
                        all.insert(key, sums);
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    all
}

fn expected_edges(rows: &[Row], graph: &Graph<'_>, side: Side, filter: &EdgeFilter) -> Edges {
    let mut all = Edges::new();
    for row in rows {
        let value = U256::from_words(row.value.0, row.value.1);
        let (Some(from), Some(to)) = (row.from, row.to) else { continue };
        let network = NETWORKS[row.network];
        let asset =
            if row.token == 0 { Some(AssetId::NATIVE) } else { graph.asset(network, TOKENS[row.token]).unwrap() };
        if !filter.assets.contains(asset.unwrap())
            || filter.since.is_some_and(|since| row.time < since)
            || filter.until.is_some_and(|until| row.time >= until)
            || filter.min_value.is_some_and(|least| value < least)
            || (row.status == 2 && !filter.include_failed)
        {
            continue;
        }
        let (own, peer) = if side == Side::Out { (from, to) } else { (to, from) };
        let moved = if row.status == 2 { U256::ZERO } else { value };
        let key = (network.to_owned(), name(own), name(peer), TOKENS[row.token].to_owned());
        let sum = all.entry(key).or_insert((0, Some(U256::ZERO), i64::MAX, i64::MIN));
        sum.0 += 1;
        sum.1 = if filter.assets.is_single() { sum.1.and_then(|sum| sum.checked_add(moved)) } else { sum.1 };
        sum.2 = sum.2.min(row.time);
        sum.3 = sum.3.max(row.time);
    }
    all.retain(|_, sum| sum.0 >= filter.min_transfers);
    all
}

fn filters(graph: &Graph<'_>) -> Vec<EdgeFilter> {
    let all = EdgeFilter { assets: AssetSelection::All, ..EdgeFilter::default() };
    let token = graph.asset(NETWORKS[0], TOKENS[1]).ok().flatten();
    let token = token.map_or(AssetSelection::Tokens, AssetSelection::Token);
    vec![
        EdgeFilter::default(),
        all,
        EdgeFilter { assets: token, ..all },
        EdgeFilter { assets: AssetSelection::Tokens, min_transfers: 2, ..all },
        EdgeFilter { min_transfers: 2, ..EdgeFilter::default() },
        EdgeFilter { include_failed: true, ..all },
        EdgeFilter { include_failed: true, ..EdgeFilter::default() },
        EdgeFilter { since: Some(2), until: Some(5), ..EdgeFilter::default() },
        EdgeFilter { min_value: Some(U256::new(2)), until: Some(4), ..EdgeFilter::default() },
    ]
}

fn assert_holds(graph: &Graph<'_>, rows: &[Row]) {
    for side in [Side::Out, Side::In] {
        assert_eq!(transfers(graph, side), expected_transfers(rows, side));
        for filter in filters(graph) {
            assert_eq!(edges(graph, side, &filter), expected_edges(rows, graph, side, &filter), "{side:?} {filter:?}");
        }
    }
    let mut by_order: Vec<WalletId> = graph.wallet_ids().collect();
    by_order.sort_by_key(|wallet| graph.order(*wallet));
    let addresses: Vec<_> = by_order.iter().map(|wallet| graph.address(*wallet).unwrap()).collect();
    assert!(addresses.is_sorted(), "{addresses:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_built_graph_holds_what_was_handed_in(rows in rows(60)) {
        let base = build(&rows);
        prop_assert_eq!(base.transfers(), rows.len() as u64);
        prop_assert_eq!(base.native_transfers(), rows.iter().filter(|row| row.token == 0).count() as u64);
        assert_holds(&Graph::new(&base, &Overlay::new()), &rows);
    }

    #[test]
    fn overlays_and_merges_equal_a_new_build(
        before in rows(50),
        added in rows(30),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        more in rows(20),
    ) {
        let base = build(&before);
        let mut overlay = Overlay::new();
        let mut now = before.clone();
        for row in &added {
            row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
            now.push(row.clone());
        }
        // Sums and orders that were computed before later changes must not last.
        assert_holds(&Graph::new(&base, &overlay), &now);
        for index in &removed {
            if !now.is_empty() {
                let row = now.swap_remove(index.index(now.len()));
                row.with(|transfer| overlay.remove_from(&base, row.source(), transfer)).unwrap();
            }
        }
        for row in &more {
            row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
            now.push(row.clone());
        }
        assert_holds(&Graph::new(&base, &overlay), &now);
        // As a segment, for another reader of the base.
        let segment = overlay.to_segment(&provenance(1)).unwrap();
        let (of_segment, copy) = Overlay::of_segment(&base, &segment).unwrap();
        prop_assert_eq!((of_segment, copy.rows()), (provenance(1), overlay.rows()));
        assert_holds(&Graph::new(&base, &copy), &now);
        assert_holds(&Graph::new(&merge(&base, &copy), &Overlay::new()), &now);
        let merged = merge(&base, &overlay);
        prop_assert_eq!(merged.transfers(), now.len() as u64);
        prop_assert_eq!(merged.native_transfers(), now.iter().filter(|row| row.token == 0).count() as u64);
        assert_holds(&Graph::new(&merged, &Overlay::new()), &now);
        // A merged graph takes changes as a built one does.
        let mut again = Overlay::new();
        let mut left = now.clone();
        for row in now.iter().step_by(2) {
            row.with(|transfer| again.remove_from(&merged, row.source(), transfer)).unwrap();
            left.remove(left.iter().position(|other| other == row).unwrap());
        }
        assert_holds(&Graph::new(&merge(&merged, &again), &Overlay::new()), &left);
    }

    #[test]
    fn changes_that_the_graph_does_not_see_leave_no_trace(
        before in rows(50),
        added in rows(20),
        touched in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        let base = build(&before);
        let mut overlay = Overlay::new();
        let mut now = before;
        for row in &added {
            row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
            now.push(row.clone());
        }
        let changes = overlay.rows();
        let graph = Graph::new(&base, &overlay);
        let plain = |graph: &Graph<'_>| -> Vec<bool> {
            let filter = EdgeFilter::default();
            let is_plain = |wallet, side| graph.plain_edges(wallet, side, &filter, false).is_some();
            graph.wallet_ids().flat_map(|wallet| [Side::Out, Side::In].map(|side| is_plain(wallet, side))).collect()
        };
        let untouched = plain(&graph);
        if !now.is_empty() {
            // Former versions come before new ones, as a session reads them.
            let touched: std::collections::BTreeSet<usize> = touched.iter().map(|index| index.index(now.len())).collect();
            for row in &touched {
                now[*row].with(|transfer| overlay.remove_from(&base, now[*row].source(), transfer)).unwrap();
            }
            for row in &touched {
                now[*row].with(|transfer| overlay.add_from(&base, now[*row].source(), transfer)).unwrap();
            }
        }
        prop_assert_eq!(overlay.rows(), changes);
        let graph = Graph::new(&base, &overlay);
        prop_assert_eq!(plain(&graph), untouched);
        assert_holds(&graph, &now);
    }

    #[test]
    fn a_range_of_a_table_is_taken_back_alone(
        before in rows(50),
        added in rows(20),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        start in 0..6_i64,
        length in 0..6_i64,
        table in 0..3_usize,
        later in rows(10),
    ) {
        let base = build(&before);
        let mut overlay = Overlay::new();
        let mut now = before;
        for row in &added {
            row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
            now.push(row.clone());
        }
        for index in removed.iter().take(now.len()) {
            let row = now.swap_remove(index.index(now.len()));
            row.with(|transfer| overlay.remove_from(&base, row.source(), transfer)).unwrap();
        }
        let source = [Source::Transactions, Source::InternalTransfers, Source::TokenTransfers][table];
        let times = start..start + length;
        overlay.take_back(&base, source, &times, |_| Ok::<_, Damaged>(())).unwrap();
        now.retain(|row| row.source() != source || !times.contains(&row.time));
        assert_holds(&Graph::new(&base, &overlay), &now);
        for row in &later {
            row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
            now.push(row.clone());
        }
        let merged = merge(&base, &overlay);
        assert_holds(&Graph::new(&merged, &Overlay::new()), &now);
        // The tables of rows are kept by a merge.
        let mut again = Overlay::new();
        again.take_back(&merged, source, &(i64::MIN..i64::MAX), |_| Ok::<_, Damaged>(())).unwrap();
        now.retain(|row| row.source() != source);
        assert_holds(&Graph::new(&merged, &again), &now);
    }

    #[test]
    fn changes_since_a_mark_are_taken_back(
        before in rows(40),
        added in rows(20),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        more in rows(20),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let base = build(&before);
        let mut overlay = Overlay::new();
        let mut now = before;
        let change = |overlay: &mut Overlay, now: &mut Vec<Row>, added: &[Row], removed: &[prop::sample::Index]| {
            for row in added {
                row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
                now.push(row.clone());
            }
            for index in removed.iter().take(now.len()) {
                let row = now.swap_remove(index.index(now.len()));
                row.with(|transfer| overlay.remove_from(&base, row.source(), transfer)).unwrap();
                // The row itself comes back now and then.
                if row.time == 3 {
                    row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
                    now.push(row);
                }
            }
        };
        change(&mut overlay, &mut now, &added, &removed);
        assert_holds(&Graph::new(&base, &overlay), &now);
        let kept = (overlay.rows(), now.clone());
        overlay.mark();
        change(&mut overlay, &mut now, &more, &again);
        assert_holds(&Graph::new(&base, &overlay), &now);
        overlay.roll_back();
        prop_assert!(!overlay.is_marked());
        prop_assert_eq!(overlay.rows(), kept.0);
        assert_holds(&Graph::new(&base, &overlay), &kept.1);
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_without_a_panic(
        rows in rows(40),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        repair in any::<bool>(),
    ) {
        let base = build(&rows);
        let mut bytes = base_bytes(&base);
        for (index, byte) in hits {
            // Skip the header, unless the case damages the header.
            let start = if repair { HEADER_BYTES } else { 0 };
            let at = start + index.index(bytes.len() - start);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(damaged) = Base::open(aligned(&bytes)) {
            let changed = bytes != base_bytes(&base);
            prop_assert!(!changed || damaged.verify(&mut Uninterrupted).is_err());
            let overlay = Overlay::new();
            let graph = Graph::new(&damaged, &overlay);
            for wallet in graph.wallet_ids().chain([WalletId::new(u32::MAX - 1)]) {
                let _ = (graph.address(wallet), graph.network(wallet), graph.order(wallet), graph.is_active(wallet));
                for side in [Side::Out, Side::In] {
                    let _ = graph.degree(wallet, side);
                    let _ = graph.transfers(wallet, side, |_| Ok::<_, Damaged>(()));
                    for filter in filters(&graph) {
                        let _ = graph.edges(wallet, side, &filter, |_| Ok::<_, Damaged>(()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_damaged_or_foreign_segment_is_refused(
        before in rows(30),
        other in rows(30),
        added in rows(20),
        hit in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        cut in any::<prop::sample::Index>(),
    ) {
        let base = build(&before);
        let mut overlay = Overlay::new();
        for row in &added {
            row.with(|transfer| overlay.add_from(&base, row.source(), transfer)).unwrap();
        }
        let segment = overlay.to_segment(&provenance(1)).unwrap();
        let mut changed = segment.clone();
        changed[hit.index(segment.len())] ^= 1 << bit;
        prop_assert!(Overlay::of_segment(&base, &changed).is_err());
        prop_assert!(Overlay::of_segment(&base, &segment[..cut.index(segment.len())]).is_err());
        let of_next = overlay.to_segment(&provenance(2)).unwrap();
        prop_assert!(Overlay::of_segment(&base, &of_next).is_err());
        // Of another base with the same generation: refused, or without a number out of range.
        if let Ok((_, overlay)) = Overlay::of_segment(&build(&other), &segment) {
            let base = build(&other);
            let graph = Graph::new(&base, &overlay);
            for wallet in graph.wallet_ids() {
                for side in [Side::Out, Side::In] {
                    let _ = graph.transfers(wallet, side, |_| Ok::<_, Damaged>(()));
                    let _ = graph.edges(wallet, side, &EdgeFilter::default(), |_| Ok::<_, Damaged>(()));
                }
            }
        }
    }

    #[test]
    fn what_is_not_in_the_graph_cannot_be_taken_away(before in rows(20), other in rows(10)) {
        let base = build(&before);
        let mut overlay = Overlay::new();
        for row in other.iter().filter(|row| !before.contains(row)) {
            prop_assert_eq!(row.with(|transfer| overlay.remove_from(&base, row.source(), transfer)), Err(NotInGraph::Missing));
        }
        prop_assert!(overlay.is_empty());
    }
}

/// A wallet with 40,000 transfers to 8,000 others.
fn hub_rows() -> impl Iterator<Item = (String, i64)> {
    (0..40_000).map(|number| (format!("peer{}", number % 8_000), number))
}

fn with_hub_row<R>(peer: &str, time: i64, status: Status, use_it: impl FnOnce(&TransferRow<'_>) -> R) -> R {
    use_it(&TransferRow {
        network: NETWORKS[0],
        from: Some("hub"),
        to: Some(peer),
        token: None,
        time,
        value: U256::new(1),
        position: Position::default(),
        status,
    })
}

#[test]
fn pairs_of_a_hub_that_lost_transfers_cost_one_pass_that_can_be_interrupted() {
    static POLLS: AtomicUsize = AtomicUsize::new(0);
    fn poll() {
        POLLS.fetch_add(1, Ordering::Relaxed);
    }
    let mut builder = Builder::new(HeapScratch, 0).unwrap();
    for (peer, time) in hub_rows() {
        with_hub_row(&peer, time, Status::Pending, |row| builder.push(row)).unwrap();
    }
    let sink = HeapSink::default();
    builder.finish(&mut Uninterrupted).unwrap().write(&provenance(1), &sink, &mut Uninterrupted).unwrap();
    let base = opened(sink);
    let mut overlay = Overlay::new();
    for (peer, time) in hub_rows().take(4_000) {
        with_hub_row(&peer, time, Status::Pending, |row| overlay.remove(&base, row)).unwrap();
        with_hub_row(&peer, time, Status::Confirmed, |row| overlay.add(&base, row)).unwrap();
    }
    let graph = Graph::new(&base, &overlay).with_poll(poll);
    let hub = graph.wallet(NETWORKS[0], "hub").unwrap().unwrap();
    let transfers = |filter: &EdgeFilter| {
        let mut transfers = 0;
        let sum = |edge: Edge| -> Result<(), Damaged> {
            transfers += edge.transfers;
            Ok(())
        };
        graph.edges(hub, Side::Out, filter, sum).unwrap();
        (transfers, POLLS.swap(0, Ordering::Relaxed))
    };
    // 40,000 transfers are read once, for all of the 4,000 pairs together.
    assert_eq!(transfers(&EdgeFilter::default()), (40_000, 4));
    assert_eq!(transfers(&EdgeFilter::default()), (40_000, 0));
    assert_eq!(transfers(&EdgeFilter { since: Some(0), ..EdgeFilter::default() }), (40_000, 4));
}

fn base_bytes(base: &Base<HeapBuffer>) -> Vec<u8> {
    base.bytes().to_vec()
}

struct Cut(HeapBuffer, usize);

impl std::ops::Deref for Cut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

fn aligned(bytes: &[u8]) -> Cut {
    let mut buffer = HeapScratch.allocate(bytes.len()).unwrap();
    buffer[..bytes.len()].copy_from_slice(bytes);
    Cut(buffer, bytes.len())
}

#[test]
fn an_empty_graph_is_a_graph() {
    let base = build(&[]);
    // Number 0 stands for a missing sender.
    assert_eq!((base.wallets(), base.transfers(), base.pairs()), (1, 0, 0));
    let overlay = Overlay::new();
    assert_eq!(Graph::new(&base, &overlay).wallet("ethereum", "a"), Ok(None));
}

#[test]
fn files_say_where_they_come_from_and_what_they_are() {
    let base = build(&[]);
    assert_eq!(base.provenance(), &provenance(1));
    for bytes in [&b""[..], b"ARXGRAPH", &[0; 4096]] {
        assert!(Base::open(bytes).is_err());
    }
}
