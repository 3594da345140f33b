//! Which entries the rules of a policy and of dot-ignore files leave out.
//!
//! The language looks like gitignore's and differs from it in many corners; what counts is that a tree is cut as Kopia
//! cuts it. A pattern is compiled into tokens, and a path is matched by trying out what each star may stand for. Results
//! of these trials are remembered, so that the work is bounded by stars × path length × pattern length, while without
//! that it doubles with every star. Source: Kopia format, "Ignore rules".

use std::sync::Arc;

/// The first bytes of a file `CACHEDIR.TAG` that marks its directory as a cache: 43 of them.
///
/// Source: Kopia format, "Ignore rules".
pub const CACHEDIR_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Longest pattern in bytes: a guard, not a rule of the format. No Linux path is longer.
const PATTERN_BYTES_MAX: usize = 4096;
/// Most stars in one pattern, runs counted once: bounds recursion and memory, and is no rule of the format.
const STARS_MAX: usize = 256;

/// A rule that cannot be compiled. Kopia then fails to read the directory; so should the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ignore rule {pattern:?}: {detail}")]
pub struct IgnoreError {
    /// The rule as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub detail: &'static str,
}

/// The rules that hold for the entries of one directory: those of its ancestors first, then its own.
///
/// A clone costs one reference count; a child shares its parent's rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// From the root down, none empty.
    contexts: Arc<[Arc<[Rule]>]>,
}

impl Rules {
    /// The rules of the policy of a snapshot's root directory.
    ///
    /// Errors: [`IgnoreError`] for the first malformed rule. Source: Kopia format, "Ignore rules".
    pub fn root(policy_rules: &[String]) -> Result<Self, IgnoreError> {
        Self::default().child("", policy_rules.iter().map(String::as_str))
    }

    /// These rules and then `lines`, which stand in the directory `base`.
    ///
    /// `base` is the directory's path from the snapshot's root: empty for the root itself, else `/a/b`. `lines` are those of
    /// the directory's dot-ignore files, see [`parse_dot_ignore`], or a policy's rules. Errors: [`IgnoreError`] for the
    /// first malformed line.
    pub fn child<'a>(&self, base: &str, lines: impl Iterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let rules: Arc<[Rule]> = lines.map(|line| Rule::compile(line, base)).collect::<Result<_, _>>()?;
        if rules.is_empty() {
            return Ok(self.clone());
        }
        Ok(Self { contexts: self.contexts.iter().cloned().chain([rules]).collect() })
    }

    /// Whether the entry `path` is left out; for a directory, with everything below.
    ///
    /// `path` starts at the snapshot's root: `/a/b`, without a slash at the end. The rules must be those of the directory
    /// that holds the entry.
    pub fn is_ignored(&self, path: &str, is_directory: bool) -> bool {
        if self.contexts.is_empty() {
            return false;
        }
        let text: Vec<char> = path.chars().collect();
        let mut memory = Vec::new();
        let mut ignored = false;
        for rule in self.contexts.iter().flat_map(|context| context.iter()) {
            // A rule is asked only if it could change something.
            if ignored == rule.negated {
                ignored = rule.verdict(&text, is_directory, &mut memory);
            }
        }
        ignored
    }
}

