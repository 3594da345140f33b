//! How long the product's main job takes on a cluster, and what it asks of the API server: numbers for docs/benchmarks.md.
//! `cargo xtask e2e --measure`; nothing else should run beside it.

mod life;
mod wave;
