//! Patterns match their definitions.

mod definitions;
mod planted;
mod properties;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::graph::test_graph::{Sent, TestGraph, name};
use crate::graph::{EdgeFilter, Uninterrupted};

/// A pattern that is found in small graphs.
fn small(name: &str) -> Value {
    match name {
        "fan_out" | "fan_in" | "gather_scatter" | "scatter_gather" => json!({"min_fan": 2}),
        "cycle" => json!({"min_length": 2, "tolerance": 0.5}),
        "bipartite" => json!({"min_sources": 2, "min_sinks": 2}),
        "random_walk" => json!({"min_length": 2, "tolerance": 0.4}),
        "peeling_chain" => json!({"min_length": 2, "max_peel": 0.5}),
        "pass_through" => json!({"tolerance": 0.3}),
        "structuring" => json!({"min_transfers": 2, "margin": 0.5}),
        "dormant_awakened" => json!({"min_silence_days": 2, "lookback_days": 6, "min_share": 0.3}),
        "address_poisoning" => json!({"digits": 2, "lookback_days": 5}),
        "wash_trading" => json!({"min_rounds": 1, "tolerance": 0.5}),
        _ => json!({}),
    }
}

fn scope(memory: usize) -> PatternScope<'static> {
    PatternScope {
        network: "testnet",
        asset: "native",
        filter: EdgeFilter::default(),
        scale: 0,
        wallet: None,
        max_findings: None,
        memory: MemoryBudget::new(memory),
    }
}

const ROOM: usize = 1 << 26;

fn found(test: &TestGraph, name: &str, window: i64, options: &Value) -> Detected {
    let pattern = Pattern::parse(name, window, options, 0).unwrap();
    detect(&test.graph(), &pattern, &scope(ROOM), &mut Uninterrupted).unwrap()
}

/// Transfers of a finding as (time, sender, receiver, value).
type Evidence = BTreeSet<(i64, u32, u32, u128)>;

fn evidence(test: &TestGraph, finding: &Finding) -> Evidence {
    let one = |one: &Member| (one.time, test.number(one.from), test.number(one.to), one.value.as_u128());
    finding.transfers.iter().map(one).collect()
}

/// Returns distinct rows, because evidence is a set.
fn distinct(rows: Vec<Sent>) -> Vec<Sent> {
    let mut seen = BTreeSet::new();
    rows.into_iter().filter(|row| seen.insert((row.time, row.from, row.to, row.value))).collect()
}

fn sent(from: u32, to: u32, time: i64, value: u128) -> Sent {
    Sent { from, to, token: 0, time, value }
}
