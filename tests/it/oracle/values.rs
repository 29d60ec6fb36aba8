//! The kinds of columns with values that are awkward to compare.

use super::random::Random;

/// What a value is, as far as expressions must know to be valid.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the grammar.
    pub key: &'static str,
    /// The type of a column.
    pub column_type: &'static str,
    /// The type in a cast.
    pub cast: &'static str,
    /// Input texts.
    pub pool: &'static [&'static str],
}

/// Users that rows and claims name.
pub const USERS: &[&str] = &[
    "a11ce000-0000-4000-8000-000000000001",
    "b0b00000-0000-4000-8000-000000000002",
    "ca401000-0000-4000-8000-00000000000c",
    "00000000-0000-0000-0000-000000000000",
];

/// Addresses that rows and claims name.
pub const EMAILS: &[&str] = &["alice@example.com", "Bob@Example.com", "carol+x@example.org", ""];

#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", " ", "a", "A", "b", "ab", "abc", "ABC", "abc ", " abc", "ä", "a\u{308}", "Ä", "ß", "SS",
    "İ", "ı", "ﬀ", "Σίσυφος", "ΣΊΣΥΦΟΣ", "日本", "😀", "1", "01", " 1", "1.0", "42", "-1", "1e3",
    "NaN", "t", "true", "TRUE", "f", "null", "NULL", "{}", "{\"a\": 1}", "[1]", "a%b", "a_b",
    "a\\b", "it's", "\"quoted\"", "a\nb", "a\tb", "member", "admin", "draft", "published",
    "2024-02-29", "a11ce000-0000-4000-8000-000000000001", "A11CE000-0000-4000-8000-000000000001",
    "alice@example.com", "authenticated", "anon",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

const SHORT_TEXTS: &[&str] = &[
    "", " ", "a", "A", "b", "ab", "ab ", " ab", "abc", "ABC", "ä", "a\u{308}", "ß", "日本", "1",
    "01", "1.0", "42", "t", "true", "null", "a%b", "a_b", "a\\b", "it's", "a\nb", "a\t", "draft",
    "admin",
];

const NUMBERS: &[&str] = &["0", "1", "-1", "2", "3", "7", "42", "100"];
#[rustfmt::skip]
const DATES: &[&str] = &[
    "2024-02-29", "2024-03-01", "1999-12-31", "2000-01-01", "1970-01-01", "0001-01-01",
    "0001-01-01 BC", "4713-01-01 BC", "0044-03-15 BC", "9999-12-31", "10000-01-01", "5874897-12-31",
    "infinity", "-infinity",
];
#[rustfmt::skip]
const TIMESTAMPS: &[&str] = &[
    "2024-02-29 12:00:00", "2024-02-29 12:00:00.000001", "2024-03-01 00:00:00",
    "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "1970-01-01 00:00:00",
    "0001-01-01 00:00:00 BC", "4713-01-01 00:00:00 BC", "2024-03-10 02:30:00",
    "2024-11-03 01:30:00", "1883-11-18 12:00:00", "9999-12-31 23:59:59", "12345-06-07 08:09:10",
    "infinity", "-infinity",
];
#[rustfmt::skip]
const JSONS: &[&str] = &[
    "null", "true", "false", "0", "1", "-0", "1.0", "1e2", "100", "12345678901234567890", "0.1",
    "\"\"", "\"a\"", "\"1\"", "\"true\"", "\"null\"", "[]", "{}", "[1]", "[null]",
    "[1, 1.0, \"1\"]", "[[1], []]", "[\"member\", \"admin\"]", "{\"a\": 1}", "{\"a\": 1.0}",
    "{\"a\": \"1\"}", "{\"a\": null}", "{\"a\": true}", "{\"a\": \"true\"}",
    "{\"a\": {\"b\": [1, 2]}}", "{\"a\": [{\"b\": 1}], \"b\": 2}", "{\"a\": 1, \"a\": 2}",
    "{\"\": 1}", "{\"role\": \"admin\"}", "{\"user_id\": \"a11ce000-0000-4000-8000-000000000001\"}",
    "{\"org_id\": 1}", "{\"org_id\": \"1\"}", "{\"ä\": \"\\u00e4\"}", "{\"a\": \"\\ud83d\\ude00\"}",
    "\"a\\nb\"", "{\"0\": \"zero\"}", "[\"a\", \"b\"]", "{\"roles\": [\"member\"], \"a\": \"x\"}",
];

