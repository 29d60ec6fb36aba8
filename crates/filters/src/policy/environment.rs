//! What the catalogue tells about the database, as far as the meaning of policies depends on it.

use std::collections::{BTreeMap, BTreeSet};

use walcast_change::Collation;

use super::FunctionId;

/// Facts on which the meaning of stored expressions depends.
///
/// The default is a server about which nothing is known: there, nothing is decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Environment {
    /// Whether stored constants have the known layout: little-endian, 64-bit datums, UTF-8.
    pub has_known_layout: bool,
    /// How the database's default collation orders texts.
    pub default_collation: Collation,
    /// `pg_collation.oid` of those that are not deterministic.
    pub nondeterministic_collations: BTreeSet<u32>,
    /// Whether `request.jwt.claim…` settings are unset unless somebody sets them in a session.
    pub has_no_claim_defaults: bool,
    /// Whether the questions are those about private channels: `realtime.topic` is set for them, and of
    /// the settings of older versions of PostgREST `request.jwt.claim.sub` and `request.jwt.claim.role`
    /// hold what the claims hold.
    pub has_channel_settings: bool,
    /// Whether unqualified names in functions without a `search_path` mean PostgreSQL's own objects.
    pub has_usual_names: bool,
    /// Functions of PostgreSQL that PUBLIC may not run.
    pub revoked: BTreeSet<FunctionId>,
    /// The functions that policies call.
    pub functions: BTreeMap<FunctionId, FunctionFacts>,
    /// The names of the operators in policies, by oid.
    pub operators: BTreeMap<u32, Box<str>>,
    /// The labels of enums, by `pg_enum.oid`.
    pub enum_labels: BTreeMap<u32, Box<str>>,
    /// The tables without row security that policies read, by oid.
    pub relations: BTreeMap<u32, RelationFacts>,
}

/// A table that a policy reads, beside the one it is on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelationFacts {
    /// The schema's name.
    pub schema: Box<str>,
    /// The table's name.
    pub name: Box<str>,
    /// The names of its columns, by attribute number.
    pub columns: BTreeMap<i16, Box<str>>,
}

/// What a stored expression names: oids that the catalogue must look up before it is compiled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Named {
    /// Functions, those behind operators included.
    pub functions: BTreeSet<FunctionId>,
    /// Operators.
    pub operators: BTreeSet<u32>,
    /// Tables.
    pub relations: BTreeSet<u32>,
}

/// What `pg_proc` says about a function.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FunctionFacts {
    /// The schema's name.
    pub schema: Box<str>,
    /// The function's name.
    pub name: Box<str>,
    /// Whether it is SQL, stable, neither strict nor SECURITY DEFINER, without arguments, returns
    /// one value and has no support function.
    pub is_plain: bool,
    /// `provolatile = 'i'`
    pub is_immutable: bool,
    /// `pg_type.oid` of what it returns.
    pub result_type: u32,
    /// `proconfig`
    pub settings: Box<[Box<str>]>,
    /// `prosrc`
    pub source: Box<str>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            has_known_layout: false,
            default_collation: Collation::NonDeterministic,
            nondeterministic_collations: BTreeSet::new(),
            has_no_claim_defaults: false,
            has_channel_settings: false,
            has_usual_names: false,
            revoked: BTreeSet::new(),
            functions: BTreeMap::new(),
            operators: BTreeMap::new(),
            enum_labels: BTreeMap::new(),
            relations: BTreeMap::new(),
        }
    }
}

impl Environment {
    /// How a collation compares.
    pub(super) fn collation(&self, oid: u32) -> Collation {
        /// `pg_collation.dat`
        const DEFAULT: u32 = 100;
        const C: u32 = 950;
        const POSIX: u32 = 951;
        match oid {
            0 => Collation::None,
            DEFAULT => self.default_collation,
            C | POSIX => Collation::Bytes,
            _ if self.nondeterministic_collations.contains(&oid) => Collation::NonDeterministic,
            _ => Collation::Locale,
        }
    }

    /// The qualified name of a function, for a sentence.
    pub(super) fn function_name(&self, id: FunctionId) -> Box<str> {
        self.functions.get(&id).map_or_else(
            || format!("the function with oid {}", id.0).into(),
            |facts| format!("{}.{}()", facts.schema, facts.name).into(),
        )
    }

    /// The name of an operator, for a sentence.
    pub(super) fn operator_name(&self, oid: u32) -> Box<str> {
        let name = self.operators.get(&oid).cloned();
        name.unwrap_or_else(|| format!("with oid {oid}").into())
    }
}

/// What a stored expression names.
#[must_use]
pub fn named_in(tree: &str) -> Named {
    let oids = |field: &str| {
        let after = tree.split(field).skip(1);
        let oids = after.filter_map(|rest| {
            let digits = rest.split(|next: char| !next.is_ascii_digit()).next()?;
            digits.parse::<u32>().ok().filter(|oid| *oid > 0)
        });
        oids.collect::<BTreeSet<u32>>()
    };
    let functions = oids(":funcid ").into_iter().chain(oids(":opfuncid ")).map(FunctionId);
    Named { functions: functions.collect(), operators: oids(":opno "), relations: oids(":relid ") }
}
