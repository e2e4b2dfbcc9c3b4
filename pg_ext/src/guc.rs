//! Settings: each a private static, registered once, read through a typed accessor.

use std::ffi::CStr;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

/// 256 MB hold some 700,000 wallets, more than the whole component of a typical illicit wallet at
/// three hops.
static GRAPH_WORK_MEM_KB: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);

/// Reading 50,000 changes into an overlay takes some 50 ms once a session; merging them takes about
/// as long as copying the file.
static GRAPH_DELTA_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(50_000);

/// Daily prices are in force for their day.
static MAX_PRICE_AGE: GucSetting<i32> = GucSetting::<i32>::new(24 * 60 * 60);

static GRAPH_FRESHNESS: GucSetting<Freshness> = GucSetting::<Freshness>::new(Freshness::Exact);

/// Freshness of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub(crate) enum Freshness {
    /// Equal to plain SQL in the same transaction.
    #[name = c"exact"]
    Exact,
    /// The newest base, without changes since.
    #[name = c"base"]
    Base,
}

pub(crate) fn register() {
    GucRegistry::define_int_guc(
        c"arx.graph_work_mem",
        c"Sets the maximum memory to be used by one graph function.",
        c"A function that needs more fails. If this value is specified without units, it is taken as kilobytes.",
        &GRAPH_WORK_MEM_KB,
        64,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"arx.graph_delta_limit",
        c"Sets the number of changed transfers above which they are merged into a new graph file.",
        c"The first call that finds more of them has a background worker merge them, and does not wait for it.",
        &GRAPH_DELTA_LIMIT,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"arx.max_price_age",
        c"Sets the age up to which a price of arx.asset_prices is in force.",
        c"A transfer without a price of that age has no value in USD. If this value is specified without units, it is taken as seconds.",
        &MAX_PRICE_AGE,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_enum_guc(
        c"arx.graph_freshness",
        c"Sets the freshness of answers of graph functions.",
        c"exact: as plain SQL in the same transaction. base: as of the newest graph file, without reading changes.",
        &GRAPH_FRESHNESS,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Number of changes above which they are merged.
pub(crate) fn graph_delta_limit() -> usize {
    usize::try_from(GRAPH_DELTA_LIMIT.get()).unwrap_or(usize::MAX)
}

/// Age up to which a price is in force, in microseconds.
pub(crate) fn max_price_age() -> i64 {
    i64::from(MAX_PRICE_AGE.get()) * 1_000_000
}

pub(crate) fn accepts_stale_base() -> bool {
    GRAPH_FRESHNESS.get() == Freshness::Base
}

/// Bytes that one graph function may use.
pub(crate) fn graph_work_mem() -> usize {
    usize::try_from(GRAPH_WORK_MEM_KB.get()).unwrap_or(0).saturating_mul(1024)
}

/// Changes a setting until the end of its nesting level.
///
/// # Safety
/// Within a nesting level of settings.
#[allow(unsafe_code, reason = "the server has no safe call for it")]
pub(crate) unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: Both end with NUL, and are a setting and its value.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}
