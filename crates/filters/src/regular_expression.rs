//! The part of PostgreSQL's regular expressions that means exactly the same in the `regex` crate.
//!
//! A small reader of the advanced regular expressions (ARE) writes the pattern anew; whatever it
//! does not know for certain makes the whole pattern PostgreSQL's to match.

use regex::{Regex, RegexBuilder};
use walcast_change::Collation;

/// Largest program of one expression; larger ones are matched by PostgreSQL.
const MAX_PROGRAM_BYTES: usize = 256 * 1024;
/// PostgreSQL's limit for the numbers in braces (`DUPMAX`).
const MAX_REPEATS: u32 = 255;
/// Deepest nesting of groups that is read here.
const MAX_DEPTH: usize = 32;

/// An expression that this process can match.
#[derive(Debug)]
pub(crate) struct Expression {
    regex: Regex,
    is_insensitive: bool,
    /// It has classes like `\w`, which depend on the locale beyond ASCII.
    has_class: bool,
    /// It has a letter i or a range, whose other case depends on the locale.
    has_i: bool,
}

impl Expression {
    /// The expression, if it is understood for certain.
    pub(crate) fn new(pattern: &str, is_insensitive: bool) -> Option<Self> {
        if is_insensitive && !pattern.is_ascii() {
            return None;
        }
        let mut reader = Reader {
            rest: pattern,
            out: String::with_capacity(pattern.len() * 2),
            is_insensitive,
            has_class: false,
            has_i: false,
        };
        reader.alternatives(0)?;
        if !reader.rest.is_empty() {
            return None;
        }
        let regex = RegexBuilder::new(&reader.out)
            .dot_matches_new_line(true)
            .case_insensitive(is_insensitive)
            .size_limit(MAX_PROGRAM_BYTES)
            .dfa_size_limit(MAX_PROGRAM_BYTES)
            .build()
            .ok()?;
        let Reader { has_class, has_i, .. } = reader;
        Some(Self { regex, is_insensitive, has_class, has_i })
    }

    /// Whether the expression matches somewhere in the value; `None` when only PostgreSQL can tell.
    pub(crate) fn matches(&self, value: &str, collation: Collation) -> Option<bool> {
        if collation == Collation::NonDeterministic {
            return None;
        }
        if (self.has_class || self.is_insensitive) && !value.is_ascii() {
            return None;
        }
        // Some locales count these separators as blanks, others do not.
        if self.has_class && value.bytes().any(|byte| matches!(byte, 0x1c..=0x1f)) {
            return None;
        }
        let other_i = self.is_insensitive && self.has_i && collation != Collation::Bytes;
        if other_i && value.contains(['i', 'I']) {
            return None;
        }
        Some(self.regex.is_match(value))
    }
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    is_insensitive: bool,
    has_class: bool,
    has_i: bool,
}

