//! Ways to silence a test, a lint or a race that we do not take.

use super::{Checkout, Findings};
use anyhow::Result;

/// What no source line may contain, in two halves so that this file does not find itself, and what to do instead.
const BANNED: &[(&str, &str, &str)] = &[
    ("#[ign", "ore", "a test that does not run proves nothing: fix it or take it out"),
    ("thread::sl", "eep(", "wait for a state, not for time"),
    ("tod", "o!(", "finish it, or return an error that says what is missing"),
];

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut findings = Findings::new();
    for file in checkout.files_with_extension("rs") {
        let text = checkout.read(file)?;
        for (number, finding) in find(&text) {
            findings.push(format!("{}:{number}: {finding}", file.display()));
        }
    }
    Ok(findings)
}

fn find(text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for (front, back, instead) in BANNED {
            let banned = format!("{front}{back}");
            if code.contains(&banned) {
                findings.push((index + 1, format!("`{banned}`: {instead}")));
            }
        }
        if allows_a_lint(code) {
            findings.push((index + 1, "say #[expect(lint, reason = \"…\")], which ends with its cause".to_owned()));
        }
    }
    findings
}

/// `allow` as an attribute of its own or inside `cfg_attr`.
fn allows_a_lint(code: &str) -> bool {
    let attribute = code.strip_prefix("#![").or_else(|| code.strip_prefix("#["));
    attribute.is_some_and(|inside| inside.starts_with("allow(") || inside.contains(" allow("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, found: bool) {
        assert_eq!(!find(line).is_empty(), found, "{line}");
    }

    #[test]
    fn banned_ways_are_found_in_code_and_not_in_comments() {
        check(&format!("    #[ign{}]", "ore"), true);
        check(&format!("std::thread::sl{}x);", "eep("), true);
        check(&format!("tod{})", "o!("), true);
        check("#[allow(dead_code)]", true);
        check("#![allow(dead_code)]", true);
        check("#[cfg_attr(test, allow(dead_code))]", true);
        check("#[expect(dead_code, reason = \"x\")]", false);
        check("policy.allow(user)", false);
        check(&format!("// thread::sl{}", "eep("), false);
    }
}
