//! Every store and every layer against the one contract, and each store's own troubles.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod conformance;
mod filesystem;
mod layers;
mod probe;
mod s3;
mod support;
mod versitygw;
