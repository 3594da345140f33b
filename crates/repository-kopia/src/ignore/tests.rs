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
        if *double && separated && index + 2 < tokens.len() && naive(&tokens[index + 2..], &text[at..]) == Outcome::Yes
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
