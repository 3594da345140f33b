//! Lists of known exceptions: one per line, `what: reason`, `#` for comments.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// What is excepted → why.
pub fn parse(text: &str) -> Result<BTreeMap<&str, &str>> {
    let mut listed = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(':').map(|(what, reason)| (what.trim(), reason.trim())) {
            Some((what, reason)) if !what.is_empty() && !reason.is_empty() => listed.insert(what, reason),
            _ => bail!("an exception needs its reason, as `what: reason`: {line}"),
        };
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_needs_a_reason() -> Result<()> {
        assert_eq!(parse("# why\n\nsyn: two majors\n")?, BTreeMap::from([("syn", "two majors")]));
        assert!(parse("syn").is_err());
        assert!(parse("syn:  ").is_err());
        Ok(())
    }
}
