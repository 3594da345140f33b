//! The product's main job: one label on a claim, on a real cluster.

mod audit;
mod authorities;
mod claims;
mod destinations;
mod directories;
mod external_secrets;
mod gitops;
mod guard;
mod ids;
mod limits;
mod movers;
mod namespaces;
mod orphans;
mod outages;
mod policies;
mod repositories;
mod words;
mod wrong;
