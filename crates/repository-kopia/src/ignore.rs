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

    /// True when nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    /// Whether the entry `path` is left out; for a directory, with everything below.
    ///
    /// `path` starts at the snapshot's root: `/a/b`, without a slash at the end. The rules must be those of the directory
    /// that holds the entry.
    pub fn is_ignored(&self, path: &str, is_directory: bool) -> bool {
        if self.is_empty() {
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
mod tests;
