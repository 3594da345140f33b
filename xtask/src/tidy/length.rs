//! Past some length a file hides a second concept: those that may are listed with their reason.

use super::{Checkout, Findings, listed};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

const LIST: &str = "xtask/long-files.txt";
const LINES_MAX: usize = 600;
/// Tests repeat themselves by nature.
const TEST_LINES_MAX: usize = 900;

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut lengths = Vec::new();
    for file in checkout.files_with_extension("rs") {
        lengths.push((file, checkout.read(file)?.lines().count()));
    }
    let list = checkout.read(LIST)?;
    Ok(compare(&lengths, &listed::parse(&list)?))
}

fn compare(lengths: &[(&Path, usize)], listed: &BTreeMap<&str, &str>) -> Findings {
    let long = |(file, lines): &&(&Path, usize)| *lines > limit(file);
    let is_listed = |file: &Path| file.to_str().is_some_and(|name| listed.contains_key(name));
    let new = lengths.iter().filter(long).filter(|(file, _)| !is_listed(file)).map(|(file, lines)| {
        format!(
            "{} has {lines} lines, more than {}: look for the second concept, or list it in {LIST}",
            file.display(),
            limit(file)
        )
    });
    let still = |name: &str| lengths.iter().filter(long).any(|(file, _)| *file == Path::new(name));
    let gone = listed.keys().filter(|name| !still(name));
    new.chain(gone.map(|name| format!("{name} is not long: take it out of {LIST}"))).collect()
}

fn limit(file: &Path) -> usize {
    let in_tests = file.components().any(|part| part.as_os_str() == "tests");
    if in_tests || file.file_stem().is_some_and(|stem| stem == "tests") { TEST_LINES_MAX } else { LINES_MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found_unless_listed() {
        let lengths = [
            (Path::new("crates/a/src/lib.rs"), 601),
            (Path::new("crates/a/src/tests.rs"), 900),
            (Path::new("crates/a/tests/main.rs"), 901),
            (Path::new("crates/a/src/table.rs"), 5000),
        ];
        let listed = BTreeMap::from([("crates/a/src/table.rs", "one table"), ("crates/a/src/gone.rs", "was long")]);
        let findings = compare(&lengths, &listed);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].starts_with("crates/a/src/lib.rs has 601 lines"));
        assert!(findings[1].starts_with("crates/a/tests/main.rs has 901 lines"));
        assert!(findings[2].starts_with("crates/a/src/gone.rs is not long"));
    }
}
