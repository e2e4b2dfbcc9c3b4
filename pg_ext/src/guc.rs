//! Settings: a private static each, registered once, read through a typed accessor.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// 256 MB: some 700,000 wallets, which is more than the whole component of a typical illicit wallet at three hops.
static GRAPH_WORK_MEM_KB: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);

/// 50,000: laying them over takes some 50 ms once a session, merging them into the file about as long as copying it.
static GRAPH_DELTA_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(50_000);

static GRAPH_FRESHNESS: GucSetting<Freshness> = GucSetting::<Freshness>::new(Freshness::Exact);

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum Freshness {
    /// As plain SQL would answer in the same transaction.
    #[name = c"exact"]
    Exact,
    /// As of the newest base.
    #[name = c"base"]
    Base,
}

/// Registers the settings of the extension.
pub fn register() {
    GucRegistry::define_int_guc(
        c"arx.graph_work_mem",
        c"Memory that one graph traversal may use.",
        c"A traversal that needs more ends with an error. In kilobytes unless a unit is given.",
        &GRAPH_WORK_MEM_KB,
        64,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"arx.graph_delta_limit",
        c"Changed transfers beside the graph's file from which on they are merged into a new one.",
        c"The call that finds more merges them, unless another session is building.",
        &GRAPH_DELTA_LIMIT,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"arx.graph_freshness",
        c"How fresh answers of graph functions are.",
        c"exact: as plain SQL in the same transaction. base: as of the last refresh, without asking what is new.",
        &GRAPH_FRESHNESS,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Changes from which on they are merged.
pub fn graph_delta_limit() -> usize {
    usize::try_from(GRAPH_DELTA_LIMIT.get()).unwrap_or(usize::MAX)
}

/// Whether the newest base will do as it is.
pub fn takes_base_as_it_is() -> bool {
    GRAPH_FRESHNESS.get() == Freshness::Base
}

/// Bytes that one traversal may use.
pub fn graph_work_mem() -> usize {
    usize::try_from(GRAPH_WORK_MEM_KB.get()).unwrap_or(0).saturating_mul(1024)
}
