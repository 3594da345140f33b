//! The pure rules of the cluster's side, and the records that programs hand to each other.
//!
//! No client, no clock, no runtime: facts come in as values, time as an argument, and what comes out is a value again.
//! What decides whether a volume may be empty stands in [`decide`]; everything else here exists so that the operator,
//! the catalog and the mover say the same thing with the same words.

pub mod crds;
pub mod cron;
pub mod decide;
pub mod exists;
pub mod exit;
pub mod id;
pub mod ledger;
pub mod mover;
pub mod naming;
pub mod overview;
pub mod owner;
pub mod recorded;
pub mod retain;
pub mod rights;
pub mod schedule;
pub mod span;
pub mod v1alpha1;
pub mod validate;
pub mod volsync;