/// All kinds.
#[rustfmt::skip]
pub const KINDS: &[Kind] = &[
    kind("bool", "boolean", "boolean", &["true", "false"]),
    kind("int2", "int2", "int2", &["0", "1", "-1", "2", "7", "42", "32767", "-32768"]),
    kind("int4", "int4", "int4", &["0", "1", "-1", "2", "7", "42", "2147483647", "-2147483648"]),
    kind(
        "int8",
        "int8",
        "int8",
        &[
            "0", "1", "-1", "2", "7", "42", "9007199254740993", "9223372036854775807",
            "-9223372036854775808",
        ],
    ),
    kind(
        "float4",
        "float4",
        "float4",
        &[
            "0", "-0", "1", "1.5", "0.1", "3.4028235e38", "1e-45", "16777216", "NaN", "Infinity",
            "-Infinity", "-1",
        ],
    ),
    kind(
        "float8",
        "float8",
        "float8",
        &[
            "0", "-0", "1", "1.5", "0.1", "0.30000000000000004", "1.7976931348623157e308", "5e-324",
            "9007199254740992", "NaN", "Infinity", "-Infinity", "-1", "42",
        ],
    ),
    kind(
        "numeric",
        "numeric",
        "numeric",
        &[
            "0", "-0.00", "1", "1.0", "1.50", "0.1", "-1", "42", "100", "1e30", "1e-30",
            "12345678901234567890.123456789", "9223372036854775808", "NaN", "Infinity", "-Infinity",
            "0.30000000000000004",
        ],
    ),
    kind(
        "price",
        "numeric(10,2)",
        "numeric",
        &["0", "1", "1.5", "0.1", "42", "-1", "99999999.99", "NaN"],
    ),
    kind("text", "text", "text", TEXTS),
    kind("ctext", "text collate \"C\"", "text", TEXTS),
    kind("ndtext", "text", "text", TEXTS),
    kind("varchar", "varchar(8)", "varchar", SHORT_TEXTS),
    kind(
        "bpchar",
        "char(5)",
        "bpchar",
        &[
            "", " ", "a", "A", "ab", "ab ", " ab", "abc", "abcde", "ä", "日本", "1", "t", "a%b",
            "a\\b", "a\nb", "a\t",
        ],
    ),
    kind("qchar", "\"char\"", "\"char\"", &["", " ", "a", "A", "1", "t", "%", "'"]),
    kind(
        "name",
        "name",
        "name",
        &[
            "", "a", "A", "anon", "authenticated", "oracle_member", "ä", "1", "a_b",
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
        ],
    ),
    kind("uuid", "uuid", "uuid", USERS),
    kind("date", "date", "date", DATES),
    kind(
        "time",
        "time",
        "time",
        &["00:00:00", "24:00:00", "12:34:56.789", "23:59:59.999999", "12:00:00", "00:00:00.000001"],
    ),
    kind(
        "timetz",
        "timetz",
        "timetz",
        &[
            "00:00:00+00",
            "24:00:00+00",
            "12:00:00+05:30",
            "06:30:00+00",
            "12:00:00-15:59",
            "12:34:56.789+02",
        ],
    ),
    kind("timestamp", "timestamp", "timestamp", TIMESTAMPS),
    kind("timestamptz", "timestamptz", "timestamptz", TIMESTAMPS),
    kind(
        "interval",
        "interval",
        "interval",
        &[
            "0", "1 day", "24 hours", "1 mon", "30 days", "-1 day", "1 year 2 mons 3 days",
            "00:00:00.000001", "-1 mon +1 day",
        ],
    ),
    kind("json", "json", "json", JSONS),
    kind("jsonb", "jsonb", "jsonb", JSONS),
    kind("bytea", "bytea", "bytea", &["", "\\x00", "\\xff", "\\x6162", "\\x61", "\\x5c78"]),
    kind("bit", "bit(4)", "bit(4)", &["0000", "0001", "1010", "1111"]),
    kind("varbit", "varbit", "varbit", &["", "0", "1", "01", "1010", "10100"]),
    kind(
        "inet",
        "inet",
        "inet",
        &["10.0.0.1", "10.0.0.0/8", "10.0.0.1/32", "::1", "192.168.1.5/24"],
    ),
    kind("mood", "mood", "mood", &["low", "mid", "high", "Quoted Label", "ä"]),
    kind("idomain", "idomain", "idomain", &["0", "1", "-1", "42", "7"]),
    kind("tdomain", "tdomain", "tdomain", SHORT_TEXTS),
    kind("udomain", "udomain", "udomain", USERS),
    kind("vdomain", "vdomain", "vdomain", &["", "a", "ab", "A", "ab ", "1", "日本"]),
    kind("ddomain", "ddomain", "ddomain", &["0", "1", "42", "999"]),
    kind("oid", "oid", "oid", &["0", "1", "42", "4294967295"]),
    kind("money", "money", "money", &["0", "1", "-1.50", "92233720368547758.07"]),
    kind("macaddr", "macaddr", "macaddr", &["00:00:00:00:00:00", "08:00:2b:01:02:03"]),
    kind(
        "moment",
        "timestamptz(0)",
        "timestamptz",
        &["2024-02-29 12:00:00.6", "2024-02-29 12:00:01", "infinity"],
    ),
    kind("moods", "mood[]", "mood[]", &["{}", "{low}", "{low,high}", "{NULL,\"Quoted Label\"}"]),
    kind("numerics", "numeric[]", "numeric[]", &["{}", "{1,1.0}", "{NaN,42}", "{0.1,NULL}"]),
    kind(
        "texts",
        "text[]",
        "text[]",
        &[
            "{}", "{NULL}", "{a}", "{a,b}", "{b,a}", "{\"\"}", "{\"a,b\"}", "{\"NULL\"}",
            "{{a},{b}}", "[0:1]={a,b}", "{a,NULL}", "{member,admin}", "{1,01}",
            "{\"it's\",\"a\\\\b\"}",
        ],
    ),
    kind(
        "ints",
        "int4[]",
        "int4[]",
        &["{}", "{NULL}", "{1}", "{1,2}", "{2,1}", "{{1,2},{3,4}}", "[2:3]={1,7}", "{42,NULL}"],
    ),
    kind(
        "uuids",
        "uuid[]",
        "uuid[]",
        &[
            "{}",
            "{NULL}",
            "{a11ce000-0000-4000-8000-000000000001}",
            "{b0b00000-0000-4000-8000-000000000002,a11ce000-0000-4000-8000-000000000001}",
            "{NULL,ca401000-0000-4000-8000-00000000000c}",
        ],
    ),
    kind("range", "int4range", "int4range", &["empty", "[1,5)", "(,5)", "[1,)", "(,)", "[1,1]"]),
    kind(
        "span",
        "tstzrange",
        "tstzrange",
        &["empty", "[2024-01-01,2025-01-01)", "(,2000-01-01]", "(,)"],
    ),
];

