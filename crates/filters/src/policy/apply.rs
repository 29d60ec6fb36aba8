//! The functions, operators and casts that are evaluated in process.

use std::borrow::Cow;

use super::{
    evaluate::{Evaluation, JSON_BYTES_MAX, Scope, Stop},
    expression::{Arithmetic, Expression, Function, JsonResult},
    json::{self, JsonKind},
    shape::{Datum, Json, JsonForm, Shape},
};
use crate::{
    like::LikePattern,
    numeric::Numeric,
    value::{Kind, Reading, Value},
};
use walcast_change::{Collation, TypeKind};

/// Longest text that is put together; PostgreSQL is asked about longer ones.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Applies a strict function.
pub(super) fn apply<'a>(
    function: &'a Function,
    arguments: &'a [Expression],
    scope: &Scope<'a>,
) -> Evaluation<'a> {
    if let (Function::JsonMember(result), [Expression::Claims { form, empty_is_null }, name]) =
        (function, arguments)
    {
        return claim(*form, *empty_is_null, name, *result, scope);
    }
    match arguments {
        [only] => match only.evaluate(scope)? {
            None => Ok(None),
            Some(value) => convert(function, value),
        },
        [left, right] => match (left.evaluate(scope)?, right.evaluate(scope)?) {
            (Some(left), Some(right)) => combine(function, left, &right),
            (None, _) | (_, None) => Ok(None),
        },
        _ => Err(Stop::Undecided),
    }
}

/// A claim by its name, without a look at the others.
fn claim<'a>(
    form: JsonForm,
    empty_is_null: bool,
    name: &'a Expression,
    result: JsonResult,
    scope: &Scope<'a>,
) -> Evaluation<'a> {
    let claims = &scope.audience.ok_or(Stop::Undecided)?.claims;
    if empty_is_null && claims.as_str().is_empty() {
        return Ok(None);
    }
    let name = match name.evaluate(scope)? {
        None => return Ok(None),
        Some(Datum::Value(Value::Text(name))) => name,
        Some(_) => return Err(Stop::Undecided),
    };
    let found = claims.member(&name).ok_or(Stop::Undecided)?;
    let found = found.map(|text| Json { text: text.into(), form, is_printed: false });
    taken(found, result)
}

/// What an operator takes out of JSON: JSON, or text.
fn taken<'a>(found: Option<Json<'a>>, result: JsonResult) -> Evaluation<'a> {
    let Some(found) = found else { return Ok(None) };
    match result {
        JsonResult::Json => Ok(Some(Datum::Json(found))),
        JsonResult::Text => Ok(found.to_text().ok_or(Stop::Undecided)?.map(Datum::text)),
    }
}

