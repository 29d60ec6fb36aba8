//! Names of types: as PostgreSQL prints them in messages, and as SQL that names them for certain.

use walcast_change::{PgType, Table, TypeKind};

/// Supabase's `search_path`, but for the user's own schema.
const SEARCH_PATH: [&str; 2] = ["public", "extensions"];

/// The name in messages: `integer`, `character varying`, `"Color"`, `text[]`.
///
/// PostgreSQL leaves out schemas that are on its search path; here that is `pg_catalog` and what
/// Supabase's databases have there besides.
pub(crate) fn display(pg_type: &PgType, table: &Table) -> String {
    if let TypeKind::Array { element } = pg_type.kind
        && let Some(element) = table.types.find(element)
    {
        return format!("{}[]", display(element, table));
    }
    if &*pg_type.schema == "pg_catalog" {
        return standard_name(&pg_type.name)
            .map_or_else(|| identifier(&pg_type.name), str::to_owned);
    }
    if SEARCH_PATH.contains(&&*pg_type.schema) {
        return identifier(&pg_type.name);
    }
    format!("{}.{}", identifier(&pg_type.schema), identifier(&pg_type.name))
}

/// The type in SQL, without modifier: a quoted and qualified name is never taken for the SQL
/// standard's `character` or `bit`, which mean a length of one.
pub(crate) fn sql(pg_type: &PgType) -> String {
    format!("{}.{}", quoted(&pg_type.schema), quoted(&pg_type.name))
}

/// A quoted identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal that means the same whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        return format!("E'{}'", doubled.replace('\\', "\\\\"));
    }
    format!("'{doubled}'")
}

/// The identifier, quoted only when it must be.
fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// The SQL standard's names, which PostgreSQL prefers in messages.
fn standard_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "boolean",
        "bpchar" => "character",
        "char" => "\"char\"",
        "float4" => "real",
        "float8" => "double precision",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "varbit" => "bit varying",
        "varchar" => "character varying",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_whatever_is_written_into_sql() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(identifier("posint"), "posint");
        assert_eq!(identifier("Color"), "\"Color\"");
        assert_eq!(identifier("1st"), "\"1st\"");
    }
}