/// The rules in the text of a dot-ignore file: its lines but for blank ones and those that start with `#`.
///
/// Source: Kopia format, "Ignore rules".
pub fn parse_dot_ignore(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

#[derive(Debug)]
struct Rule {
    tokens: Vec<Token>,
    star_count: usize,
    negated: bool,
    directories_only: bool,
}

#[derive(Debug, PartialEq)]
enum Token {
    Separator,
    Literal(char),
    /// Any character but a slash.
    AnyOne,
    Class(Class),
    Star {
        double: bool,
        /// How many stars stand before it.
        rank: usize,
    },
}

impl Token {
    /// Whether it takes this one character; stars take none here.
    fn takes(&self, found: char) -> bool {
        match self {
            Self::Separator => found == '/',
            Self::Literal(expected) => found == *expected,
            Self::AnyOne => found != '/',
            Self::Class(class) => class.takes(found),
            Self::Star { .. } => false,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Class {
    negated: bool,
    items: Vec<Item>,
}

#[derive(Debug, PartialEq)]
enum Item {
    One(char),
    Range(char, char),
    Named(Named),
}

impl Class {
    fn takes(&self, found: char) -> bool {
        let any = self.items.iter().any(|item| match item {
            Item::One(one) => found == *one,
            Item::Range(first, last) => (*first..=*last).contains(&found),
            Item::Named(named) => named.takes(found),
        });
        any != self.negated
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Named {
    Alnum,
    Alpha,
    Ascii,
    Blank,
    Cntrl,
    Digit,
    Graph,
    Lower,
    Print,
    Punct,
    Space,
    Upper,
    Xdigit,
}

impl Named {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "alnum" => Self::Alnum,
            "alpha" => Self::Alpha,
            "ascii" => Self::Ascii,
            "blank" => Self::Blank,
            "cntrl" => Self::Cntrl,
            "digit" => Self::Digit,
            "graph" => Self::Graph,
            "lower" => Self::Lower,
            "print" => Self::Print,
            "punct" => Self::Punct,
            "space" => Self::Space,
            "upper" => Self::Upper,
            "xdigit" => Self::Xdigit,
            _ => return None,
        })
    }

    /// Exact for ASCII. Beyond it Kopia goes by general categories, which std does not have: letters, cases and
    /// punctuation differ for vowel signs, circled letters, letter numbers and the like.
    fn takes(self, found: char) -> bool {
        match self {
            Self::Alnum => is_letter(found) || is_digit(found),
            Self::Alpha => is_letter(found),
            Self::Ascii => found.is_ascii(),
            Self::Blank => is_space_separator(found) || found == '\t',
            Self::Cntrl => found.is_control(),
            Self::Digit => is_digit(found),
            Self::Graph => is_printable(found) || is_space_separator(found),
            Self::Lower => found.is_lowercase(),
            Self::Print => is_printable(found),
            Self::Punct => is_printable(found) && found != ' ' && !found.is_alphanumeric() && !is_mark(found),
            Self::Space => found.is_whitespace(),
            Self::Upper => found.is_uppercase(),
            Self::Xdigit => found.is_ascii_hexdigit() || is_digit(found),
        }
    }
}

fn is_letter(found: char) -> bool {
    found.is_alphabetic() && !found.is_numeric() && !is_mark(found)
}

/// The zeros beyond ASCII whose nine successors are the other decimal digits of their script.
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

fn is_digit(found: char) -> bool {
    let found_zero = |zero: &u32| (*zero..*zero + 10).contains(&u32::from(found));
    found.is_ascii_digit() || ZEROS.iter().any(found_zero)
}

/// Unicode category Zs.
fn is_space_separator(found: char) -> bool {
    matches!(found, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII space: what std shows unescaped inside a text.
fn is_printable(found: char) -> bool {
    matches!(found, '"' | '\'' | '\\') || format!("a{found}").escape_debug().skip(1).eq([found])
}

/// Marks that extend the character before them: those which std escapes only where they stand alone.
fn is_mark(found: char) -> bool {
    is_printable(found) && !matches!(found, '"' | '\'' | '\\') && !found.escape_debug().eq([found])
}

/// The pattern and how far it has been read.
struct Scanner {
    text: Vec<char>,
    at: usize,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn read(&mut self) -> Option<char> {
        let read = self.peek(0)?;
        self.at += 1;
        Some(read)
    }

    fn find(&self, wanted: char) -> Option<usize> {
        self.text[self.at..].iter().position(|one| *one == wanted)
    }

    /// The character that stands for itself behind a backslash.
    fn escaped(&mut self) -> Result<char, &'static str> {
        self.read().ok_or("nothing follows the backslash")
    }
}

impl Rule {
    fn compile(pattern: &str, base: &str) -> Result<Self, IgnoreError> {
        compile(pattern, base).map_err(|detail| IgnoreError { pattern: pattern.to_owned(), detail })
    }

    fn verdict(&self, text: &[char], is_directory: bool, memory: &mut Vec<Option<Outcome>>) -> bool {
        if self.directories_only && !is_directory {
            return self.negated;
        }
        let matched = Matching::new(&self.tokens, self.star_count, text, memory).run(0, 0) == Outcome::Yes;
        matched != self.negated
    }
}

fn compile(pattern: &str, base: &str) -> Result<Rule, &'static str> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err("longer than 4096 bytes");
    }
    // Only a backslash right before the last character keeps the white space at the ends.
    let bytes = pattern.as_bytes();
    let keeps_ends = bytes.len() <= 2 || bytes[bytes.len() - 2] == b'\\';
    let pattern = if keeps_ends { pattern } else { pattern.trim() };

    let mut scanner = Scanner { text: pattern.chars().collect(), at: 0 };
    while scanner.peek(0).is_some_and(char::is_whitespace) {
        scanner.at += 1;
    }
    let negated = scanner.peek(0) == Some('!');
    scanner.at += usize::from(negated);

    let mut tokens = prefix(pattern, &scanner, base.strip_suffix('/').unwrap_or(base));
    let directories_only = scanner.text.last() == Some(&'/');
    if directories_only {
        scanner.text.pop();
    }
    let star_count = scan(&mut scanner, &mut tokens)?;
    Ok(Rule { tokens, star_count, negated, directories_only })
}

/// The tokens that say where the pattern may start.
fn prefix(pattern: &str, scanner: &Scanner, base: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    if pattern.is_empty() {
        return tokens;
    }
    let rooted = scanner.peek(0) == Some('/');
    tokens.extend(base.chars().map(|one| if one == '/' { Token::Separator } else { Token::Literal(one) }));
    if rooted {
        return tokens;
    }
    if !base.is_empty() {
        tokens.push(Token::Separator);
    }
    if pattern == "**" {
        return tokens;
    }
    let rest_count = scanner.text.len() - scanner.at;
    if scanner.find('/').is_none_or(|slash| slash + 1 == rest_count) {
        tokens.extend([Token::Star { double: true, rank: 0 }, Token::Separator]);
    } else if base.is_empty() {
        tokens.push(Token::Separator);
    }
    tokens
}

/// Appends the tokens of the rest of the pattern and answers how many stars there are now.
fn scan(scanner: &mut Scanner, tokens: &mut Vec<Token>) -> Result<usize, &'static str> {
    let mut star_count = tokens.iter().filter(|token| matches!(token, Token::Star { .. })).count();
    while let Some(read) = scanner.read() {
        tokens.push(match read {
            '\\' => Token::Literal(scanner.escaped()?),
            '?' => Token::AnyOne,
            '/' => Token::Separator,
            '[' => Token::Class(class(scanner)?),
            '*' => {
                star_count += 1;
                if star_count > STARS_MAX {
                    return Err("more than 256 stars");
                }
                Token::Star { double: double_star(scanner), rank: star_count - 1 }
            }
            other => Token::Literal(other),
        });
    }
    Ok(star_count)
}

/// Reads the rest of a run of stars and answers whether it may stand for slashes.
fn double_star(scanner: &mut Scanner) -> bool {
    let before = (scanner.at >= 2).then(|| scanner.text[scanner.at - 2]);
    let first = scanner.at;
    while scanner.peek(0) == Some('*') {
        scanner.at += 1;
    }
    scanner.at > first
        && match before {
            None => true,
            Some(before) => before == '/' && matches!(scanner.peek(0), None | Some('/')),
        }
}

/// Reads a class behind its opening bracket.
fn class(scanner: &mut Scanner) -> Result<Class, &'static str> {
    let negated = scanner.peek(0) == Some('!');
    scanner.at += usize::from(negated);
    let mut items = Vec::new();
    loop {
        let read = match scanner.read().ok_or("a bracket is not closed")? {
            ']' => return Ok(Class { negated, items }),
            // An escaped character may still begin a range or a named class, as in Kopia.
            '\\' => scanner.escaped()?,
            other => other,
        };
        items.push(match (scanner.peek(0), scanner.peek(1)) {
            (Some('-'), Some(end)) if end != ']' => {
                scanner.at += 2;
                Item::Range(read, if end == '\\' { scanner.escaped()? } else { end })
            }
            (Some(':'), _) if read == '[' => named_class(scanner)?,
            _ => Item::One(read),
        });
    }
}

