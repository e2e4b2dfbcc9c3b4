//! Seeds that are generated, because their formats are binary. `UPDATE_SEEDS=1 cargo test -p arx-fuzz` writes them again.

use arx_udf::{Models, known_answers};

use crate::row_binary::FUNCTIONS;

/// A generated seed.
#[derive(Debug)]
pub struct Seed {
    pub target: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Generates the seeds of all targets.
#[must_use]
pub fn generated() -> Vec<Seed> {
    row_binary()
}

/// Returns one chunk for each function, with the rows of its self-test.
fn row_binary() -> Vec<Seed> {
    let vectors = known_answers(&Models::compiled_in().unwrap()).unwrap();
    let seed = |(selector, function)| {
        let rows: Vec<&[u8]> =
            vectors.iter().filter(|vector| vector.function == function).map(|vector| &*vector.row).take(4).collect();
        let bytes = [&[selector], format!("{}\n", rows.len()).as_bytes(), &rows.concat()].concat();
        Seed { target: "row_binary", name: format!("self-test-{}", function.command()), bytes }
    };
    (0_u8..).zip(FUNCTIONS).map(seed).collect()
}