/// A function of one argument.
fn convert<'a>(function: &Function, value: Datum<'a>) -> Evaluation<'a> {
    let result = match (function, value) {
        (Function::Same, value) => return Ok(Some(value)),
        (Function::TrimEnd, Datum::Value(Value::Text(Cow::Borrowed(text)))) => {
            Datum::text(text.trim_end_matches(' '))
        }
        (Function::TrimEnd, Datum::Value(Value::Text(Cow::Owned(text)))) => {
            Datum::text(text.trim_end_matches(' ').to_owned())
        }
        (Function::Read(shape), Datum::Value(Value::Text(text))) => return read(shape, text),
        (Function::Print, value) => return print(value),
        (Function::Integer(kind), Datum::Value(Value::Integer(value))) => integer(*kind, value)?,
        (Function::IntegerToOid, Datum::Value(Value::Integer(value))) => {
            Datum::Value(Value::Integer(value.rem_euclid(1 << 32)))
        }
        (Function::IntegerToNumeric, Datum::Value(Value::Integer(value))) => {
            let value = Numeric::read(&value.to_string()).ok_or(Stop::Undecided)?;
            Datum::Value(Value::Numeric(value))
        }
        (Function::IntegerToFloat, Datum::Value(Value::Integer(value))) => {
            // The text of an integer is read as the nearest float, which is what a cast gives.
            let value = value.to_string().parse().map_err(|_| Stop::Undecided)?;
            Datum::Value(Value::Float(value))
        }
        (Function::NumericToFloat, Datum::Value(Value::Numeric(value))) => {
            Datum::Value(Value::Float(value.to_float().ok_or(Stop::Undecided)?))
        }
        (Function::IntegerToBool, Datum::Value(Value::Integer(value))) => {
            Datum::Value(Value::Bool(value != 0))
        }
        (Function::BoolToInteger, Datum::Value(Value::Bool(value))) => {
            Datum::Value(Value::Integer(value.into()))
        }
        (Function::BoolToText, Datum::Value(Value::Bool(value))) => {
            Datum::text(if value { "true" } else { "false" })
        }
        (Function::JsonbToBool, Datum::Json(json)) => match json::kind(&json.text) {
            Some(JsonKind::Bool(value)) => Datum::Value(Value::Bool(value)),
            // Some versions raise for null, others give NULL.
            Some(JsonKind::Null) | None => return Err(Stop::Undecided),
            Some(JsonKind::Number | JsonKind::String | JsonKind::Array | JsonKind::Object) => {
                return Err(Stop::Raises);
            }
        },
        (Function::JsonbToInteger(kind), Datum::Json(json)) => match json::kind(&json.text) {
            // Fractions are rounded, exponents multiplied out: not here.
            Some(JsonKind::Number) => {
                let value = json.text.parse().map_err(|_| Stop::Undecided)?;
                integer(*kind, value)?
            }
            Some(JsonKind::Null) | None => return Err(Stop::Undecided),
            Some(JsonKind::Bool(_) | JsonKind::String | JsonKind::Array | JsonKind::Object) => {
                return Err(Stop::Raises);
            }
        },
        (Function::Lower(collation), Datum::Value(Value::Text(text))) => {
            // The lower case of I may be ı; other letters than A–Z fold as the locale says.
            let is_certain = *collation == Collation::Bytes || !text.contains('I');
            if !text.is_ascii() || !is_certain {
                return Err(Stop::Undecided);
            }
            Datum::text(text.to_ascii_lowercase())
        }
        (Function::Upper(collation), Datum::Value(Value::Text(text))) => {
            let is_certain = *collation == Collation::Bytes || !text.contains('i');
            if !text.is_ascii() || !is_certain {
                return Err(Stop::Undecided);
            }
            Datum::text(text.to_ascii_uppercase())
        }
        (Function::Length, Datum::Value(Value::Text(text))) => {
            let length = i64::try_from(text.chars().count()).map_err(|_| Stop::Undecided)?;
            Datum::Value(Value::Integer(length))
        }
        (Function::Negate(kind), Datum::Value(Value::Integer(value))) => {
            integer(*kind, value.checked_neg().ok_or(Stop::Raises)?)?
        }
        _ => return Err(Stop::Undecided),
    };
    Ok(Some(result))
}

