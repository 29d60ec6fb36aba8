//! PostgreSQL's data types as far as walcast must understand them.

use std::{collections::HashMap, sync::Arc};

/// The oid of a type (`pg_type.oid`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TypeId(pub u32);

/// The oids of built-in types that are treated specially (`pg_type.dat`).
pub mod oid {
    use super::TypeId;

    macro_rules! type_ids {
        ($($name:ident = $oid:literal,)*) => {
            $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: TypeId = TypeId($oid);)*
        };
    }

    type_ids! {
        BOOL = 16, BYTEA = 17, CHAR = 18, NAME = 19, INT8 = 20, INT2 = 21, INT2VECTOR = 22,
        INT4 = 23, TEXT = 25, OID = 26, OIDVECTOR = 30, JSON = 114, XML = 142, POINT = 600,
        CIDR = 650, FLOAT4 = 700, FLOAT8 = 701, MONEY = 790, MACADDR = 829, INET = 869,
        BPCHAR = 1042, VARCHAR = 1043, DATE = 1082, TIME = 1083, TIMESTAMP = 1114,
        TIMESTAMPTZ = 1184, INTERVAL = 1186, TIMETZ = 1266, BIT = 1560, VARBIT = 1562,
        NUMERIC = 1700, UUID = 2950, JSONB = 3802,
    }
}

/// A data type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PgType {
    /// `pg_type.oid`
    pub id: TypeId,
    /// The schema's name, verbatim.
    pub schema: Box<str>,
    /// `pg_type.typname`, verbatim: `int4`, `_text`, an enum's name.
    pub name: Box<str>,
    /// `pg_type.typdelim`: what separates the elements of an array of this type; `;` for box.
    pub delimiter: char,
    /// How it is made.
    pub kind: TypeKind,
}

/// How a type is made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TypeKind {
    /// A base type: see [`oid`] for the ones that are treated specially.
    Base,
    /// An enum with its labels in order.
    Enum {
        /// The labels in `enumsortorder`.
        labels: Box<[Box<str>]>,
    },
    /// A domain.
    Domain {
        /// The type below, which may be a domain itself.
        base: TypeId,
    },
    /// A true array (`typsubscript = array_subscript_handler`).
    Array {
        /// The element type.
        element: TypeId,
    },
    /// A composite type or a table's row type.
    Composite {
        /// The attributes that are not dropped, in order.
        fields: Box<[Field]>,
    },
    /// A range type.
    Range,
    /// A multirange type.
    Multirange,
    /// A pseudo-type, which no column can have.
    Pseudo,
}

/// One attribute of a composite type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    /// Attribute name.
    pub name: Box<str>,
    /// Attribute type.
    pub type_id: TypeId,
}

/// The types of a database by oid.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TypeRegistry(HashMap<TypeId, Arc<PgType>>);

impl TypeRegistry {
    /// The type, if the registry has it.
    #[must_use]
    pub fn find(&self, id: TypeId) -> Option<&Arc<PgType>> {
        self.0.get(&id)
    }

    /// The type below all domains; `id` itself when it is no domain or is unknown.
    #[must_use]
    pub fn base_of(&self, id: TypeId) -> TypeId {
        let mut current = id;
        // Domains cannot be circular in PostgreSQL; the bound keeps a wrong registry harmless.
        for _ in 0..64 {
            match self.0.get(&current).map(|pg_type| &pg_type.kind) {
                Some(TypeKind::Domain { base }) => current = *base,
                _ => return current,
            }
        }
        current
    }

    /// How many types the registry has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the registry is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<PgType> for TypeRegistry {
    fn from_iter<I: IntoIterator<Item = PgType>>(types: I) -> Self {
        Self(types.into_iter().map(|pg_type| (pg_type.id, Arc::new(pg_type))).collect())
    }
}
