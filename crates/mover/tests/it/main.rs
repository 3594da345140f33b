//! Tasks in, reports and repositories out: over a store in memory, over directories, and over stores that fail.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

mod backup;
mod faults;
mod ledger;
mod places;
mod restore;
mod world;
