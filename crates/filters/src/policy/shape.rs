//! How the values of a type are held while an expression is evaluated.

use std::{borrow::Cow, sync::Arc};

use walcast_change::{PgType, TypeId, TypeKind, TypeRegistry, oid};

use super::json;
use crate::value::{Kind, Value};

/// How the values of a type are held.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Scalar(Kind),
    /// Texts that must be among the labels.
    Enum(Arc<PgType>),
    Json(JsonForm),
    Array(Kind, char),
    /// Only whether it is NULL can be told.
    Other,
}

/// The two types of JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum JsonForm {
    /// `json`: the text as it was written.
    Json,
    /// `jsonb`: printed in a form of its own.
    Jsonb,
}

/// A value that is not NULL.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum<'a> {
    Value(Value<'a>),
    Json(Json<'a>),
    Array(Elements<'a>),
    /// A value of a type that is not read.
    Opaque,
}

/// The elements of an array, below all nesting; `None` is NULL.
///
/// Not a `Cow`, which would not let a longer life stand for a shorter one.
#[derive(Clone, Debug)]
pub(super) enum Elements<'a> {
    Borrowed(&'a [Option<Value<'a>>]),
    Owned(Vec<Option<Value<'a>>>),
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Json<'a> {
    /// Checked, without blanks around.
    pub(super) text: Cow<'a, str>,
    pub(super) form: JsonForm,
    /// Whether PostgreSQL prints the value as exactly this text.
    pub(super) is_printed: bool,
}

impl Shape {
    /// The shape of a type; domains are held as what they are made of.
    pub(super) fn of(id: TypeId, types: &TypeRegistry) -> Self {
        let Some(base) = types.find(types.base_of(id)) else { return Self::Other };
        match (&base.kind, base.id) {
            (TypeKind::Enum { .. }, _) => Self::Enum(Arc::clone(base)),
            (_, oid::JSON) => Self::Json(JsonForm::Json),
            (_, oid::JSONB) => Self::Json(JsonForm::Jsonb),
            (TypeKind::Array { element }, _) => {
                // The elements of an array of domains are read as the domain's, which may differ.
                match types.find(*element).map(|element| (Kind::of(element), element.delimiter)) {
                    Some((kind, delimiter)) if is_held(kind) || kind == Kind::Enum => {
                        Self::Array(kind, delimiter)
                    }
                    _ => Self::Other,
                }
            }
            _ => match Kind::of(base) {
                kind if is_held(kind) => Self::Scalar(kind),
                _ => Self::Other,
            },
        }
    }
}

/// The kinds that operators and casts of policies know.
fn is_held(kind: Kind) -> bool {
    match kind {
        Kind::Bool
        | Kind::Int2
        | Kind::Int4
        | Kind::Int8
        | Kind::Oid
        | Kind::Float4
        | Kind::Float8
        | Kind::Numeric
        | Kind::Text
        | Kind::Name
        | Kind::Bpchar
        | Kind::Uuid
        | Kind::Date
        | Kind::Time
        | Kind::Timestamp
        | Kind::TimestampTz => true,
        Kind::Char
        | Kind::Citext
        | Kind::TimeTz
        | Kind::Bits
        | Kind::Bytea
        | Kind::Enum
        | Kind::Composite
        | Kind::Other => false,
    }
}

impl<'a> Datum<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Value(Value::Text(text.into()))
    }

    pub(super) fn borrowed(&self) -> Datum<'_> {
        match self {
            Self::Value(value) => Datum::Value(value.borrowed()),
            Self::Json(json) => Datum::Json(Json { text: Cow::Borrowed(&json.text), ..*json }),
            Self::Array(elements) => Datum::Array(Elements::Borrowed(elements.as_slice())),
            Self::Opaque => Datum::Opaque,
        }
    }

    pub(super) fn into_owned(self) -> Datum<'static> {
        match self {
            Self::Value(value) => Datum::Value(value.into_owned()),
            Self::Json(Json { text, form, is_printed }) => {
                Datum::Json(Json { text: text.into_owned().into(), form, is_printed })
            }
            Self::Array(elements) => {
                let elements = elements.as_slice().iter();
                let owned = elements.map(|element| element.clone().map(Value::into_owned));
                Datum::Array(Elements::Owned(owned.collect()))
            }
            Self::Opaque => Datum::Opaque,
        }
    }
}

impl<'a> Elements<'a> {
    pub(super) fn as_slice(&self) -> &[Option<Value<'a>>] {
        match self {
            Self::Borrowed(elements) => elements,
            Self::Owned(elements) => elements,
        }
    }
}

impl PartialEq for Elements<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<'a> Json<'a> {
    /// A part of this value.
    pub(super) fn part(&self, text: Cow<'a, str>) -> Self {
        Json { text, form: self.form, is_printed: self.is_printed }
    }

    /// A value of the kind, whose text is cut out of this one's by `cut`.
    pub(super) fn cut(
        &self,
        cut: impl for<'t> FnOnce(&'t str) -> Option<Option<&'t str>>,
    ) -> Option<Option<Self>> {
        Some(match &self.text {
            Cow::Borrowed(text) => cut(text)?.map(|part| self.part(Cow::Borrowed(part))),
            Cow::Owned(text) => cut(text)?.map(|part| self.part(Cow::Owned(part.to_owned()))),
        })
    }

    /// The value as `->>` gives it: NULL for null, a string without quotes; `None` when PostgreSQL
    /// prints it in a form that is not known.
    pub(super) fn to_text(&self) -> Option<Option<Cow<'a, str>>> {
        Some(Some(match (json::kind(&self.text)?, &self.text) {
            (json::JsonKind::Null, _) => return Some(None),
            (json::JsonKind::String, Cow::Borrowed(text)) => json::string(text)?,
            (json::JsonKind::String, Cow::Owned(text)) => {
                Cow::Owned(json::string(text)?.into_owned())
            }
            _ => self.printed()?,
        }))
    }

    /// The value as PostgreSQL prints it, if that is known.
    pub(super) fn printed(&self) -> Option<Cow<'a, str>> {
        let is_printed = self.is_printed
            || self.form == JsonForm::Json
            || match json::kind(&self.text)? {
                json::JsonKind::Null | json::JsonKind::Bool(_) => true,
                json::JsonKind::Number => json::plain_number(&self.text).is_some(),
                json::JsonKind::String => {
                    let mut written = String::with_capacity(self.text.len());
                    json::write_string(&mut written, &json::string(&self.text)?);
                    return Some(written.into());
                }
                json::JsonKind::Array | json::JsonKind::Object => false,
            };
        is_printed.then(|| self.text.clone())
    }
}
