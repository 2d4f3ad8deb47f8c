//! Selective training as a whole: what a run computes, changes, counts and writes, on real digits and on a tiny net.

#![allow(clippy::unwrap_used, missing_docs)]

mod bits;
mod budget;
mod certificate;
mod checkpoint;
mod common;
mod covariance;
#[path = "../../../rgft-nn/tests/examples/mod.rs"]
mod examples;
mod ledger;
mod nets;
mod optimizer;
mod order;
mod others;
mod signals;
mod signals_of_models;
