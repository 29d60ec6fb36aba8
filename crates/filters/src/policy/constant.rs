//! Constants as PostgreSQL holds them in memory: the bytes of a `Const` node.
//!
//! The layout is that of little-endian servers with 64-bit datums; the environment tells which they
//! are.

use super::{
    json,
    shape::{Datum, Elements, Json, JsonForm, Shape},
};
use crate::{
    numeric::Numeric,
    value::{Kind, Value},
};

/// Days, and seconds, from 1970 to 2000, where PostgreSQL's own count starts.
const DAYS_TO_2000: i64 = 10_957;
const MICROSECONDS_TO_2000: i64 = DAYS_TO_2000 * 86_400_000_000;
/// Most elements of a constant array.
pub(super) const ELEMENTS_MAX: usize = 1_000;
/// Deepest nesting of constant jsonb.
const JSON_DEPTH_MAX: usize = 32;
/// Farthest the digits of a numeric reach from its point, in groups of four.
const GROUPS_MAX: usize = 250;

/// Reads the bytes of a constant that is not NULL.
pub(super) fn read(shape: &Shape, bytes: &[u8]) -> Option<Datum<'static>> {
    Some(match shape {
        Shape::Scalar(kind) => Datum::Value(scalar(*kind, bytes)?),
        Shape::Json(JsonForm::Json) => {
            let text = std::str::from_utf8(varlena(bytes)?).ok()?;
            let text = json::check(text)?.to_owned();
            Datum::Json(Json { text: text.into(), form: JsonForm::Json, is_printed: true })
        }
        Shape::Json(JsonForm::Jsonb) => {
            let mut text = String::new();
            write_container(&mut text, varlena(bytes)?, 0)?;
            Datum::Json(Json { text: text.into(), form: JsonForm::Jsonb, is_printed: true })
        }
        Shape::Array(kind, _) => Datum::Array(Elements::Owned(array(*kind, varlena(bytes)?)?)),
        Shape::Enum(_) | Shape::Other => return None,
    })
}

/// A number in the low bytes of a datum.
pub(super) fn unsigned(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn scalar(kind: Kind, bytes: &[u8]) -> Option<Value<'static>> {
    let int2 = || Some(i16::from_le_bytes(bytes.get(..2)?.try_into().ok()?));
    let int4 = || Some(i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?));
    let int8 = || Some(i64::from_le_bytes(bytes.get(..8)?.try_into().ok()?));
    let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
    Some(match kind {
        Kind::Bool => Value::Bool(*bytes.first()? != 0),
        Kind::Int2 => Value::Integer(int2()?.into()),
        Kind::Int4 => Value::Integer(int4()?.into()),
        Kind::Int8 | Kind::Time => Value::Integer(int8()?),
        Kind::Oid => Value::Integer(unsigned(bytes)?.into()),
        Kind::Float4 => Value::Float(f32::from_le_bytes(bytes.get(..4)?.try_into().ok()?).into()),
        Kind::Float8 => Value::Float(f64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)),
        Kind::Numeric => Value::Numeric(Numeric::read(&numeric(varlena(bytes)?)?)?),
        Kind::Text => Value::Text(text(varlena(bytes)?)?.into()),
        Kind::Bpchar => Value::Text(text(varlena(bytes)?)?.trim_end_matches(' ').to_owned().into()),
        Kind::Name => {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            Value::Text(text(bytes.get(..end)?)?.into())
        }
        Kind::Uuid => Value::Uuid(bytes.try_into().ok()?),
        Kind::Date => Value::Integer(match int4()? {
            i32::MAX => i64::MAX,
            i32::MIN => i64::MIN,
            days => i64::from(days) + DAYS_TO_2000,
        }),
        Kind::Timestamp | Kind::TimestampTz => Value::Integer(match int8()? {
            infinity @ (i64::MAX | i64::MIN) => infinity,
            microseconds => microseconds.checked_add(MICROSECONDS_TO_2000)?,
        }),
        Kind::Char
        | Kind::Citext
        | Kind::TimeTz
        | Kind::Bits
        | Kind::Bytea
        | Kind::Enum
        | Kind::Composite
        | Kind::Other => return None,
    })
}

