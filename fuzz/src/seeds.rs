//! Seeds that are generated, because their formats are binary. `UPDATE_SEEDS=1 cargo test -p
//! arx-fuzz` writes them again.

use arx_core::graph::U256;
use arx_pgwire::numeric::{MAX_DATUM_BYTES, MAX_WIRE_BYTES, encode_datum, encode_wire};
use arx_udf::{Models, known_answers};

use crate::graph_file::{build, rows};
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
    row_binary().into_iter().chain(graph_file()).chain(copy_rows()).chain(numerics()).collect()
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

fn graph_file() -> impl Iterator<Item = Seed> {
    let sizes = [("empty", 0), ("two", 2), ("all", rows().len())];
    sizes.into_iter().map(|(name, count)| {
        let bytes = build(&rows()[..count]);
        Seed { target: "graph_file", name: name.to_owned(), bytes }
    })
}

/// Returns messages of two rows for each layout: a complete row, and one with NULL in every
/// optional column.
fn copy_rows() -> impl Iterator<Item = Seed> {
    (0_u8..16).map(|layout| {
        let [tombstones, uncounted, transfers, more_columns] = [1, 2, 4, 8].map(|flag| layout & flag > 0);
        let row = |optional: bool| {
            let mut row = Row::default();
            row.put(&700_000_000_000_000_i64.to_be_bytes()).put(b"testnet").put(b"hash");
            if tombstones {
                row.put(b"a").optional(optional, b"b");
                return row.0;
            }
            row.optional(optional, &7_i64.to_be_bytes()).optional(optional, &1_i32.to_be_bytes());
            row.put(b"a").optional(optional, b"b");
            row.put(&numeric(&[12, 5000], 0)).optional(optional, &numeric(&[99], 0));
            row.optional(optional, &21_000_i64.to_be_bytes()).optional(optional, &5_i64.to_be_bytes());
            row.put(b"confirmed").optional(optional, b"{}");
            if !uncounted {
                row.put(&1_i16.to_be_bytes());
            }
            if more_columns {
                row.optional(optional, b"text").optional(optional, &137_i32.to_be_bytes());
            }
            if transfers {
                for element in
                    [&2_i32.to_be_bytes()[..], b"usd", b"a", b"b", &numeric(&[1, 2345], 1), &numeric(&[3], 0)]
                {
                    row.optional(optional, &array(element));
                }
            }
            row.0
        };
        let mut bytes = vec![layout];
        for message in [row(true), row(false)] {
            bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend(message);
        }
        Seed { target: "copy_rows", name: format!("layout-{layout:02}"), bytes }
    })
}

/// Returns amounts in both forms of `numeric`.
fn numerics() -> impl Iterator<Item = Seed> {
    let amounts = [("zero", U256::ZERO), ("small", U256::new(10_234_500)), ("largest", U256::MAX)];
    amounts.into_iter().flat_map(|(name, amount)| {
        let (mut wire, mut datum) = ([0; MAX_WIRE_BYTES], [0; MAX_DATUM_BYTES]);
        let (wire_length, datum_length) = (encode_wire(amount, 18, &mut wire), encode_datum(amount, 18, &mut datum));
        [
            Seed { target: "numeric", name: format!("wire-{name}"), bytes: wire[..wire_length].to_vec() },
            Seed { target: "numeric", name: format!("datum-{name}"), bytes: datum[..datum_length].to_vec() },
            Seed { target: "numeric", name: format!("text-{name}"), bytes: amount.to_string().into_bytes() },
        ]
    })
}

/// A row in PostgreSQL's binary COPY format. The number of fields is not checked.
struct Row(Vec<u8>);

impl Default for Row {
    fn default() -> Self {
        Self(vec![0, 1])
    }
}

impl Row {
    fn put(&mut self, field: &[u8]) -> &mut Self {
        self.0.extend(i32::try_from(field.len()).unwrap().to_be_bytes());
        self.0.extend(field);
        self
    }

    fn optional(&mut self, is_present: bool, field: &[u8]) -> &mut Self {
        if is_present {
            return self.put(field);
        }
        self.0.extend((-1_i32).to_be_bytes());
        self
    }
}

/// A non-negative numeric in wire format: digits in base 10,000, and the weight of the first one.
fn numeric(digits: &[i16], weight: i16) -> Vec<u8> {
    let count = i16::try_from(digits.len()).unwrap();
    [count, weight, 0, 18].iter().chain(digits).flat_map(|number| number.to_be_bytes()).collect()
}

/// An array with one element.
fn array(element: &[u8]) -> Vec<u8> {
    let length = i32::try_from(element.len()).unwrap();
    let header = [1, 0, 25, 1, 1, length].into_iter().flat_map(i32::to_be_bytes);
    header.chain(element.iter().copied()).collect()
}
