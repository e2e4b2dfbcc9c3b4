//! Names of partitions, and what to do when one is taken.

use std::collections::BTreeSet;

use super::{Cell, Grid};

/// Longest name of a partition, in bytes. The database must allow names of this length.
pub const MAX_NAME_BYTES: usize = 63;

/// Returns the name of a cell's partition: the table's name and [`Grid::suffix`], such as
/// `<table>_2024_01`, with the table's part cut to fit into [`MAX_NAME_BYTES`].
#[must_use]
pub fn partition_name(relation: &str, grid: &Grid, cell: Cell) -> String {
    with_suffix(relation, &format!("_{}", grid.suffix(cell)))
}

/// Returns the name of a network's partition: `<table>_<network>`, in letters, digits and
/// underscores. Names of two networks may give the same one: see [`free_name`].
#[must_use]
pub fn network_partition_name(relation: &str, network: &str) -> String {
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
    with_suffix(&format!("{relation}_{}", network.chars().map(plain).collect::<String>()), "")
}

/// Returns the name of one of the parts into which a partition is split by hash.
#[must_use]
pub fn part_name(partition: &str, remainder: u32) -> String {
    with_suffix(partition, &format!("_p{remainder}"))
}

/// Returns the name of the table that holds the quarantined rows of another one.
#[must_use]
pub fn quarantine_name(relation: &str) -> String {
    with_suffix(relation, "_quarantine")
}

/// Returns `wanted`, or the first of `<wanted>_2`, `<wanted>_3` and so on that is not taken.
#[must_use]
pub fn free_name(wanted: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (2_u64..).map(|number| with_suffix(wanted, &format!("_{number}")));
    // There are more numbers than names that can be taken.
    std::iter::once(with_suffix(wanted, "")).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Appends a suffix to a name that is cut to make room for it.
fn with_suffix(name: &str, suffix: &str) -> String {
    let stem = name.floor_char_boundary(MAX_NAME_BYTES.saturating_sub(suffix.len()));
    format!("{}{suffix}", &name[..stem])
}