/// What a value of variable length holds: after a header of four bytes, or of one. Compressed and
/// out-of-line values are not read.
fn varlena(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    let (start, length) = match first & 3 {
        0 => (4, usize::try_from(unsigned(bytes)? >> 2).ok()?),
        1 | 3 if first != 1 => (1, usize::from(first >> 1)),
        _ => return None,
    };
    (length == bytes.len()).then(|| bytes.get(start..))?
}

/// The decimal text of a numeric (`numeric.c`): groups of four digits around a point.
fn numeric(bytes: &[u8]) -> Option<String> {
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let header = half(0)?;
    let (is_negative, scale, weight, start) = match header & 0xC000 {
        0x8000 => {
            let weight = i32::from(header & 0x3F);
            let weight = if header & 0x40 == 0 { weight } else { weight - 0x40 };
            (header & 0x2000 != 0, (header & 0x1F80) >> 7, weight, 2)
        }
        0xC000 => {
            return match header {
                0xC000 => Some("NaN".to_owned()),
                0xD000 => Some("Infinity".to_owned()),
                0xF000 => Some("-Infinity".to_owned()),
                _ => None,
            };
        }
        sign => (sign == 0x4000, header & 0x3FFF, half(2)?.cast_signed().into(), 4),
    };
    let groups: Vec<u16> = bytes
        .get(start..)?
        .chunks(2)
        .map(|group| {
            Some(u16::from_le_bytes(group.try_into().ok()?)).filter(|group| *group < 10_000)
        })
        .collect::<Option<_>>()?;
    let scale = usize::from(scale);
    if weight.unsigned_abs() as usize > GROUPS_MAX
        || groups.len() > GROUPS_MAX
        || scale > 4 * GROUPS_MAX
    {
        return None;
    }
    // The group at a place counted from the point: 0 is the one before it, -1 the one after.
    let group = |place: i32| {
        let index = usize::try_from(weight - place).ok();
        index.and_then(|index| groups.get(index)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    if is_negative {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    }
    for place in (0..=weight).rev() {
        let digits = group(place);
        text.push_str(&if place == weight { format!("{digits}") } else { format!("{digits:04}") });
    }
    if scale > 0 {
        text.push('.');
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", group(place)));
            place -= 1;
        }
        text.push_str(fraction.get(..scale)?);
    }
    Some(text)
}

/// An array (`array.h`): dimensions, where its values start, element type, lengths and lower
/// bounds, a bitmap of NULLs, the values aligned.
fn array(kind: Kind, bytes: &[u8]) -> Option<Vec<Option<Value<'static>>>> {
    let word = |at: usize| unsigned(bytes.get(at..)?);
    let dimensions = usize::try_from(word(0)?).ok()?;
    // Counted, as alignment is, from the header that is not in `bytes`.
    let data_start = usize::try_from(word(4)?).ok()?;
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions > 6 {
        return None;
    }
    let mut length = 1_usize;
    for dimension in 0..dimensions {
        length = length.checked_mul(usize::try_from(word(12 + 4 * dimension)?).ok()?)?;
    }
    if length > ELEMENTS_MAX {
        return None;
    }
    let bitmap = (data_start > 0).then_some(12 + 8 * dimensions);
    let mut at = match bitmap {
        Some(_) => data_start.checked_sub(4)?,
        // The header of the whole value counts for the alignment of its data.
        None => (16 + 8 * dimensions).next_multiple_of(8) - 4,
    };
    let mut elements = Vec::with_capacity(length);
    for index in 0..length {
        let is_null = match bitmap {
            Some(bitmap) => bytes.get(bitmap + index / 8)? & (1 << (index % 8)) == 0,
            None => false,
        };
        if is_null {
            elements.push(None);
            continue;
        }
        let (size, alignment) = match kind {
            Kind::Bool => (Some(1), 1),
            Kind::Int2 => (Some(2), 2),
            Kind::Int4 | Kind::Oid | Kind::Float4 | Kind::Date => (Some(4), 4),
            Kind::Int8 | Kind::Float8 | Kind::Time | Kind::Timestamp | Kind::TimestampTz => {
                (Some(8), 8)
            }
            Kind::Uuid => (Some(16), 1),
            Kind::Name => (Some(64), 1),
            Kind::Text | Kind::Bpchar | Kind::Numeric => (None, 4),
            Kind::Char
            | Kind::Citext
            | Kind::TimeTz
            | Kind::Bits
            | Kind::Bytea
            | Kind::Enum
            | Kind::Composite
            | Kind::Other => return None,
        };
        // A value with a short header is not aligned; the padding before others is zero.
        let is_short = size.is_none() && *bytes.get(at)? != 0;
        if !is_short {
            at = (at + 4).next_multiple_of(alignment) - 4;
        }
        let size = match size {
            Some(size) => size,
            None => match *bytes.get(at)? {
                first if first & 1 == 1 => usize::from(first >> 1),
                _ => usize::try_from(word(at)? >> 2).ok()?,
            },
        };
        elements.push(Some(scalar(kind, bytes.get(at..at.checked_add(size)?)?)?));
        at += size;
    }
    Some(elements)
}