/// A function of two arguments.
fn combine<'a>(function: &Function, left: Datum<'a>, right: &Datum<'a>) -> Evaluation<'a> {
    let truth = |truth: bool| Ok(Some(Datum::Value(Value::Bool(truth))));
    match (function, left, right) {
        (
            Function::Concatenate,
            Datum::Value(Value::Text(left)),
            Datum::Value(Value::Text(right)),
        ) => {
            if left.len() + right.len() > TEXT_BYTES_MAX {
                return Err(Stop::Undecided);
            }
            Ok(Some(Datum::text(format!("{left}{right}"))))
        }
        (
            Function::StartsWith,
            Datum::Value(Value::Text(text)),
            Datum::Value(Value::Text(start)),
        ) => truth(text.starts_with(&**start)),
        (
            Function::Like { pattern, case, is_negated },
            Datum::Value(Value::Text(text)),
            Datum::Value(Value::Text(written)),
        ) => {
            let matches = match pattern {
                Some(pattern) => pattern.matches(&text, *case),
                None => LikePattern::new(written).and_then(|pattern| pattern.matches(&text, *case)),
            };
            truth(matches.ok_or(Stop::Undecided)? != *is_negated)
        }
        (
            Function::Arithmetic(operator, kind),
            Datum::Value(Value::Integer(left)),
            Datum::Value(Value::Integer(right)),
        ) => {
            let result = match operator {
                Arithmetic::Add => left.checked_add(*right),
                Arithmetic::Subtract => left.checked_sub(*right),
                Arithmetic::Multiply => left.checked_mul(*right),
                Arithmetic::Divide => left.checked_div(*right),
                // PostgreSQL gives zero where the processor would fail.
                Arithmetic::Remainder if *right == -1 => Some(0),
                Arithmetic::Remainder => left.checked_rem(*right),
            };
            // Overflow and division by zero.
            integer(*kind, result.ok_or(Stop::Raises)?).map(Some)
        }
        (Function::JsonMember(result), Datum::Json(json), Datum::Value(Value::Text(name))) => {
            let found = match json::kind(&json.text) {
                Some(JsonKind::Object) => json.cut(|text| json::member(text, name)),
                Some(_) => Some(None),
                None => None,
            };
            taken(found.ok_or(Stop::Undecided)?, *result)
        }
        (Function::JsonElement(result), Datum::Json(json), Datum::Value(Value::Integer(index))) => {
            let found = match json::kind(&json.text) {
                Some(JsonKind::Array) => json.cut(|text| json::element(text, *index)),
                // Of a scalar, json and jsonb differ, and versions do.
                Some(JsonKind::Object) => Some(None),
                Some(_) | None => None,
            };
            taken(found.ok_or(Stop::Undecided)?, *result)
        }
        (Function::JsonPath(result), Datum::Json(json), Datum::Array(path)) => {
            taken(follow(json, path.as_slice())?, *result)
        }
        (Function::JsonContains, Datum::Json(left), Datum::Json(right)) => {
            truth(contains(&left, right).ok_or(Stop::Undecided)?)
        }
        (Function::JsonContained, Datum::Json(left), Datum::Json(right)) => {
            truth(contains(right, &left).ok_or(Stop::Undecided)?)
        }
        (Function::JsonHasKey, Datum::Json(json), Datum::Value(Value::Text(key))) => {
            truth(has_key(&json, key).ok_or(Stop::Undecided)?)
        }
        (
            Function::JsonHasAnyKey | Function::JsonHasAllKeys,
            Datum::Json(json),
            Datum::Array(keys),
        ) => {
            let wants_all = *function == Function::JsonHasAllKeys;
            // NULL among the keys is passed over.
            for key in keys.as_slice().iter().flatten() {
                let Value::Text(key) = key else { return Err(Stop::Undecided) };
                if has_key(&json, key).ok_or(Stop::Undecided)? != wants_all {
                    return truth(!wants_all);
                }
            }
            truth(wants_all)
        }
        _ => Err(Stop::Undecided),
    }
}

/// An integer of a kind; PostgreSQL raises when it is out of range.
fn integer<'a>(kind: Kind, value: i64) -> Result<Datum<'a>, Stop> {
    let fits = (kind != Kind::Int2 || i16::try_from(value).is_ok())
        && (kind != Kind::Int4 || i32::try_from(value).is_ok());
    if fits { Ok(Datum::Value(Value::Integer(value))) } else { Err(Stop::Raises) }
}

