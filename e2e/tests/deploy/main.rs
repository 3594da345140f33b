//! What is shipped for clusters, judged by other people's tools: `cargo xtask deploy --check`.

mod alerts;
mod chart;
mod kustomize;