/// Writes a jsonb container as `jsonb_out` does: entries of 32 bits, then their values.
fn write_container(out: &mut String, bytes: &[u8], depth: usize) -> Option<()> {
    if depth > JSON_DEPTH_MAX {
        return None;
    }
    let header = unsigned(bytes)?;
    let count = usize::try_from(header & 0x0FFF_FFFF).ok()?;
    let (is_scalar, is_object) = (header & 0x1000_0000 != 0, header & 0x2000_0000 != 0);
    let n_entries = if is_object { count.checked_mul(2)? } else { count };
    if n_entries > ELEMENTS_MAX {
        return None;
    }
    let data = bytes.get(4 + 4 * n_entries..)?;
    let mut values = Vec::with_capacity(n_entries);
    let mut start = 0;
    for index in 0..n_entries {
        let entry = unsigned(bytes.get(4 + 4 * index..)?)?;
        let number = usize::try_from(entry & 0x0FFF_FFFF).ok()?;
        // Some entries hold where the value ends, the others its length.
        let end = if entry & 0x8000_0000 == 0 { start + number } else { number };
        values.push((entry & 0x7000_0000, start, end));
        start = end;
    }
    let write = |out: &mut String, index: usize| -> Option<()> {
        let (kind, start, end) = *values.get(index)?;
        match kind {
            0x0000_0000 => {
                json::write_string(out, std::str::from_utf8(data.get(start..end)?).ok()?);
            }
            0x1000_0000 => {
                let number = data.get(start.next_multiple_of(4)..end)?;
                out.push_str(&numeric(varlena(number)?)?);
            }
            0x2000_0000 => out.push_str("false"),
            0x3000_0000 => out.push_str("true"),
            0x4000_0000 => out.push_str("null"),
            0x5000_0000 => {
                write_container(out, data.get(start.next_multiple_of(4)..end)?, depth + 1)?;
            }
            _ => return None,
        }
        Some(())
    };
    if is_scalar {
        return if count == 1 { write(out, 0) } else { None };
    }
    out.push(if is_object { '{' } else { '[' });
    for index in 0..count {
        if index > 0 {
            out.push_str(", ");
        }
        write(out, index)?;
        if is_object {
            out.push_str(": ");
            write(out, count + index)?;
        }
    }
    out.push(if is_object { '}' } else { ']' });
    Some(())
}