/// Reads a named class behind its opening bracket, or that bracket alone.
fn named_class(scanner: &mut Scanner) -> Result<Item, &'static str> {
    let length = scanner.find(']').ok_or("a bracket is not closed")?;
    // Kopia compares a distance with a position, so that named classes late in a pattern are not seen as such.
    if length <= scanner.at + 1 || scanner.peek(length - 1) != Some(':') {
        return Ok(Item::One('['));
    }
    let name: String = scanner.text[scanner.at + 1..scanner.at + length - 1].iter().collect();
    let named = Named::parse(&name.to_lowercase()).ok_or("there is no character class of this name")?;
    scanner.at += length + 1;
    Ok(Item::Named(named))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Yes,
    No,
    /// The text is used up: no star before this point can help.
    Abort,
    /// A single star would have to stand for a slash: only a double star before this point can help.
    AbortToDouble,
}

/// What is remembered for a star and a position in the text.
#[derive(Clone, Copy)]
enum Trial {
    /// The tokens behind the star, matched from the position.
    Behind,
    /// The tokens behind the star and the separator after it.
    BehindSeparator,
    /// The star's own loop from the position on, which must not be its first.
    Loop,
}

/// Trials that are remembered for each star and position.
const TRIALS: usize = 3;

struct Matching<'a> {
    tokens: &'a [Token],
    text: &'a [char],
    /// Outcomes by star, trial and position; empty where a pattern has too few stars to need it.
    memory: &'a mut Vec<Option<Outcome>>,
}

