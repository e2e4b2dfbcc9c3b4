//! Risk scores: of one wallet with reasons and evidence, of many, and the scorecards behind them.

mod batch;
mod fitting;
mod models;
mod scorer;
mod wallet;
