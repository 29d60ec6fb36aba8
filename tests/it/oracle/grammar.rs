//! Random typed expressions from a grammar of templates.
//!
//! ```text
//! $int4       an expression of that kind: a column, a literal, or a rule that makes one
//! $col:int4   a column of it; a literal when the table has none
//! $lit:int4   a literal
//! $T          a comparable kind, the same one everywhere in the rule
//! $table      the table's name, $row its rows as a whole
//! $op $path $pattern $regex $claims   a word of the lists below
//! ```

mod beyond;
mod known;

use super::{random::Random, values, values::kind_of};

/// How an expression of a kind can be made.
#[derive(Debug)]
pub struct Rule {
    kind: &'static str,
    template: &'static str,
}

const fn rule(kind: &'static str, template: &'static str) -> Rule {
    Rule { kind, template }
}

/// A generated expression, with the smaller ones of type boolean inside it.
#[derive(Clone, Debug)]
pub struct Expression {
    /// SQL.
    pub sql: String,
    /// The conditions it consists of.
    pub parts: Vec<Expression>,
}

/// A column an expression may read.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name as SQL writes it.
    pub name: String,
    /// The kind's key.
    pub kind: &'static str,
}

/// What the generator may use.
#[derive(Debug)]
pub struct Grammar<'a> {
    /// The table's name as SQL writes it.
    pub table: &'a str,
    /// Its columns.
    pub columns: &'a [Column],
    /// How many of a hundred rules are from beyond what walcast is to know.
    pub beyond_percent: usize,
}

const OPERATORS: &[&str] = &["=", "=", "=", "<>", "<", "<=", ">", ">="];

/// Keys of the claims and of the JSON values in rows.
#[rustfmt::skip]
const PATHS: &[&str] = &[
    "sub", "role", "email", "org_id", "a", "b", "app_metadata", "user_metadata", "roles",
    "is_admin", "aal", "", "ä", "user_id", "missing", "0",
];

/// Patterns of LIKE.
pub const PATTERNS: &[&str] = &[
    "%", "_", "", "a%", "%a", "%a%", "A%", "_b%", "a\\%b", "a\\_b", "%\\\\%", "ä", "%ä%", "日_",
    "abc", "abc %", "draft%", "%@%.com", "%'%", "%\n%", "\\a%", "__", "___%", "SS", "ß",
];

/// Regular expressions.
#[rustfmt::skip]
pub const REGULAR_EXPRESSIONS: &[&str] = &[
    "^a", "b$", "^[a-z]+$", "a|b", ".", "^$", "^\\d+$", "^.{3}$", "\\ma", "(a)\\1", "[[:alpha:]]",
    "(?i)ABC", "ä", "^a.c$",
];

/// The claims in the ways policies get at them.
const CLAIMS: &[&str] = &[
    "auth.jwt()",
    "auth.jwt()",
    "(select auth.jwt())",
    "(current_setting('request.jwt.claims', true)::jsonb)",
    "((select current_setting('request.jwt.claims', true))::jsonb)",
    "(nullif(current_setting('request.jwt.claims', true), '')::jsonb)",
];