impl<'a> Matching<'a> {
    fn new(tokens: &'a [Token], star_count: usize, text: &'a [char], memory: &'a mut Vec<Option<Outcome>>) -> Self {
        memory.clear();
        if star_count > 1 {
            memory.resize(star_count * TRIALS * (text.len() + 1), None);
        }
        Self { tokens, text, memory }
    }

    fn slot(&self, rank: usize, trial: Trial, at: usize) -> usize {
        (rank * TRIALS + trial as usize) * (self.text.len() + 1) + at
    }

    /// Matches the tokens from `first` on with the text from `start` on.
    fn run(&mut self, first: usize, start: usize) -> Outcome {
        let mut at = start;
        for (index, token) in self.tokens.iter().enumerate().skip(first) {
            if let Token::Star { double, rank } = token {
                // A single star before a separator stands for the rest of the name, and nothing need be tried.
                let whole_name = !double && self.tokens.get(index + 1) == Some(&Token::Separator);
                if !whole_name {
                    return self.star(index, *double, *rank, at);
                }
                match self.text[at..].iter().position(|one| *one == '/') {
                    Some(length) if at + length > start => at += length,
                    _ => return Outcome::No,
                }
                continue;
            }
            match self.text.get(at) {
                None => return Outcome::Abort,
                Some(found) if token.takes(*found) => at += 1,
                Some(_) => return Outcome::No,
            }
        }
        if at == self.text.len() { Outcome::Yes } else { Outcome::No }
    }

    fn star(&mut self, index: usize, double: bool, rank: usize, at: usize) -> Outcome {
        if index + 1 == self.tokens.len() {
            return if !double && self.text[at..].contains(&'/') { Outcome::No } else { Outcome::Yes };
        }
        // Two stars and their slash may stand for nothing at all.
        if double
            && index + 2 < self.tokens.len()
            && self.tokens[index + 1] == Token::Separator
            && self.trial(rank, Trial::BehindSeparator, index + 2, at) == Outcome::Yes
        {
            return Outcome::Yes;
        }
        self.try_lengths(index, double, rank, at)
    }