/// A text read as a value: what the type's input function does.
fn read<'a>(shape: &Shape, text: Cow<'a, str>) -> Evaluation<'a> {
    match shape {
        Shape::Scalar(kind) => {
            let outcome = match text {
                Cow::Borrowed(text) => kind.read_operand(text, ""),
                Cow::Owned(text) => match kind.read_operand(&text, "") {
                    Reading::Value(value) => Reading::Value(value.into_owned()),
                    Reading::Invalid(error) => Reading::Invalid(error),
                    Reading::Unknown => Reading::Unknown,
                },
            };
            match outcome {
                Reading::Value(value) => Ok(Some(Datum::Value(value))),
                Reading::Invalid(_) => Err(Stop::Raises),
                Reading::Unknown => Err(Stop::Undecided),
            }
        }
        // A label may have been added since the catalogue was read.
        Shape::Enum(pg_type) => {
            let TypeKind::Enum { labels } = &pg_type.kind else { return Err(Stop::Undecided) };
            let is_known = labels.iter().any(|label| **label == *text);
            if is_known { Ok(Some(Datum::text(text))) } else { Err(Stop::Undecided) }
        }
        Shape::Json(form) => {
            let checked = (text.len() <= JSON_BYTES_MAX).then(|| match text {
                Cow::Borrowed(text) => json::check(text).map(Cow::Borrowed),
                Cow::Owned(text) => json::check(&text).map(|text| Cow::Owned(text.to_owned())),
            });
            let text = checked.flatten().ok_or(Stop::Undecided)?;
            Ok(Some(Datum::Json(Json { text, form: *form, is_printed: false })))
        }
        Shape::Array(..) | Shape::Other => Err(Stop::Undecided),
    }
}

/// A value as its type's output function prints it, where that is certain.
fn print<'a>(value: Datum<'a>) -> Evaluation<'a> {
    let text = match value {
        Datum::Value(Value::Integer(value)) => value.to_string().into(),
        Datum::Value(Value::Text(text)) => text,
        Datum::Value(Value::Uuid(bytes)) => uuid(bytes).into(),
        Datum::Json(json) => json.printed().ok_or(Stop::Undecided)?,
        Datum::Value(_) | Datum::Array(_) | Datum::Opaque => return Err(Stop::Undecided),
    };
    Ok(Some(Datum::text(text)))
}

/// A uuid in PostgreSQL's form.
pub(super) fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
}

/// `#>`: member names, and positions in arrays.
fn follow<'a>(json: Json<'a>, path: &[Option<Value<'_>>]) -> Result<Option<Json<'a>>, Stop> {
    // Without a path PostgreSQL prints the value anew.
    if path.is_empty() {
        return Err(Stop::Undecided);
    }
    if path.contains(&None) {
        return Ok(None);
    }
    let mut current = json;
    for step in path {
        let Some(Value::Text(step)) = step else { return Err(Stop::Undecided) };
        let found = match json::kind(&current.text).ok_or(Stop::Undecided)? {
            JsonKind::Object => current.cut(|text| json::member(text, step)),
            JsonKind::Array => {
                let digits = step.strip_prefix('-').unwrap_or(step);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Stop::Undecided);
                }
                let index: i32 = step.parse().map_err(|_| Stop::Undecided)?;
                current.cut(|text| json::element(text, index.into()))
            }
            JsonKind::Null | JsonKind::Bool(_) | JsonKind::Number | JsonKind::String => Some(None),
        };
        match found.ok_or(Stop::Undecided)? {
            None => return Ok(None),
            Some(part) => current = part,
        }
    }
    Ok(Some(current))
}

fn contains(left: &Json<'_>, right: &Json<'_>) -> Option<bool> {
    Some(json::tree(&left.text)?.contains(&json::tree(&right.text)?))
}

/// `?`: a member's name, an element or the value itself is this string.
fn has_key(json: &Json<'_>, key: &str) -> Option<bool> {
    match json::kind(&json.text)? {
        JsonKind::Object => Some(json::member(&json.text, key)?.is_some()),
        JsonKind::Array => {
            let mut has = false;
            for element in json::elements(&json.text)? {
                has |= json::kind(element)? == JsonKind::String && json::string(element)? == key;
            }
            Some(has)
        }
        JsonKind::String => Some(json::string(&json.text)? == key),
        JsonKind::Null | JsonKind::Bool(_) | JsonKind::Number => Some(false),
    }
}
