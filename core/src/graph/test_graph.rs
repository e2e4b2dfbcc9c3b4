//! Small graphs for tests of searches. Wallets have test numbers; some rows are in the base, some
//! in the overlay.

use crate::graph::*;

pub(crate) use crate::graph::file::tests::provenance;

const NETWORK: &str = "testnet";

/// A transfer of a test graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub from: u32,
    pub to: u32,
    /// 0 for the native coin.
    pub token: u32,
    pub time: i64,
    pub value: u128,
}

impl Sent {
    pub(crate) fn coins(from: u32, to: u32, value: u128) -> Self {
        Self { from, to, token: 0, time: 0, value }
    }
}

/// A base and its overlay.
pub(crate) struct TestGraph {
    base: Base<HeapBuffer>,
    overlay: Overlay,
}

/// Returns the address of a wallet; addresses are not in the order of numbers.
pub(crate) fn name(wallet: u32) -> String {
    if wallet < 1000 { format!("w{:03}", (wallet * 7 + 3) % 1000) } else { format!("x{wallet}") }
}

impl TestGraph {
    /// Puts the last `overlay_rows` rows into the overlay, and the others into the base.
    pub(crate) fn new(rows: &[Sent], overlay_rows: usize) -> Self {
        Self::with_failed(rows, |_| false, overlay_rows)
    }

    /// Builds a graph like [`Self::new`], with failed rows selected by index.
    pub(crate) fn with_failed(rows: &[Sent], failed: impl Fn(usize) -> bool, overlay_rows: usize) -> Self {
        Self::with(rows, failed, |number| Position { block: number as u64, ..Position::default() }, overlay_rows)
    }

    /// Builds a graph in which rows of the same time have no order.
    pub(crate) fn in_one_block(rows: &[Sent], overlay_rows: usize) -> Self {
        Self::with(rows, |_| false, |_| Position::default(), overlay_rows)
    }

    /// Builds a graph like [`Self::new`], with failed rows and positions by index.
    pub(crate) fn with(
        rows: &[Sent],
        failed: impl Fn(usize) -> bool,
        position: impl Fn(usize) -> Position,
        overlay_rows: usize,
    ) -> Self {
        let status = |number| if failed(number) { Status::Failed } else { Status::Confirmed };
        let (built, overlaid) = rows.split_at(rows.len() - overlay_rows.min(rows.len()));
        let mut builder = Builder::new(HeapScratch, 0).unwrap();
        for (number, row) in built.iter().enumerate() {
            with_row(row, position(number), status(number), |row| builder.push(row)).unwrap();
        }
        let plan = builder.finish(&mut Uninterrupted).unwrap();
        let sink = HeapSink::default();
        plan.write(&provenance(1), &sink, &mut Uninterrupted).unwrap();
        let base = Base::open(sink.into_file().0).unwrap();
        let mut overlay = Overlay::new();
        for (number, row) in overlaid.iter().enumerate() {
            let number = built.len() + number;
            with_row(row, position(number), status(number), |row| overlay.add(&base, row)).unwrap();
        }
        Self { base, overlay }
    }

    pub(crate) fn base_bytes(&self) -> &[u8] {
        self.base.bytes()
    }

    pub(crate) fn graph(&self) -> Graph<'_> {
        Graph::new(&self.base, &self.overlay)
    }

    /// Returns the id of a wallet; an id out of range for a wallet without transfers.
    pub(crate) fn wallet(&self, number: u32) -> WalletId {
        let graph = self.graph();
        graph.wallet(NETWORK, &name(number)).unwrap().unwrap_or(WalletId::new(graph.wallets() + number))
    }

    /// Returns the test number of a wallet.
    pub(crate) fn number(&self, wallet: WalletId) -> u32 {
        (0..1000).find(|number| self.wallet(*number) == wallet).unwrap()
    }

    pub(crate) fn token(&self, number: u32) -> AssetId {
        let asset = || self.graph().asset(NETWORK, &format!("t{number}")).unwrap();
        if number == 0 { AssetId::NATIVE } else { asset().unwrap_or(AssetId::new(99)) }
    }
}

fn with_row<R>(row: &Sent, position: Position, status: Status, use_it: impl FnOnce(&TransferRow<'_>) -> R) -> R {
    let (from, to, token) = (name(row.from), name(row.to), format!("t{}", row.token));
    use_it(&TransferRow {
        network: NETWORK,
        from: Some(&from),
        to: Some(&to),
        token: (row.token > 0).then_some(&*token),
        time: row.time,
        value: U256::new(row.value),
        position,
        status,
    })
}

/// An interrupt that stops a search at the given check.
pub(crate) struct Patience(pub u32);

impl Interrupt for Patience {
    fn should_stop(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

/// Limits of depth alone.
pub(crate) fn limits(max_depth: i32) -> SearchLimits {
    SearchLimits { max_depth, max_wallets: None, memory: MemoryBudget::new(1 << 26) }
}
