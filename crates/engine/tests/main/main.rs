//! The engine's verbs against repositories that the real kopia wrote.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod backup;
mod bare;
mod faults;
mod forget;
mod golden;
mod hostile;
mod listings;
mod maintain;
mod misbehaving;
mod repair;
mod restore;
mod verify;