/// The kinds whose values compare with `=` and `<`.
#[rustfmt::skip]
pub const COMPARABLE: &[&str] = &[
    "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "price", "text", "ctext",
    "varchar", "bpchar", "qchar", "name", "uuid", "date", "time", "timetz", "timestamp",
    "timestamptz", "interval", "jsonb", "bytea", "bit", "varbit", "inet", "mood", "idomain",
    "tdomain", "udomain", "vdomain", "ddomain", "oid", "money", "macaddr", "moment", "moods",
    "numerics", "texts", "ints", "uuids", "range", "span", "ndtext",
];

const fn kind(
    key: &'static str,
    column_type: &'static str,
    cast: &'static str,
    pool: &'static [&'static str],
) -> Kind {
    Kind { key, column_type, cast, pool }
}

/// The kind of that name.
pub fn kind_of(key: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.key == key).unwrap_or_else(|| panic!("no kind {key}"))
}

impl Kind {
    /// An input text.
    pub fn text(&self, random: &mut Random) -> String {
        match self.key {
            "int4" | "int8" | "numeric" | "float8" | "idomain" if random.chance(60) => {
                (*random.pick(NUMBERS)).to_owned()
            }
            "text" | "ctext" if random.chance(15) => (*random.pick(USERS)).to_owned(),
            _ => (*random.pick(self.pool)).to_owned(),
        }
    }

    /// A literal with its type.
    pub fn literal(&self, random: &mut Random) -> String {
        let text = self.text(random);
        let is_plain_number = text.parse::<u32>().is_ok();
        match self.key {
            "bool" => text,
            "int4" | "int8" | "numeric" | "int2" if is_plain_number && random.chance(60) => text,
            // Of unknown type: what surrounds it decides.
            "text" | "uuid" | "varchar" | "mood" if random.chance(35) => quoted(&text),
            _ => format!("{}::{}", quoted(&text), self.cast),
        }
    }
}

/// A text as an SQL literal, whatever `standard_conforming_strings` is.
pub fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        return format!("E'{}'", doubled.replace('\\', "\\\\"));
    }
    format!("'{doubled}'")
}

/// A name as an SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