impl Grammar<'_> {
    /// A condition; `budget` bounds how deep it nests.
    pub fn condition(&self, random: &mut Random, budget: usize) -> Expression {
        self.expand("bool", budget, random)
    }

    /// A condition of a size that nobody writes, but programs do.
    pub fn large_condition(&self, random: &mut Random) -> Expression {
        let inside = self.condition(random, 1);
        let join = |count: usize, word: &str, random: &mut Random| {
            let parts = (0..count).map(|_| self.condition(random, 0).sql);
            parts.collect::<Vec<_>>().join(word)
        };
        let sql = match random.below(5) {
            0 => format!("{}{}{}", "not (".repeat(300), inside.sql, ")".repeat(300)),
            1 => join(200, " or ", random),
            2 => join(200, " and ", random),
            3 => {
                let kind = *random.pick(&["int4", "text", "uuid", "numeric", "timestamp"]);
                let items: Vec<String> = (0..3000).map(|_| kind_of(kind).literal(random)).collect();
                format!("{} in ({})", self.column(kind, random), items.join(", "))
            }
            _ => {
                let when = "case when ".repeat(60);
                format!("{when}{}{}", inside.sql, " then true else false end".repeat(60))
            }
        };
        Expression { sql, parts: vec![inside] }
    }

    fn expand(&self, kind: &str, budget: usize, random: &mut Random) -> Expression {
        let is_leaf =
            if kind == "bool" { random.chance(12) } else { budget == 0 || random.chance(55) };
        if is_leaf {
            return leaf(self.leaf(kind, random));
        }
        // With nothing left to spend, a condition compares leaves.
        if budget == 0 {
            let template = *random.pick(known::PLAIN_CONDITIONS);
            return self.fill(template, 0, random);
        }
        let is_beyond = random.chance(self.beyond_percent);
        let rules = if is_beyond { beyond::RULES } else { known::RULES };
        let fitting: Vec<&Rule> = rules.iter().filter(|rule| rule.kind == kind).collect();
        if fitting.is_empty() {
            return leaf(self.leaf(kind, random));
        }
        let template = random.pick(&fitting).template;
        self.fill(template, budget - 1, random)
    }

    fn fill(&self, template: &str, budget: usize, random: &mut Random) -> Expression {
        let bound = *random.pick(values::COMPARABLE);
        let mut sql = String::new();
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(start) = rest.find('$') {
            sql.push_str(&rest[..start]);
            let after = &rest[start + 1..];
            let end = word_length(after);
            if end == 0 {
                sql.push('$');
                rest = after;
                continue;
            }
            let word = &after[..end];
            rest = &after[end..];
            let filled = self.word(word, bound, budget, random);
            sql.push_str(&filled.sql);
            if word == "bool" {
                parts.push(filled);
            } else {
                parts.extend(filled.parts);
            }
        }
        sql.push_str(rest);
        Expression { sql, parts }
    }

    fn word(&self, word: &str, bound: &str, budget: usize, random: &mut Random) -> Expression {
        let (form, key) = word.split_once(':').unwrap_or(("", word));
        let key = if key == "T" { bound } else { key };
        match (form, key) {
            ("col", _) => leaf(self.column(key, random)),
            ("lit", _) => leaf(kind_of(key).literal(random)),
            (_, "table") => leaf(self.table.to_owned()),
            (_, "row") => {
                leaf(self.table.rsplit_once('.').map_or(self.table, |(_, name)| name).to_owned())
            }
            (_, "op") => leaf((*random.pick(OPERATORS)).to_owned()),
            (_, "path") => word_of(PATHS, random),
            (_, "pattern") => word_of(PATTERNS, random),
            (_, "regex") => word_of(REGULAR_EXPRESSIONS, random),
            (_, "claims") => leaf((*random.pick(CLAIMS)).to_owned()),
            _ => self.expand(key, budget, random),
        }
    }

    fn leaf(&self, kind: &str, random: &mut Random) -> String {
        if random.chance(65) { self.column(kind, random) } else { self.literal(kind, random) }
    }

    fn literal(&self, kind: &str, random: &mut Random) -> String {
        if random.chance(3) {
            return format!("null::{}", kind_of(kind).cast);
        }
        kind_of(kind).literal(random)
    }

    fn column(&self, kind: &str, random: &mut Random) -> String {
        let fitting: Vec<&Column> =
            self.columns.iter().filter(|column| column.kind == kind).collect();
        if fitting.is_empty() {
            return self.literal(kind, random);
        }
        random.pick(&fitting).name.clone()
    }
}

/// The length of `int4` or `col:int4`; two colons are a cast.
fn word_length(text: &str) -> usize {
    let plain = |text: &str| {
        text.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(text.len())
    };
    let first = plain(text);
    match text[first..].strip_prefix(':').map(plain) {
        None | Some(0) => first,
        Some(second) => first + 1 + second,
    }
}

fn word_of(words: &[&str], random: &mut Random) -> Expression {
    let word = *random.pick(words);
    leaf(values::quoted(word))
}

fn leaf(sql: String) -> Expression {
    Expression { sql, parts: Vec::new() }
}

impl Expression {
    /// Every condition inside, the smallest first.
    pub fn smaller(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open: Vec<&Self> = self.parts.iter().collect();
        while let Some(part) = open.pop() {
            found.push(part.sql.clone());
            open.extend(&part.parts);
        }
        found.sort_by_key(String::len);
        found.dedup();
        found
    }
}
