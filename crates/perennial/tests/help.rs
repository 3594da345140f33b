//! All help in one file, reviewed as prose. `PERENNIAL_BLESS=1` writes it anew. The options of every command are the same
//! everywhere and stand there once.

use crate::support::Place;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");

#[test]
fn help_is_what_was_reviewed() {
    let place = Place::new();
    let mut text = String::new();
    let mut shared_before: Option<String> = None;
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let help = help(&place, &command);
        let shared = shared_options(&help);
        let help = match &shared_before {
            None => help.clone(),
            Some(before) => {
                assert_eq!(*before, shared);
                help.replace(&shared, "")
            }
        };
        shared_before = Some(shared);
        text.push_str(&format!(
            "$ perennial {}\n{help}\n",
            [command.as_slice(), &["--help".to_owned()]].concat().join(" ")
        ));
        for name in commands(&help).into_iter().rev() {
            open.push([command.as_slice(), &[name]].concat());
        }
    }
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(reviewed == text, "help is not as in {FILE}: look at it, then run this test with PERENNIAL_BLESS=1");
}

fn help(place: &Place, command: &[String]) -> String {
    let output = place.command().env("COLUMNS", "100").args(command).arg("--help").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The section that every command has, its heading included.
fn shared_options(help: &str) -> String {
    let lines = help.lines().skip_while(|line| *line != "Options of every command:");
    let lines: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    assert!(lines.len() > 10);
    lines.join("\n") + "\n"
}

/// The names under `Commands:`.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}