    /// Tries how many characters the star stands for, none first.
    fn try_lengths(&mut self, index: usize, double: bool, rank: usize, first: usize) -> Outcome {
        let mut at = first;
        // In the first round this is the character at the position itself: a quirk that results depend on.
        let mut before = self.text.get(at).copied();
        let outcome = loop {
            if at >= self.text.len() {
                break Outcome::Abort;
            }
            let known = self.memory.get(self.slot(rank, Trial::Loop, at)).copied().flatten();
            if let Some(known) = known.filter(|_| at > first) {
                break known;
            }
            match self.trial(rank, Trial::Behind, index + 1, at) {
                Outcome::No if !double && before == Some('/') => break Outcome::AbortToDouble,
                Outcome::No => {}
                Outcome::AbortToDouble if double => {}
                decided => break decided,
            }
            before = self.text.get(at).copied();
            at += 1;
        };
        // Every position passed on the way leads to the same end.
        let (from, to) = (self.slot(rank, Trial::Loop, first) + 1, self.slot(rank, Trial::Loop, at));
        if let Some(passed) = self.memory.get_mut(from..=to) {
            passed.fill(Some(outcome));
        }
        outcome
    }

    fn trial(&mut self, rank: usize, trial: Trial, first: usize, at: usize) -> Outcome {
        let slot = self.slot(rank, trial, at);
        if let Some(known) = self.memory.get(slot).copied().flatten() {
            return known;
        }
        let outcome = self.run(first, at);
        if let Some(place) = self.memory.get_mut(slot) {
            *place = Some(outcome);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        CACHEDIR_TAG_SIGNATURE, Matching, Named, Outcome, PATTERN_BYTES_MAX, Rule, Rules, STARS_MAX, Token,
        parse_dot_ignore,
    };

    fn verdict(pattern: &str, path: &str, base: &str) -> bool {
        let rule = Rule::compile(pattern, base).unwrap();
        let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        rule.verdict(&path.chars().collect::<Vec<_>>(), is_directory, &mut Vec::new())
    }

    /// A line is pattern, path, base directory and verdict.
    /// Source: Kopia format, "Ignore patterns" vectors.
    #[test]
    fn patterns_match_as_in_kopia() {
        let vectors = [
            ("*.*", "foo.txt", "", true),
            ("*/", ".git/", "", true),
            ("ab[cd]", "abc", "", true),
            ("ab[!de]", "abc", "", true),
            ("[a-d]", "e", "", false),
            ("[[:digit:]]", "3", "", true),
            ("[![:digit:]ab]", "c", "", true),
            ("ab*", "ab/cd", "", false),
            ("ab**", "ab/cd", "", false),
            ("ab***cd", "abxxxcd", "", true),
            ("**", "foo/bar", "", true),
            ("/a/**/b/foo.txt", "/a/b/c/d/foo.txt", "", false),
            ("/a/**/b/foo.txt", "/a/b/c/b/foo.txt", "", true),
            ("foo/**", "/foo/bar/a/b/c.txt", "", true),
            ("/foo/**/bar/**/p.txt", "/foo/bar/p.txt", "", true),
            ("bar/a.txt", "/foo/bar/a.txt", "", false),
            ("bar/a.txt", "/bar/a.txt", "", true),
            ("*.txt", "/foo/bar/a.txt", "", true),
            ("/*.txt", "/foo/bar/a.txt", "", false),
            ("foo/", "/foo", "", false),
            ("foo/", "/bar/foo/", "", true),
            ("foo/", "/foo/bar/", "", false),
            ("foo/**/bar/", "/foo/xx/yy/bar/", "", true),
            ("!foo", "/bar", "", true),
            ("!*", "/foo", "", false),
            ("!foo/bar", "/car/foo/bar", "", true),
            ("  foo  ", "foo", "", true),
            (" foo\\ ", "/foo ", "", true),
            ("/users/user?/logs", "/users/user1/logs", "", true),
            ("/users/user*/logs", "/users/user1/logs", "", true),
            ("/users/*/logs", "/users/user1/logs", "", true),
            ("/users/**/logs", "/users/user1/logs", "", true),
            ("*", "/base/foo", "/base", true),
            ("*", "/foo", "/base", false),
            ("/src/file.txt", "/base/src/file.txt", "/base", true),
            ("/src/file.txt", "/other/src/file.txt", "/base", false),
            ("src/file.txt", "/base/foo/src/file.txt", "/base", false),
            ("file.txt", "/base/foo/src/file.txt", "/base", true),
        ];
        for (pattern, path, base, expected) in vectors {
            assert_eq!(verdict(pattern, path, base), expected, "{pattern:?} and {path:?} in {base:?}");
        }
        for pattern in ["[a", "[a-", "\\", "[\\", "[a-\\", "[[:alnum", "[[:alnum:]", "[[:foobar:]]"] {
            assert!(Rule::compile(pattern, "").is_err(), "{pattern:?}");
        }
    }

    /// Source: Kopia format, "Ignore rules", steps 1 to 7.
    #[test]
    fn the_corners_of_the_language_are_kopias() {
        let cases = [
            ("[]-]", "/-]", false),
            ("[a-]", "/-", true),
            ("[\\]]", "/]", true),
            ("[!]", "/x", true),
            ("[x-\\z]", "/y", true),
            ("[[:ALPHA:]]", "/ä", true),
            ("[[:x]", "/:", true),
            ("a[!b]c", "/a/c", true),
            ("/a[!b]c", "/a/c", true),
            // Too late in the pattern to be seen as a named class.
            ("abcdefgh[[:digit:]]", "/abcdefgh3", false),
            ("abcdefgh[[:digit:]]", "/abcdefgh:]", true),
            ("\\*", "/*", true),
            ("\\*", "/a", false),
            ("\\!a", "/!a", true),
            ("!**", "/a/b", false),
            ("a/**", "/a", false),
            ("**/a", "/a", true),
            ("**/a", "/b/c/a", true),
            ("/", "/a/", false),
            ("", "/a", false),
            ("?", "/ä", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(verdict(pattern, path, ""), expected, "{pattern:?} and {path:?}");
        }
    }

    #[test]
    fn named_classes_go_by_unicode() {
        let cases = [
            (Named::Alnum, "aZ5ä٣", "-_ \u{301}"),
            (Named::Alpha, "aäß漢", "1½ⅷ\u{301}"),
            (Named::Blank, " \t\u{a0}\u{3000}", "\na"),
            (Named::Digit, "09٣９", "a½²"),
            (Named::Graph, "a1-ä \u{3000}\u{301}\"'\\", "\n\u{200b}"),
            (Named::Lower, "aä", "AÄ1漢"),
            (Named::Print, "a1-ä \u{301}\"'\\", "\n\u{3000}\u{200b}"),
            (Named::Punct, "!-_$+<^`|~\"'\\«€→", "a1 \nä\u{301}"),
            (Named::Space, " \n\t\u{85}\u{2028}", "a\u{200b}"),
            (Named::Upper, "AÄ", "aä1"),
            (Named::Xdigit, "afAF09٣", "gG"),
            (Named::Cntrl, "\n\u{7f}\u{85}", "a\u{200b}"),
            (Named::Ascii, "a\n\u{7f}", "ä"),
        ];
        for (named, inside, outside) in cases {
            assert!(inside.chars().all(|one| named.takes(one)), "{named:?} {inside:?}");
            assert!(!outside.chars().any(|one| named.takes(one)), "{named:?} {outside:?}");
        }
    }

    #[test]
    fn a_child_may_take_back_what_its_parent_ignores() {
        let root = Rules::root(&["*.log".to_owned(), "/cache".to_owned()]).unwrap();
        let child = root.child("/a", parse_dot_ignore("# ours\r\n\r\n \n!keep.log\n/tmp/\n")).unwrap();
        assert!(root.is_ignored("/a/keep.log", false));
        assert!(!child.is_ignored("/a/keep.log", false));
        assert!(child.is_ignored("/a/other.log", false));
        assert!(child.is_ignored("/a/tmp", true));
        assert!(!child.is_ignored("/a/tmp", false));
        assert!(root.is_ignored("/cache", true) && !root.is_ignored("/a/cache", true));
        assert_eq!(root.child("/b", ["x", "["].into_iter()).unwrap_err().pattern, "[");
    }

    #[test]
    fn limits_are_errors() {
        assert!(Rule::compile(&"a".repeat(PATTERN_BYTES_MAX + 1), "").is_err());
        assert!(Rule::compile(&"*a".repeat(STARS_MAX), "").is_err());
        assert!(Rule::compile(&"*a".repeat(STARS_MAX - 1), "").is_ok());
        assert_eq!(CACHEDIR_TAG_SIGNATURE.len(), 43);
    }

    /// With trials not remembered, the work for these grows by a power with every star.
    #[test]
    fn hostile_patterns_end() {
        let path = format!("/{}", "a".repeat(1000));
        assert!(!verdict(&format!("{}b", "*a".repeat(STARS_MAX - 1)), &path, ""));
        let path = "/a".repeat(500);
        for unit in ["/**/*a", "/**/a", "/**", "/*a*/**", "/*/**/*"] {
            let stars = unit.matches('*').count();
            assert!(!verdict(&format!("{}/b", unit.repeat(STARS_MAX / stars)), &path, ""), "{unit}");
        }
    }

    /// The document's steps word for word, with nothing remembered.
    fn naive(tokens: &[Token], text: &[char]) -> Outcome {
        let mut at = 0;
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let Token::Star { double, .. } = token else {
                let Some(found) = text.get(at) else { return Outcome::Abort };
                if !token.takes(*found) {
                    return Outcome::No;
                }
                at += 1;
                index += 1;
                continue;
            };
            if index + 1 == tokens.len() {
                return if !double && text[at..].contains(&'/') { Outcome::No } else { Outcome::Yes };
            }
            let separated = tokens[index + 1] == Token::Separator;
            if *double
                && separated
                && index + 2 < tokens.len()
                && naive(&tokens[index + 2..], &text[at..]) == Outcome::Yes
            {
                return Outcome::Yes;
            }
            if !double && separated {
                match (at..text.len()).find(|slash| text[*slash] == '/') {
                    None | Some(0) => return Outcome::No,
                    Some(slash) => at = slash,
                }
                index += 1;
                continue;
            }
            let mut before = text.get(at).copied();
            while at < text.len() {
                match naive(&tokens[index + 1..], &text[at..]) {
                    Outcome::No if !double && before == Some('/') => return Outcome::AbortToDouble,
                    Outcome::No => {}
                    Outcome::AbortToDouble if *double => {}
                    decided => return decided,
                }
                before = Some(text[at]);
                at += 1;
            }
            return Outcome::Abort;
        }
        if at == text.len() { Outcome::Yes } else { Outcome::No }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn remembering_changes_nothing(pattern in "(/|a|b|\\*|\\*\\*|/\\*\\*/|\\?|\\[!a\\]){0,9}", path in "(/[ab]{0,3}){1,4}") {
            let rule = Rule::compile(&pattern, "").unwrap();
            let text: Vec<char> = path.chars().collect();
            let found = Matching::new(&rule.tokens, rule.star_count, &text, &mut Vec::new()).run(0, 0);
            prop_assert_eq!(found, naive(&rule.tokens, &text));
        }

        #[test]
        fn nothing_panics(pattern in "([\\[\\]:!*?\\\\/ a-]|\\PC){0,40}", path in "(/\\PC{0,8}){0,8}", base in "(/a){0,2}/?") {
            if let Ok(rules) = Rules::default().child(&base, [pattern.as_str()].into_iter()) {
                rules.is_ignored(&path, true);
                rules.is_ignored(&path, false);
            }
        }

        #[test]
        fn hostile_patterns_are_bounded(pattern in "(\\*|\\*\\*/|a|/|\\?){0,300}", path in "(/|a|b){0,2000}") {
            if let Ok(rules) = Rules::root(&[pattern]) {
                rules.is_ignored(&path, true);
            }
        }
    }
}
