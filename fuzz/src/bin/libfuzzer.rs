//! The program that libFuzzer drives. `PERENNIAL_FUZZ` names the target.
#![no_main]

use std::sync::LazyLock;

use fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("PERENNIAL_FUZZ").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    *TARGETS
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| unreachable!("PERENNIAL_FUZZ names none of {}", names.join(", ")))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
