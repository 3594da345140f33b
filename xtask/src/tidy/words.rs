//! Words that no file of ours may contain: hosts of package registries.
//!
//! Everything is fetched by package name through the ordinary clients, so that a mirror works as well. A host in a file
//! is a link that breaks elsewhere.

use super::{Checkout, Findings};
use anyhow::{Context, Result};

/// Host names, written in two halves so that this file does not find itself.
const HOSTS: &[(&str, &str)] = &[
    ("static.crates", ".io"),
    ("index.crates", ".io"),
    ("//crates", ".io"),
    ("proxy.golang", ".org"),
    ("sum.golang", ".org"),
    ("registry.npmjs", ".org"),
    ("pypi", ".org"),
    ("files.pythonhosted", ".org"),
    ("repo.maven.apache", ".org"),
    ("repo1.maven", ".org"),
    ("deb.debian", ".org"),
    ("security.debian", ".org"),
];

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let hosts: Vec<String> = HOSTS.iter().map(|(front, back)| format!("{front}{back}")).collect();
    let mut findings = Findings::new();
    for file in &checkout.files {
        let bytes = std::fs::read(checkout.root.join(file)).with_context(|| format!("read {}", file.display()))?;
        // A file that is not text is data of a test: hosts are looked for in what people write.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        findings.extend(
            find(&text, &hosts)
                .map(|(line, host)| format!("{}:{line}: names the registry host {host}", file.display())),
        );
    }
    Ok(findings)
}

/// Line numbers and hosts, in the order of the text.
fn find<'a>(text: &'a str, hosts: &'a [String]) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = text.lines().enumerate();
    lines.flat_map(move |(index, line)| {
        let here = hosts.iter().filter(move |host| line.contains(host.as_str()));
        here.map(move |host| (index + 1, host.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_with_their_line() {
        let hosts = ["registry.example".to_owned(), "mirror.example".to_owned()];
        let text = "first\nget https://registry.example/x\nmirror.example registry.example\n";
        let found: Vec<_> = find(text, &hosts).collect();
        assert_eq!(found, [(2, "registry.example"), (3, "registry.example"), (3, "mirror.example")]);
    }

    #[test]
    fn the_lock_files_own_form_is_fine() {
        let hosts: Vec<String> = HOSTS.iter().map(|(front, back)| format!("{front}{back}")).collect();
        let line = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        assert_eq!(find(line, &hosts).count(), 0);
    }
}
