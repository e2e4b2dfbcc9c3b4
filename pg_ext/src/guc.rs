//! Settings: a private static each, registered once, read through a typed accessor.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// 256 MB: some 700,000 wallets, which is more than the whole component of a typical illicit wallet at three hops.
static GRAPH_WORK_MEM_KB: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);

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
}

/// Bytes that one traversal may use.
pub fn graph_work_mem() -> usize {
    usize::try_from(GRAPH_WORK_MEM_KB.get()).unwrap_or(0).saturating_mul(1024)
}
