//! PostgreSQL's array literals: `{a,"b c",null,{d}}`.

/// Deepest nesting PostgreSQL accepts (`MAXDIM`).
const MAX_DIMENSIONS: usize = 6;

/// What an array literal holds.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ArrayLiteral {
    /// The values below all nesting; `None` is NULL.
    pub(crate) elements: Vec<Option<String>>,
    /// How many elements the outermost array has.
    pub(crate) length: usize,
}

/// Reads a literal; `None` when it is not one that every version of PostgreSQL reads alike.
pub(crate) fn read(text: &str, delimiter: char) -> Option<ArrayLiteral> {
    let mut reader = Reader { rest: text, delimiter, elements: Vec::new() };
    let length = reader.array(1)?;
    reader.skip_blanks();
    reader.rest.is_empty().then_some(ArrayLiteral { elements: reader.elements, length })
}

struct Reader<'a> {
    rest: &'a str,
    delimiter: char,
    elements: Vec<Option<String>>,
}

impl Reader<'_> {
    /// One array; all its elements are arrays of one length, or none is an array.
    fn array(&mut self, depth: usize) -> Option<usize> {
        self.skip_blanks();
        self.take('{')?;
        self.skip_blanks();
        if self.take('}').is_some() {
            // An empty array inside another has no certain reading.
            return (depth == 1).then_some(0);
        }
        let mut length = 0;
        let mut inner_length = None;
        loop {
            self.skip_blanks();
            let inner = if self.rest.starts_with('{') {
                if depth == MAX_DIMENSIONS {
                    return None;
                }
                Some(self.array(depth + 1)?)
            } else {
                let element = self.element()?;
                self.elements.push(element);
                None
            };
            if length > 0 && inner != inner_length {
                return None;
            }
            inner_length = inner;
            length += 1;
            self.skip_blanks();
            if self.take('}').is_some() {
                return Some(length);
            }
            self.take(self.delimiter)?;
        }
    }

    fn element(&mut self) -> Option<Option<String>> {
        if self.take('"').is_some() {
            let mut text = String::new();
            loop {
                match self.next()? {
                    '"' => return Some(Some(text)),
                    '\\' => text.push(self.next()?),
                    character => text.push(character),
                }
            }
        }
        let mut text = String::new();
        // Blanks at the end do not count, except those that a backslash protects.
        let mut end = 0;
        let mut has_escape = false;
        while let Some(character) = self.rest.chars().next() {
            match character {
                '}' => break,
                _ if character == self.delimiter => break,
                '"' | '{' => return None,
                '\\' => {
                    self.next();
                    text.push(self.next()?);
                    has_escape = true;
                    end = text.len();
                }
                _ => {
                    self.next();
                    text.push(character);
                    if !is_blank(character) {
                        end = text.len();
                    }
                }
            }
        }
        text.truncate(end);
        if text.is_empty() {
            return None;
        }
        let is_null = !has_escape && text.eq_ignore_ascii_case("null");
        Some((!is_null).then_some(text))
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }
}

/// What PostgreSQL's input functions skip.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&[Option<&str>], usize)>) {
        let expected = expected.map(|(elements, length)| ArrayLiteral {
            elements: elements.iter().map(|element| element.map(str::to_owned)).collect(),
            length,
        });
        assert_eq!(read(text, ','), expected, "{text}");
    }

    #[test]
    fn reads_what_postgresql_reads() {
        check("{}", Some((&[], 0)));
        check("{a,b}", Some((&[Some("a"), Some("b")], 2)));
        check("{ a b , c }", Some((&[Some("a b"), Some("c")], 2)));
        check(
            r#"{"a,b",c\,d,"say \"hi\""}"#,
            Some((&[Some("a,b"), Some("c,d"), Some("say \"hi\"")], 3)),
        );
        check(
            r#"{null,NULL,"null",nul\l,""}"#,
            Some((&[None, None, Some("null"), Some("null"), Some("")], 5)),
        );
        check("{{1,2},{3,4}}", Some((&[Some("1"), Some("2"), Some("3"), Some("4")], 2)));
        check(r"{a\ }", Some((&[Some("a ")], 1)));
        check("{(x)}", Some((&[Some("(x)")], 1)));
    }

    #[test]
    fn doubtful_literals_are_left_to_postgresql() {
        for text in [
            "",
            "a",
            "{",
            "{a",
            "{a,}",
            "{,}",
            "{a}b",
            "{a\"b}",
            "{{1},2}",
            "{{1},{2,3}}",
            "{{}}",
            "{\"a",
            "{a{b}}",
            "{\"a\"b}",
        ] {
            check(text, None);
        }
    }
}
