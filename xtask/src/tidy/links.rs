//! Documents: relative links lead to files that exist, and every decision record has a title.

use super::{Checkout, Findings};
use anyhow::Result;
use std::path::Path;

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut findings = Findings::new();
    for file in checkout.files_with_extension("md") {
        let directory = file.parent().unwrap_or(Path::new(""));
        for (line, target) in relative_links(&checkout.read(file)?) {
            let from = if target.starts_with('/') { Path::new("") } else { directory };
            if !checkout.root.join(from).join(target.trim_start_matches('/')).exists() {
                findings.push(format!("{}:{line}: {target} does not exist", file.display()));
            }
        }
    }
    Ok(findings)
}

/// Every record of a decision starts with its title.
pub fn check_records(checkout: &Checkout) -> Result<Findings> {
    let mut findings = Findings::new();
    for file in checkout.files_with_extension("md").filter(|file| file.starts_with("docs/adr")) {
        let text = checkout.read(file)?;
        let first = text.lines().find(|line| !line.trim().is_empty());
        if !first.is_some_and(|line| line.starts_with("# ")) {
            findings.push(format!("{}: start with a title line, `# …`", file.display()));
        }
    }
    Ok(findings)
}

/// Line numbers and targets of `[text](target)` and `[name]: target` outside code, fragments cut off.
fn relative_links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            links.extend(targets(line).filter_map(|target| Some((index + 1, relative(target)?))));
        }
    }
    links
}

/// The targets of one line; parts between backquotes are code.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let inline = line.split('`').step_by(2).flat_map(|prose| prose.split("](").skip(1));
    inline.filter_map(|rest| rest.split(')').next()).chain(definition)
}

fn relative(target: &str) -> Option<String> {
    let target = target.split_whitespace().next()?.trim_start_matches('<').trim_end_matches('>');
    let path = target.split('#').next()?;
    let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
    (!elsewhere).then(|| path.replace("%20", " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_found_outside_code() {
        let text = "See [a](docs/a.md#part) and ![b](b.png \"title\"), not `[c](c.md)`.\n```\n[d](d.md)\n```\n\
                    [e](https://example.org) [f](#here)\n[g]: ../g.md\n";
        let links: Vec<_> = relative_links(text).into_iter().map(|(line, target)| format!("{line} {target}")).collect();
        assert_eq!(links, ["1 docs/a.md", "1 b.png", "6 ../g.md"]);
    }
}
