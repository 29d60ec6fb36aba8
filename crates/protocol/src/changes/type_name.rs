//! A column's type as `format_type` prints it, which counts for the size of a change.

use std::fmt::Write as _;

use walcast_change::{PgType, TypeId, TypeKind, TypeRegistry, oid};

/// The name with its modifier: `character varying(5)`, `integer[]`.
///
/// Types of the schemas `pg_catalog` and `public` count as visible. Modifiers of types that are not
/// built in are left out: only their own functions know how they look.
pub(super) fn format_type(pg_type: &PgType, modifier: i32, types: &TypeRegistry) -> String {
    if let TypeKind::Array { element } = pg_type.kind
        && let Some(element) = types.find(element)
        && pg_type.id != oid::INT2VECTOR
        && pg_type.id != oid::OIDVECTOR
    {
        return format!("{}[]", format_scalar(element, modifier));
    }
    format_scalar(pg_type, modifier)
}

fn format_scalar(pg_type: &PgType, modifier: i32) -> String {
    built_in(pg_type.id, modifier).unwrap_or_else(|| {
        let name = quote_identifier(&pg_type.name);
        match &*pg_type.schema {
            "pg_catalog" | "public" => name,
            schema => format!("{}.{name}", quote_identifier(schema)),
        }
    })
}

fn built_in(id: TypeId, modifier: i32) -> Option<String> {
    let length = (modifier >= 4).then(|| modifier - 4);
    let (name, precision, end) = match id {
        oid::BOOL => ("boolean", None, ""),
        oid::INT2 => ("smallint", None, ""),
        oid::INT4 => ("integer", None, ""),
        oid::INT8 => ("bigint", None, ""),
        oid::FLOAT4 => ("real", None, ""),
        oid::FLOAT8 => ("double precision", None, ""),
        oid::CHAR => ("\"char\"", None, ""),
        oid::BPCHAR if length.is_none() => ("bpchar", None, ""),
        oid::BPCHAR => ("character", length, ""),
        oid::VARCHAR => ("character varying", length, ""),
        oid::BIT if modifier < 0 => ("\"bit\"", None, ""),
        oid::BIT => ("bit", Some(modifier), ""),
        oid::VARBIT => ("bit varying", (modifier >= 0).then_some(modifier), ""),
        oid::TIME => ("time", precision(modifier), " without time zone"),
        oid::TIMETZ => ("time", precision(modifier), " with time zone"),
        oid::TIMESTAMP => ("timestamp", precision(modifier), " without time zone"),
        oid::TIMESTAMPTZ => ("timestamp", precision(modifier), " with time zone"),
        oid::NUMERIC => return Some(numeric(length)),
        _ => return None,
    };
    let mut text = name.to_owned();
    if let Some(precision) = precision {
        // Writing to a string cannot fail.
        let _ = write!(text, "({precision})");
    }
    text.push_str(end);
    Some(text)
}

fn precision(modifier: i32) -> Option<i32> {
    (modifier >= 0).then_some(modifier)
}

fn numeric(modifier: Option<i32>) -> String {
    let Some(modifier) = modifier else { return "numeric".to_owned() };
    // Eleven bits of scale with a sign, above them the precision.
    let scale = ((modifier & 0x7FF) ^ 0x400) - 0x400;
    format!("numeric({},{scale})", (modifier >> 16) & 0xFFFF)
}

fn quote_identifier(name: &str) -> String {
    let is_start = |character: char| character.is_ascii_lowercase() || character == '_';
    let is_part = |character: char| is_start(character) || character.is_ascii_digit();
    if name.starts_with(is_start) && name.chars().all(is_part) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_format_type() {
        let check = |id: u32, schema: &str, name: &str, modifier: i32, expected: &str| {
            let pg_type = PgType {
                id: TypeId(id),
                schema: schema.into(),
                name: name.into(),
                delimiter: ',',
                kind: TypeKind::Base,
            };
            let array = PgType {
                id: TypeId(99_999),
                kind: TypeKind::Array { element: pg_type.id },
                ..pg_type.clone()
            };
            let types = [pg_type.clone(), array.clone()].into_iter().collect();
            assert_eq!(format_type(&pg_type, modifier, &types), expected);
            assert_eq!(format_type(&array, modifier, &types), format!("{expected}[]"));
        };
        check(23, "pg_catalog", "int4", -1, "integer");
        check(1043, "pg_catalog", "varchar", -1, "character varying");
        check(1043, "pg_catalog", "varchar", 9, "character varying(5)");
        check(1042, "pg_catalog", "bpchar", 7, "character(3)");
        check(1042, "pg_catalog", "bpchar", -1, "bpchar");
        check(1560, "pg_catalog", "bit", 3, "bit(3)");
        check(1560, "pg_catalog", "bit", -1, "\"bit\"");
        check(1562, "pg_catalog", "varbit", 6, "bit varying(6)");
        check(1700, "pg_catalog", "numeric", 262_149, "numeric(4,1)");
        check(1700, "pg_catalog", "numeric", 264_194, "numeric(4,-2)");
        check(1184, "pg_catalog", "timestamptz", 3, "timestamp(3) with time zone");
        check(1266, "pg_catalog", "timetz", -1, "time with time zone");
        check(20_000, "public", "mood", -1, "mood");
        check(20_000, "public", "Mo\"od", -1, "\"Mo\"\"od\"");
        check(20_000, "app", "mood", -1, "app.mood");
    }
}
