//! What a channel wants to hear of the database, and how a refusal reads.

use std::fmt::Write as _;

use walcast_filters::{
    RawCondition,
    claims::{Claims, Role},
    parse,
};
use walcast_protocol::{Binding, BindingItem, Topic, binding::assign_ids, inspect_text};

/// A subscription of one channel: all of its bindings, or none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeRequest {
    /// The topic its events are sent on.
    pub topic: Topic,
    /// What it listens to, each id once.
    pub bindings: Vec<ChangesBinding>,
    /// The role it acts as.
    pub role: Role,
    /// What its policies may read.
    pub claims: Claims,
    /// Whether events are sent as INSERT, UPDATE, DELETE with the bare data.
    pub is_legacy: bool,
}

/// One binding with its filter parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangesBinding {
    /// The number the client knows it by.
    pub id: u32,
    /// What it listens to.
    pub binding: Binding,
    /// Its filter; all of them must hold.
    pub conditions: Vec<RawCondition>,
}

/// Why a subscription is not in place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubscribeFailure {
    /// No published table is meant by this binding.
    NoTable {
        /// Its position in the request.
        binding: usize,
    },
    /// This binding cannot be.
    Refused {
        /// Its position in the request.
        binding: usize,
        /// The error as PostgreSQL would put it: `ERROR P0001 (raise_exception) …`.
        error: String,
    },
    /// Not possible at the moment; the session tries again.
    Unavailable {
        /// What is wrong, for the log.
        error: String,
    },
}

/// Reads the items of a join; the first one that is wrong decides the error, in the client's words.
pub(crate) fn read_bindings(items: &[BindingItem]) -> Result<Vec<ChangesBinding>, String> {
    let mut bindings: Vec<ChangesBinding> = Vec::with_capacity(items.len());
    for (item, id) in items.iter().zip(assign_ids(items)) {
        if bindings.iter().any(|binding| binding.id == id) {
            continue;
        }
        let binding = item.parse().map_err(|error| error.to_string())?;
        let conditions = match &binding.filter {
            Some(filter) => parse(filter).map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        bindings.push(ChangesBinding { id, binding, conditions });
    }
    Ok(bindings)
}

impl SubscribeRequest {
    /// The same with other claims.
    pub(crate) fn with_claims(&self, role: Role, claims: Claims) -> Self {
        Self { role, claims, ..self.clone() }
    }

    /// What a client is told when no published table is meant.
    pub(crate) fn no_table(&self, binding: usize) -> String {
        format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled \
             for the given connect parameters: {}",
            self.describe(binding)
        )
    }

    /// What a client is told when a binding cannot be.
    pub(crate) fn refused(&self, binding: usize, error: &str) -> String {
        format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please \
             check your connect parameters: {}. Exception: {error}",
            self.describe(binding)
        )
    }

    fn describe(&self, binding: usize) -> String {
        self.bindings
            .get(binding)
            .or_else(|| self.bindings.first())
            .map_or_else(|| "[]".to_owned(), ChangesBinding::describe)
    }
}

impl ChangesBinding {
    /// The binding as error texts print it.
    fn describe(&self) -> String {
        let Binding { event, schema, table, select, filter: _ } = &self.binding;
        let mut out =
            format!("[event: {}, schema: {schema}, table: {table}, filters: ", event.as_str());
        push_list(&mut out, &self.conditions, |out, condition| {
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "{{{}, {}, {}, {}}}",
                inspect_text(&condition.column),
                inspect_text(condition.operator.name()),
                inspect_text(&condition.value),
                condition.is_negated
            );
        });
        out.push_str(", select: ");
        match select {
            None => out.push_str("nil"),
            Some(columns) => push_list(&mut out, columns, |out, column| {
                out.push_str(&inspect_text(column));
            }),
        }
        out.push(']');
        out
    }
}

fn push_list<T>(out: &mut String, items: &[T], push: impl Fn(&mut String, &T)) {
    /// As many as the reference server prints.
    const ITEMS_MAX: usize = 50;
    out.push('[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        if position == ITEMS_MAX {
            out.push_str("...");
            break;
        }
        push(out, item);
    }
    out.push(']');
}
