//! The command line as people and programs use it: the built program, real directories, a bucket, and the real kopia.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod busy;
mod demo;
mod failures;
mod formats;
mod full;
mod help;
mod hostile;
mod interleave;
mod interrupt;
mod kills;
mod kopia;
mod locks;
mod maintain;
mod peers;
mod repair;
mod s3;
mod search;
mod secrets;
mod support;
mod workflow;
