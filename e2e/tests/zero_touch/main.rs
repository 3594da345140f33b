//! The product's main job: one label on a claim, on a real cluster.

mod audit;
mod claims;
mod guard;
mod limits;
mod movers;
mod namespaces;
mod outages;
mod policies;
mod words;
mod wrong;
