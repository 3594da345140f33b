//! Source and test files that no `mod` names are compiled by nobody and fail for nobody.

use super::{Checkout, Findings};
use crate::checkout::Target;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Directories of a package whose Rust files belong to one of its targets.
const DIRECTORIES: [&str; 4] = ["src", "tests", "benches", "examples"];

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut findings = Findings::new();
    for package in checkout.metadata.members() {
        let Some(directory) = package.manifest_path.parent() else { continue };
        // One that needs a feature is built by whoever runs it: tests of different clusters, one cluster at a time.
        let is_built = |target: &&Target| is_test(&target.kind) && target.required_features.is_empty();
        let test_binaries: Vec<_> = package.targets.iter().filter(is_built).collect();
        if test_binaries.len() > 1 {
            let names = test_binaries.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ");
            findings
                .push(format!("{} has several integration binaries ({names}): make them modules of one", package.name));
        }
        let roots = package.targets.iter().map(|target| target.src_path.clone());
        let named = reach(roots, |file| std::fs::read_to_string(file).ok());
        let ours = |file: &&PathBuf| {
            let inside = file.strip_prefix(directory).ok().and_then(|inside| inside.components().next());
            inside.is_some_and(|first| DIRECTORIES.iter().any(|name| first.as_os_str() == *name))
        };
        let files: Vec<PathBuf> = checkout.files_with_extension("rs").map(|file| checkout.root.join(file)).collect();
        for file in files.iter().filter(ours).filter(|file| !named.contains(*file)) {
            let file = file.strip_prefix(&checkout.root).unwrap_or(file);
            findings.push(format!("{} is named by no `mod`: nothing compiles it", file.display()));
        }
    }
    Ok(findings)
}

fn is_test(kind: &[String]) -> bool {
    kind.iter().any(|kind| kind == "test")
}

/// All files that `mod` lines reach from `roots`, the roots included.
fn reach(roots: impl Iterator<Item = PathBuf>, read: impl Fn(&Path) -> Option<String>) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<(PathBuf, bool)> = roots.map(|root| (root, true)).collect();
    while let Some((file, is_root)) = open.pop() {
        // A file that is not there is no module's file: `mod` names two possible ones.
        let Some(text) = read(&file) else { continue };
        if !reached.insert(file.clone()) {
            continue;
        }
        let Some(parent) = file.parent() else { continue };
        let own_directory = is_root || file.file_name().is_some_and(|name| name == "mod.rs");
        let directory = if own_directory { parent.to_owned() } else { file.with_extension("") };
        for (name, path) in module_lines(&text) {
            match path {
                Some(path) => open.push((parent.join(path), false)),
                None => {
                    open.push((directory.join(format!("{name}.rs")), false));
                    open.push((directory.join(name).join("mod.rs"), false));
                }
            }
        }
    }
    reached
}

/// The names of `mod name;` lines, each with its `#[path]` where it has one.
fn module_lines(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut modules = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next();
            continue;
        }
        let declaration = line.split("//").next().unwrap_or_default().trim_end().strip_suffix(';');
        let name = declaration.and_then(|declaration| match declaration.rsplit_once("mod ") {
            Some((before, name)) if before.is_empty() || before.starts_with("pub") => Some(name.trim()),
            _ => None,
        });
        if let Some(name) = name {
            modules.push((name, path.take()));
        } else if !line.starts_with('#') {
            path = None;
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn module_lines_are_read() {
        let text = "//! mod no;\nmod a;\npub mod b; // why\npub(crate) mod c;\nmod inline { fn f() {} }\n#[cfg(test)]\n#[path = \"other.rs\"]\nmod d;\nlet model = 1;\n";
        assert_eq!(module_lines(text), [("a", None), ("b", None), ("c", None), ("d", Some("other.rs"))]);
    }

    #[test]
    fn files_are_reached_from_their_root_only() {
        let files = BTreeMap::from([
            ("tests/main.rs", "mod backup;\nmod deep;\n"),
            ("tests/backup.rs", "mod inner;\n"),
            ("tests/backup/inner.rs", ""),
            ("tests/deep/mod.rs", "mod leaf;\n"),
            ("tests/deep/leaf.rs", ""),
            ("tests/forgotten.rs", ""),
        ]);
        let read = |file: &Path| file.to_str().and_then(|name| files.get(name)).map(|text| (*text).to_owned());
        let reached = reach([PathBuf::from("tests/main.rs")].into_iter(), read);
        let forgotten: Vec<_> = files.keys().filter(|file| !reached.contains(Path::new(file))).collect();
        assert_eq!(forgotten, [&"tests/forgotten.rs"]);
    }
}
