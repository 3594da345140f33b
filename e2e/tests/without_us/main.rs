//! What happens while parts of the product are gone. There is one installation for all tests, so these run one after the
//! other, and in a program of their own: no tests that need it run beside them.

mod chaos;
mod dead;
mod killed;
mod lost;
mod neighbours;
mod upgraded;

use anyhow::Result;
use e2e::Space;
use std::sync::{Mutex, PoisonError};

/// As many pods as the installation's manifest says.
const OPERATORS: u32 = 2;

/// Runs one test while no other of these runs, and has the operator back afterwards.
fn alone(name: &str, body: impl AsyncFnOnce(&Space) -> Result<()>) -> Result<()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    e2e::test(name, async |space| {
        let outcome = body(space).await;
        let back = e2e::scale_operator(&space.cluster, OPERATORS).await;
        outcome.and(back)
    })
}
