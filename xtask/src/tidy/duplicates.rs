//! One crate in several versions costs build time and size: known cases are listed, new ones fail.

use super::{Checkout, Findings, listed};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

const LIST: &str = "xtask/duplicates.txt";

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in checkout.metadata.packages.values() {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let list = checkout.read(LIST)?;
    Ok(compare(&versions, &listed::parse(&list)?))
}

fn compare(found: &BTreeMap<&str, BTreeSet<&str>>, listed: &BTreeMap<&str, &str>) -> Findings {
    let new = found.iter().filter(|(name, _)| !listed.contains_key(*name)).map(|(name, versions)| {
        let versions = versions.iter().copied().collect::<Vec<_>>().join(" and ");
        format!("{name} comes as {versions}: `cargo tree -i` says through whom; else list it in {LIST}")
    });
    let gone = listed.keys().filter(|name| !found.contains_key(*name));
    new.chain(gone.map(|name| format!("{name} comes once only: take it out of {LIST}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_and_gone_duplicates_are_found() {
        let found = BTreeMap::from([("syn", BTreeSet::from(["1", "2"])), ("hashbrown", BTreeSet::from(["3", "4"]))]);
        let listed = BTreeMap::from([("syn", "known"), ("rand", "known")]);
        let findings = compare(&found, &listed);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].starts_with("hashbrown comes as 3 and 4"));
        assert!(findings[1].starts_with("rand comes once only"));
    }
}
