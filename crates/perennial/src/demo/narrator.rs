//! The story as it is told: numbered paragraphs for people, nothing where a program reads.

use std::io::IsTerminal as _;

use crate::failure::Failure;
use crate::output;

/// Columns of a line.
const WIDTH: usize = 108;
/// Columns of a name, and where what is said of it begins.
const NAME_COLUMNS: usize = 21;
const TEXT_COLUMN: usize = 28;

/// Who is told what.
pub struct Narrator {
    is_silent: bool,
    has_colour: bool,
    step: u32,
}

impl Narrator {
    /// To standard output, coloured on a terminal unless `NO_COLOR` is set.
    pub fn new(is_silent: bool) -> Self {
        let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { is_silent, has_colour, step: 0 }
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) -> Result<(), Failure> {
        self.step += 1;
        let text = self.painted("1", &format!("{}. {title}", self.step));
        self.print(&format!("\n{text}\n"))
    }

    /// Says something in the step, wrapped.
    pub fn say(&self, text: &str) -> Result<(), Failure> {
        self.print(&wrapped(text, "   "))
    }

    /// Names something good in the step.
    pub fn good(&self, name: &str, text: &str) -> Result<(), Failure> {
        self.line("32", name, text)
    }

    /// Names something that waits for somebody.
    pub fn held(&self, name: &str, text: &str) -> Result<(), Failure> {
        self.line("33", name, text)
    }

    fn line(&self, colour: &str, name: &str, text: &str) -> Result<(), Failure> {
        // The name stands in the indent of the first line.
        let text = wrapped(&output::visible(text), &" ".repeat(TEXT_COLUMN));
        let name = self.painted(colour, &format!("{name:<NAME_COLUMNS$}"));
        self.print(&format!("{:indent$}{name}  {}", "", text.trim_start(), indent = TEXT_COLUMN - NAME_COLUMNS - 2))
    }

    /// As it stands.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        if self.is_silent { Ok(()) } else { output::print(text) }
    }

    /// In bold, for what matters most.
    pub fn bold(&self, text: &str) -> String {
        self.painted("1", text)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.has_colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        let is_full = indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH;
        if is_full && !line.is_empty() {
            lines.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push_str(&format!("{indent}{line}\n"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_end_between_words() {
        let text = wrapped(&"word ".repeat(50), "  ");
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| line.starts_with("  word") && line.len() <= super::WIDTH), "{text}");
        assert_eq!(wrapped("", "  "), "");
    }
}
