//! Stores in, decisions and HTTP answers out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

mod directories;
mod http;
mod sharing;
mod table;
mod world;
