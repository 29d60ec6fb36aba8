//! What a filter means, as SQL over the table.
//!
//! Values compare as their type compares, without its length; numbers that JSON cannot hold count as
//! NULL; bytes compare as the hexadecimal digits that payloads show, and an operand with a backslash
//! is one of PostgreSQL's spellings of bytes; patterns are for texts, names and labels.

use walcast_filters::Operator;

use super::Written;
use crate::oracle::values::{identifier, kind_of, quoted};

/// Most values of `in`.
const IN_MAX: usize = 100;

/// The SQLSTATE with which a filter is refused by a rule that PostgreSQL does not have.
pub fn refusal(filter: &[Written]) -> Option<String> {
    filter.iter().find_map(rule).map(str::to_owned)
}

fn rule(written: &Written) -> Option<&'static str> {
    let kind = written.kind;
    let value = written.condition.value.as_str();
    let is_text = matches!(
        kind,
        "text"
            | "ctext"
            | "ndtext"
            | "varchar"
            | "bpchar"
            | "name"
            | "tdomain"
            | "vdomain"
            | "mood"
    );
    match written.condition.operator {
        Operator::Is if !["null", "true", "false", "unknown"].contains(&value) => Some("P0001"),
        Operator::Is if value != "null" && kind != "bool" => Some("P0001"),
        Operator::Like if !is_text && kind != "bytea" => Some("P0001"),
        // There is a `bytea ~~ bytea`, but nothing that ignores case.
        Operator::Ilike if kind == "bytea" => Some("42883"),
        Operator::Ilike | Operator::Match | Operator::Imatch if !is_text => Some("P0001"),
        // There is no operator, whatever the operand.
        Operator::Eq
        | Operator::Neq
        | Operator::Lt
        | Operator::Lte
        | Operator::Gt
        | Operator::Gte
        | Operator::In
        | Operator::IsDistinct
            if kind == "json" =>
        {
            Some("42883")
        }
        // `any` compares elements, not arrays.
        Operator::In if matches!(kind, "texts" | "ints" | "uuids" | "moods" | "numerics") => {
            Some("42883")
        }
        Operator::In if written.items.len() > IN_MAX => Some("P0001"),
        _ => None,
    }
}

/// All conditions.
pub fn sql(filter: &[Written]) -> String {
    let conditions: Vec<String> = filter.iter().map(condition).collect();
    conditions.join(" and ")
}

fn condition(written: &Written) -> String {
    let condition = &written.condition;
    let column = column(written);
    let not = if condition.is_negated { "not " } else { "" };
    let word = match condition.operator {
        Operator::Is => return format!("({column} is {not}{})", condition.value),
        Operator::IsDistinct => {
            return format!(
                "({column} is {not}distinct from {})",
                operand(written, &condition.value)
            );
        }
        Operator::In => return format!("({not}({column} = any ({})))", list(written)),
        Operator::Eq => "=",
        Operator::Neq => "<>",
        Operator::Lt => "<",
        Operator::Lte => "<=",
        Operator::Gt => ">",
        Operator::Gte => ">=",
        Operator::Like => "like",
        Operator::Ilike => "ilike",
        Operator::Match => "~",
        Operator::Imatch => "~*",
    };
    format!("({not}({column} {word} {}))", operand(written, &condition.value))
}

fn column(written: &Written) -> String {
    let name = identifier(&written.condition.column);
    match written.kind {
        "numeric" | "price" | "float4" | "float8" => format!(
            "case when {name}::text in ('NaN', 'Infinity', '-Infinity') then null else {name} end"
        ),
        "bytea" => format!("encode({name}, 'hex') collate \"C\""),
        "bit" => format!("{name}::varbit"),
        // The label, whatever casts a user defined.
        "mood" if is_pattern(written) => format!("textin(enum_out({name}))"),
        "tdomain" | "vdomain" if is_pattern(written) => format!("{name}::text"),
        _ => name,
    }
}

fn operand(written: &Written, value: &str) -> String {
    let text = quoted(value);
    match written.kind {
        "bytea" if value.contains('\\') => format!("encode({text}::bytea, 'hex')"),
        "bytea" => format!("{text}::text"),
        _ if is_pattern(written) => format!("{text}::text"),
        "bit" => format!("{text}::varbit"),
        kind => format!("{text}::{}", kind_of(kind).cast),
    }
}

fn list(written: &Written) -> String {
    match written.kind {
        "bytea" => {
            let items = written.items.iter().map(|item| match item {
                None => "null".to_owned(),
                Some(text) => operand(written, text),
            });
            format!("array[{}]::text[]", items.collect::<Vec<_>>().join(", "))
        }
        "bit" => format!("{}::varbit[]", quoted(&written.condition.value)),
        kind => format!("{}::{}[]", quoted(&written.condition.value), kind_of(kind).cast),
    }
}

fn is_pattern(written: &Written) -> bool {
    written.condition.operator.is_pattern()
}
