//! Which JSON a type's texts become.

use std::{collections::HashMap, sync::Arc};

use walcast_change::{Column, TypeId, TypeKind, TypeRegistry, oid};

use super::{
    array, composite, document,
    document::Source,
    hstore,
    number::{FLOAT_DIGITS_MAX, is_finite, write_expanded, write_plain},
    string::write_string,
    timestamp,
};

/// How the texts of a type become JSON.
#[derive(Clone, Debug)]
pub struct JsonForm(Shape);

impl JsonForm {
    /// The form of a column's values.
    ///
    /// A column of a base type differs from the same type below a domain, in an array or in a
    /// composite: NaN and the infinities are null there, and bytea has no `\x`.
    #[must_use]
    pub fn of_column(column: &Column, types: &TypeRegistry) -> Self {
        Self(match column.data_type.id {
            oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC => Shape::ColumnNumber,
            oid::FLOAT4 | oid::FLOAT8 => Shape::ColumnFloat,
            oid::BYTEA => Shape::ColumnBytea,
            id => Resolver::new(types).shape(id),
        })
    }

    /// The form of a type's values as `to_jsonb` gives them.
    #[must_use]
    pub fn of_type(id: TypeId, types: &TypeRegistry) -> Self {
        Self(Resolver::new(types).shape(id))
    }

    /// Appends the value's JSON.
    pub fn write(&self, text: &str, out: &mut Vec<u8>) {
        self.0.write(text, out);
    }
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// As [`Shape::Number`], with null for NaN and the infinities.
    ColumnNumber,
    /// As [`Shape::Float`], with null for NaN and the infinities.
    ColumnFloat,
    /// Hexadecimal digits without `\x`.
    ColumnBytea,
    Boolean,
    Number,
    Float,
    Text,
    Timestamp,
    TimestampWithZone,
    Document(Source),
    Int2Vector,
    OidVector,
    Hstore,
    Array {
        element: Arc<Self>,
        delimiter: u8,
    },
    Composite(Arc<[FieldForm]>),
}

/// One field of a composite type.
#[derive(Clone, Debug)]
pub(super) struct FieldForm {
    /// `"name":`
    pub(super) key: Box<[u8]>,
    pub(super) shape: Shape,
}

impl Shape {
    /// Appends the value's JSON: a string of the whole text when it is not of the type's grammar.
    pub(super) fn write(&self, text: &str, out: &mut Vec<u8>) {
        let start = out.len();
        let is_written = match self {
            Self::ColumnNumber | Self::ColumnFloat if !is_finite(text) => {
                out.extend_from_slice(b"null");
                true
            }
            Self::ColumnNumber | Self::Number => write_plain(text, out),
            Self::ColumnFloat | Self::Float => write_expanded(text, FLOAT_DIGITS_MAX, out),
            Self::ColumnBytea => {
                write_string(text.strip_prefix("\\x").unwrap_or(text), out);
                true
            }
            Self::Boolean => write_boolean(text, out),
            Self::Text => {
                write_string(text, out);
                true
            }
            Self::Timestamp => {
                timestamp::write(text, out);
                true
            }
            Self::TimestampWithZone => {
                timestamp::write_with_zone(text, out);
                true
            }
            Self::Document(source) => document::write(text, *source, out),
            Self::Int2Vector => write_vector(text, &Self::Number, out),
            Self::OidVector => write_vector(text, &Self::Text, out),
            Self::Hstore => hstore::write(text, out),
            Self::Array { element, delimiter } => array::write(text, element, *delimiter, out),
            Self::Composite(fields) => composite::write(text, fields, out),
        };
        if !is_written {
            out.truncate(start);
            write_string(text, out);
        }
    }
}

fn write_boolean(text: &str, out: &mut Vec<u8>) -> bool {
    let word = match text {
        "t" => "true",
        "f" => "false",
        _ => return false,
    };
    out.extend_from_slice(word.as_bytes());
    true
}

/// Appends an `int2vector` or `oidvector`, whose elements are separated by blanks.
fn write_vector(text: &str, element: &Shape, out: &mut Vec<u8>) -> bool {
    out.push(b'[');
    for (position, value) in text.split_ascii_whitespace().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        element.write(value, out);
    }
    out.push(b']');
    true
}

/// Follows types down to their bases.
struct Resolver<'a> {
    types: &'a TypeRegistry,
    known: HashMap<TypeId, Shape>,
}

impl<'a> Resolver<'a> {
    fn new(types: &'a TypeRegistry) -> Self {
        Self { types, known: HashMap::new() }
    }

    fn shape(&mut self, id: TypeId) -> Shape {
        let id = self.types.base_of(id);
        if let Some(shape) = self.built_in(id) {
            return shape;
        }
        if let Some(shape) = self.known.get(&id) {
            return shape.clone();
        }
        // PostgreSQL refuses types that contain themselves; a wrong registry ends here.
        self.known.insert(id, Shape::Text);
        let shape = self.made_type(id);
        self.known.insert(id, shape.clone());
        shape
    }

    fn built_in(&self, id: TypeId) -> Option<Shape> {
        Some(match id {
            oid::BOOL => Shape::Boolean,
            oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC => Shape::Number,
            oid::FLOAT4 | oid::FLOAT8 => Shape::Float,
            oid::TEXT | oid::VARCHAR | oid::UUID => Shape::Text,
            oid::TIMESTAMP => Shape::Timestamp,
            oid::TIMESTAMPTZ => Shape::TimestampWithZone,
            oid::JSON => Shape::Document(Source::Json),
            oid::JSONB => Shape::Document(Source::Jsonb),
            // The catalogue calls both arrays, but their texts have no braces.
            oid::INT2VECTOR => Shape::Int2Vector,
            oid::OIDVECTOR => Shape::OidVector,
            _ => return None,
        })
    }

    fn made_type(&mut self, id: TypeId) -> Shape {
        let types = self.types;
        let Some(pg_type) = types.find(id) else { return Shape::Text };
        match &pg_type.kind {
            TypeKind::Base if &*pg_type.name == "hstore" => Shape::Hstore,
            TypeKind::Array { element } => Shape::Array {
                delimiter: types
                    .find(*element)
                    .and_then(|element| u8::try_from(element.delimiter).ok())
                    .unwrap_or(b','),
                element: Arc::new(self.shape(*element)),
            },
            TypeKind::Composite { fields } => {
                let fields = fields.iter().map(|field| {
                    let mut key = Vec::new();
                    write_string(&field.name, &mut key);
                    key.push(b':');
                    FieldForm { key: key.into(), shape: self.shape(field.type_id) }
                });
                Shape::Composite(fields.collect())
            }
            TypeKind::Base
            | TypeKind::Enum { .. }
            | TypeKind::Domain { .. }
            | TypeKind::Range
            | TypeKind::Multirange
            | TypeKind::Pseudo => Shape::Text,
        }
    }
}

/// How long the JSON would be as jsonb's text, which has a blank after each comma and colon.
#[must_use]
pub fn jsonb_text_len(json: &[u8]) -> usize {
    let mut is_in_string = false;
    let mut is_escaped = false;
    let mut n_blanks = 0;
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            b',' | b':' if !is_in_string => n_blanks += 1,
            _ => {}
        }
    }
    json.len() + n_blanks
}
