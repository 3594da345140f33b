//! Every dependency's licence against the list in `deny.toml`, and every dependency's origin.

use super::{Checkout, Findings};
use crate::checkout::Package;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

/// How the lock file writes the one registry that we use.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let deny = checkout.read("deny.toml")?;
    let allowed = allowed(&deny)?;
    let judged = checkout.metadata.packages.values().filter_map(|package| judge(package, &allowed));
    Ok(judged.collect())
}

fn judge(package: &Package, allowed: &BTreeSet<&str>) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    if package.source.as_deref().is_some_and(|source| source != REGISTRY) {
        return Some(format!("{name} does not come from the registry"));
    }
    let Some(license) = &package.license else {
        return Some(format!("{name} names no licence"));
    };
    match satisfied(license, allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} is under {license}, which deny.toml does not allow")),
        Err(error) => Some(format!("{name} has a licence that cannot be read: {error:#}")),
    }
}

/// The quoted words of `allow = […]` in the section `[licenses]`.
fn allowed(deny: &str) -> Result<BTreeSet<&str>> {
    let (_, section) = deny.split_once("[licenses]").context("deny.toml has no section [licenses]")?;
    let (_, list) = section.split_once("allow = [").context("deny.toml allows no licences")?;
    let (list, _) = list.split_once(']').context("the list of licences in deny.toml does not end")?;
    let without_comments = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    Ok(without_comments.flat_map(|line| line.split('"').skip(1).step_by(2)).collect())
}

/// Can the SPDX expression be met with allowed licences alone?
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> Result<bool> {
    // `MIT/Apache-2.0` is how crates wrote OR before cargo took SPDX; brackets become words of their own.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let answer = parser.either().with_context(|| expression.to_owned())?;
    if !parser.words.is_empty() {
        bail!("{expression}: {} is too much", parser.words.join(" "));
    }
    Ok(answer)
}

/// Recursive descent; each level answers whether its part can be met.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<&'a str>,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Result<bool> {
        let mut answer = self.both()?;
        while self.take("OR") {
            // Not `||` alone: the right side must be read even when the left is enough.
            let right = self.both()?;
            answer = answer || right;
        }
        Ok(answer)
    }

    fn both(&mut self) -> Result<bool> {
        let mut answer = self.one()?;
        while self.take("AND") {
            let right = self.one()?;
            answer = answer && right;
        }
        Ok(answer)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let answer = self.either()?;
            if !self.take(")") {
                bail!("a bracket stays open");
            }
            return Ok(answer);
        }
        let license = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            // An exception only ever gives more rights.
            return Ok(
                self.allowed.contains(license) || self.allowed.contains(format!("{license} WITH {exception}").as_str())
            );
        }
        Ok(self.allowed.contains(license))
    }

    fn word(&mut self) -> Result<&'a str> {
        match self.words.split_first() {
            Some((word, rest)) if !["OR", "AND", "WITH", "(", ")"].contains(word) => {
                self.words = rest;
                Ok(word)
            }
            _ => bail!("a licence is missing"),
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC", "Unicode-3.0"]);
        assert_eq!(satisfied(expression, &allowed).expect("a valid expression"), expected, "{expression}");
    }

    #[test]
    fn expressions_are_met_or_not() {
        check("MIT", true);
        check("GPL-3.0-only", false);
        check("MIT OR GPL-3.0-only", true);
        check("GPL-3.0-only OR MIT", true);
        check("MIT AND GPL-3.0-only", false);
        check("Apache-2.0 AND ISC", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("(GPL-2.0-only OR LGPL-2.1-only) AND MIT", false);
        check("MIT/Apache-2.0", true);
        check("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true);
        check("GPL-2.0-only WITH Classpath-exception-2.0", false);
    }

    #[test]
    fn and_binds_closer_than_or() {
        check("MIT OR ISC AND GPL-3.0-only", true);
        check("GPL-3.0-only AND ISC OR GPL-2.0-only", false);
    }

    #[test]
    fn half_an_expression_is_an_error() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT ISC", "AND MIT", "MIT WITH"] {
            assert!(satisfied(expression, &BTreeSet::new()).is_err(), "{expression}");
        }
    }

    #[test]
    fn the_list_is_read_from_its_section() -> Result<()> {
        let deny = "[bans]\nallow = [\"no\"]\n[licenses]\nallow = [\n  \"MIT\", # \"not this\"\n  \"ISC\",\n]\n";
        assert_eq!(allowed(deny)?, BTreeSet::from(["ISC", "MIT"]));
        Ok(())
    }
}
