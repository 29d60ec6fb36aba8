//! LIKE patterns: `%` any text, `_` any one character, `\` takes the next one literally.

/// Most steps spent on one value, a few milliseconds; PostgreSQL is asked about what takes longer.
const MAX_STEPS: usize = 1_000_000;

/// A pattern, ready to match.
#[derive(Debug, PartialEq)]
pub(crate) struct LikePattern {
    parts: Box<[Part]>,
    is_ascii: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Any,
    One,
    Literal(char),
}

/// Whether letters of either case are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Case {
    /// They differ.
    Sensitive,
    /// They are the same, and the locale's lower case of `I` is `i`.
    Insensitive,
    /// They are the same in a locale that is not known: `I` may be the capital of `ı`.
    InsensitiveInSomeLocale,
}

impl LikePattern {
    /// Reads a pattern; `None` when it ends with the escape character, which PostgreSQL refuses.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let mut parts = Vec::with_capacity(pattern.len());
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::Literal(characters.next()?),
                _ => Part::Literal(character),
            };
            // `%%` means `%`.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Some(Self { parts: parts.into(), is_ascii: pattern.is_ascii() })
    }

    /// Whether the value matches; `None` when only PostgreSQL can tell.
    pub(crate) fn matches(&self, value: &str, case: Case) -> Option<bool> {
        let fold = |capital_i: char| {
            move |character: char| {
                if character == 'I' { capital_i } else { character.to_ascii_lowercase() }
            }
        };
        if case == Case::Sensitive {
            return self.matches_folded(value, |character| character);
        }
        // Other letters than A–Z fold as the locale says.
        if !self.is_ascii || !value.is_ascii() {
            return None;
        }
        let matches = self.matches_folded(value, fold('i'))?;
        if case == Case::InsensitiveInSomeLocale {
            let turkish = self.matches_folded(value, fold('ı'))?;
            return (matches == turkish).then_some(matches);
        }
        Some(matches)
    }

    fn matches_folded(&self, value: &str, fold: impl Fn(char) -> char) -> Option<bool> {
        let mut parts = &*self.parts;
        let mut rest = value.chars();
        // Where to go on when the current try fails: after the last `%`, one character further.
        let mut retry: Option<(&[Part], std::str::Chars<'_>)> = None;
        for _ in 0..MAX_STEPS {
            let mut after = rest.clone();
            let fits = match (parts.split_first(), after.next()) {
                (Some((Part::Any, [])), _) => return Some(true),
                (Some((Part::Any, following)), _) => {
                    parts = following;
                    retry = Some((following, rest.clone()));
                    continue;
                }
                (None, None) => return Some(true),
                (Some((Part::One, following)), Some(_)) => Some(following),
                (Some((Part::Literal(expected), following)), Some(character)) => {
                    (fold(*expected) == fold(character)).then_some(following)
                }
                // The value ends too early: later tries are shorter still.
                (Some((Part::One | Part::Literal(_), _)), None) => return Some(false),
                (None, Some(_)) => None,
            };
            if let Some(following) = fits {
                parts = following;
                rest = after;
                continue;
            }
            let Some((following, mut start)) = retry else { return Some(false) };
            if start.next().is_none() {
                return Some(false);
            }
            parts = following;
            rest = start.clone();
            retry = Some((following, start));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn matches_as_like_does() {
        let check = |value: &str, pattern: &str, expected: bool| {
            let pattern = LikePattern::new(pattern).unwrap();
            assert_eq!(
                pattern.matches(value, Case::Sensitive),
                Some(expected),
                "{value} {pattern:?}"
            );
        };
        check("Hello", "Hello", true);
        check("Hello", "h_llo", false);
        check("Hello", "H_llo", true);
        check("Hello", "H%", true);
        check("Hello", "%l_", true);
        check("Hello", "%l%l%", true);
        check("Hello", "%l%l%l%", false);
        check("", "%", true);
        check("", "", true);
        check("", "_", false);
        check("é", "_", true);
        check("a%b", r"a\%b", true);
        check("axb", r"a\%b", false);
        check("a\nb", "a_b", true);
        check("aab", "%ab", true);
        check("abc", "ab", false);
    }

    #[test]
    fn a_pattern_must_not_end_with_the_escape() {
        assert!(LikePattern::new(r"a\").is_none());
        assert!(LikePattern::new(r"a\\").is_some());
    }

    #[test]
    fn case_is_decided_where_every_locale_agrees() {
        let check = |value: &str, pattern: &str, case, expected| {
            assert_eq!(LikePattern::new(pattern).unwrap().matches(value, case), expected);
        };
        check("HELLO", "%ell%", Case::Insensitive, Some(true));
        check("HELLO", "%ell%", Case::InsensitiveInSomeLocale, Some(true));
        check("IN", "in", Case::Insensitive, Some(true));
        check("IN", "in", Case::InsensitiveInSomeLocale, None);
        check("IN", "%x%", Case::InsensitiveInSomeLocale, Some(false));
        check("ÄH", "%h", Case::Insensitive, None);
    }

    /// LIKE by its definition.
    fn slow(value: &[char], pattern: &[char]) -> bool {
        match (pattern.split_first(), value) {
            (None, value) => value.is_empty(),
            (Some(('%', rest)), value) => (0..=value.len()).any(|skip| slow(&value[skip..], rest)),
            (Some(('_', rest)), [_, value @ ..]) => slow(value, rest),
            (Some((expected, rest)), [first, value @ ..]) => first == expected && slow(value, rest),
            (Some(_), []) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(value in "[ab]{0,8}", pattern in "[ab%_]{0,6}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = slow(&characters(&value), &characters(&pattern));
            let found = LikePattern::new(&pattern).unwrap().matches(&value, Case::Sensitive);
            prop_assert_eq!(found, Some(expected));
        }
    }
}