impl Reader<'_> {
    fn alternatives(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        loop {
            self.branch(depth)?;
            if self.take("|").is_none() {
                return Some(());
            }
            self.out.push('|');
        }
    }

    /// One or more atoms, each with at most one quantifier.
    fn branch(&mut self, depth: usize) -> Option<()> {
        let mut is_empty = true;
        while let Some(character) = self.peek() {
            if matches!(character, '|' | ')') {
                break;
            }
            is_empty = false;
            if matches!(character, '^' | '$') {
                self.next();
                // `\z`-like: there is no multi-line mode.
                self.out.push(character);
                if matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
                    return None;
                }
                continue;
            }
            self.atom(depth)?;
            self.quantifier()?;
        }
        (!is_empty).then_some(())
    }

    fn atom(&mut self, depth: usize) -> Option<()> {
        match self.next()? {
            '.' => self.out.push('.'),
            '(' => {
                // Other groups after `(?` are options and constraints.
                if self.peek() == Some('?') {
                    self.take("?:")?;
                }
                self.out.push_str("(?:");
                self.alternatives(depth + 1)?;
                self.take(")")?;
                self.out.push(')');
            }
            '[' => self.bracket()?,
            '\\' => match self.next()? {
                class @ ('d' | 'w' | 's' | 'D' | 'W' | 'S') => {
                    self.has_class = true;
                    self.out.push('\\');
                    self.out.push(class);
                }
                punctuation if punctuation.is_ascii_punctuation() => self.literal(punctuation),
                _ => return None,
            },
            '*' | '+' | '?' | '{' | ')' => return None,
            character => self.literal(character),
        }
        Some(())
    }

    fn quantifier(&mut self) -> Option<()> {
        match self.peek() {
            Some(quantifier @ ('*' | '+' | '?')) => {
                self.next();
                self.out.push(quantifier);
            }
            Some('{') => {
                self.next();
                let least = self.number()?;
                self.out.push_str(&format!("{{{least}"));
                if self.take(",").is_some() {
                    self.out.push(',');
                    if self.peek() != Some('}') {
                        let most = self.number()?;
                        if most < least {
                            return None;
                        }
                        self.out.push_str(&most.to_string());
                    }
                }
                self.take("}")?;
                self.out.push('}');
            }
            _ => return Some(()),
        }
        // Which of the matches is preferred does not matter for whether there is one.
        let _ = self.take("?");
        let is_repeated = matches!(self.peek(), Some('*' | '+' | '?' | '{'));
        (!is_repeated).then_some(())
    }

    fn bracket(&mut self) -> Option<()> {
        self.out.push('[');
        if self.take("^").is_some() {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let character = self.next()?;
            if character == ']' && !is_first {
                self.out.push(']');
                return Some(());
            }
            if character == '[' {
                // `[.`, `[=` and most classes are the locale's.
                self.take(":")?;
                self.class()?;
                is_first = false;
                continue;
            }
            if character == '-' && !is_first && self.peek() != Some(']') {
                return None;
            }
            let start = if character == '\\' {
                match self.next()? {
                    class @ ('d' | 'w' | 's') => {
                        self.has_class = true;
                        self.out.push('\\');
                        self.out.push(class);
                        is_first = false;
                        if self.peek() == Some('-') {
                            return None;
                        }
                        continue;
                    }
                    punctuation if punctuation.is_ascii_punctuation() => punctuation,
                    _ => return None,
                }
            } else {
                character
            };
            is_first = false;
            self.literal(start);
            if self.peek() == Some('-') && !self.rest.starts_with("-]") {
                self.next();
                let end = self.next()?;
                if !start.is_ascii_alphanumeric() || !end.is_ascii_alphanumeric() || end < start {
                    return None;
                }
                self.has_i = true;
                self.out.push('-');
                self.literal(end);
                // `a-c-e` is an error.
                if self.peek() == Some('-') && !self.rest.starts_with("-]") {
                    return None;
                }
            }
        }
    }

    /// A class like `[:alpha:]` that is the same for ASCII in every locale.
    fn class(&mut self) -> Option<()> {
        let name = ["alnum", "alpha", "digit", "lower", "upper", "space"]
            .into_iter()
            .find(|name| self.rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(":]")))?;
        if self.is_insensitive && matches!(name, "lower" | "upper") {
            return None;
        }
        self.take(name)?;
        self.take(":]")?;
        self.has_class = true;
        self.out.push_str(&format!("[:{name}:]"));
        Some(())
    }

    fn literal(&mut self, character: char) {
        self.has_i |= matches!(character, 'i' | 'I');
        let mut buffer = [0; 4];
        self.out.push_str(&regex::escape(character.encode_utf8(&mut buffer)));
    }

    fn number(&mut self) -> Option<u32> {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = self.rest.get(..length)?.parse().ok()?;
        self.rest = self.rest.get(length..)?;
        (number <= MAX_REPEATS).then_some(number)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.rest = self.rest.get(character.len_utf8()..)?;
        Some(character)
    }

    fn take(&mut self, expected: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_what_postgresql_matches() {
        let check = |pattern: &str, value: &str, expected: bool| {
            let found = Expression::new(pattern, false).unwrap().matches(value, Collation::Locale);
            assert_eq!(found, Some(expected), "{pattern} {value}");
        };
        check("^[ah]", "hello", true);
        check("^[ah]", "Hello", false);
        check("ell", "hello", true);
        check("^h.*o$", "h\no", true);
        check("^a$", "a\n", false);
        check("^(ab|c){2}$", "abc", true);
        check("^[^a-c]+$", "xyz\n", true);
        check("a{2,3}", "aa", true);
        check(r"^\d+\.\d*$", "12.", true);
        check("^[]x]-[a-]$", "]--", true);
        check("^[[:alpha:]_]+$", "a_B", true);
        check("é+", "caféé", true);
        check("a]b}", "a]b}", true);
        check("a+?", "aa", true);
    }

    #[test]
    fn whatever_may_mean_something_else_is_left_to_postgresql() {
        for pattern in [
            "",
            "(",
            "[",
            "a)",
            "*a",
            "a**",
            "^*",
            "a{",
            "a{2",
            "a{,2}",
            "a{3,2}",
            "a{256}",
            "(?i)a",
            "(?=a)",
            "(a)\\1",
            r"\ya",
            r"\m",
            r"\x41",
            r"\u0041",
            "***=a",
            "a||b",
            "()",
            "[a",
            "[z-a]",
            "[a-c-e]",
            "[[.a.]]",
            "[[=a=]]",
            "[[:punct:]]",
            r"[\D]",
            "[é-ü]",
            "[--a]",
            "a\\",
        ] {
            assert!(Expression::new(pattern, false).is_none(), "{pattern}");
        }
        assert!(Expression::new("é", true).is_none());
        assert!(Expression::new("[[:upper:]]", true).is_none());
    }

    #[test]
    fn locales_decide_beyond_ascii() {
        let check = |pattern: &str, value: &str, collation, expected| {
            let insensitive = Expression::new(pattern, true).unwrap();
            assert_eq!(insensitive.matches(value, collation), expected, "{pattern} {value}");
        };
        check("^[AH]", "hello", Collation::Locale, Some(true));
        check("^[a-h]", "hi", Collation::Locale, None);
        check("^[AH]", "hello", Collation::Bytes, Some(true));
        check("^H", "hell", Collation::Locale, Some(true));
        check("^h", "HÉ", Collation::Bytes, None);
        check("i", "I", Collation::Locale, None);
        check("i", "I", Collation::Bytes, Some(true));
        check("h", "hi", Collation::NonDeterministic, None);
        let classes = Expression::new(r"^\w+$", false).unwrap();
        assert_eq!(classes.matches("é", Collation::Bytes), None);
        assert_eq!(classes.matches("e", Collation::Locale), Some(true));
    }
}
