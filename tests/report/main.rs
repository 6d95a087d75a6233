//! Every output format, on reports built by hand: what people read is snapshotted, what programs read is
//! validated against its schema.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets something unexpected should stop there"
)]

mod json;
mod people;
mod sample;
mod sarif;
mod views;
