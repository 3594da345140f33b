//! What can stand between a store and its user: each layer is one concern and is itself a [`Storage`](crate::Storage).
//!
//! In the usual order, from the user to the store: cache, retry, limit, meter. So the meter counts every attempt, and a
//! waiting retry holds no permit.

pub mod cache;
pub mod limit;
pub mod meter;
pub mod retry;
