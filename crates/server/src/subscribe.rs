//! Checks what a channel asks for before it becomes live.
//!
//! The order is the reference's: tables, role, filter columns and operands, selected columns. One
//! bad binding refuses them all.

use std::sync::Arc;

use tokio_postgres::Error;
use walcast_change::EventKind;
use walcast_channels::{ChangesBinding, SubscribeFailure, SubscribeRequest};
use walcast_filters::{EventSelection, Filter, FilterError, Verification, claims::Role};
use walcast_protocol::binding::{BindingEvent, Pattern};

use crate::{
    authz::Authorizer,
    catalogue::{Catalogue, Coverage, keeper::CatalogueKeeper},
    router::PreparedBinding,
};

/// Checks the bindings of a channel against the catalogue and, where only PostgreSQL knows, asks it.
///
/// # Errors
/// Which binding is refused and why, in the reference's words; or that PostgreSQL could not be
/// asked.
pub async fn prepare(
    request: &SubscribeRequest,
    catalogue: &CatalogueKeeper,
    authorizer: &Authorizer,
) -> Result<Vec<PreparedBinding>, SubscribeFailure> {
    let snapshot = catalogue
        .with_role(&request.role)
        .await
        .map_err(|error| SubscribeFailure::Unavailable { error: format!("{error:#}") })?;
    let mut prepared = Vec::with_capacity(request.bindings.len());
    for (position, binding) in request.bindings.iter().enumerate() {
        let covered = covered(&snapshot, binding);
        if covered.is_empty() {
            return Err(SubscribeFailure::NoTable { binding: position });
        }
        let refused = |error: String| SubscribeFailure::Refused { binding: position, error };
        let coverage = check(&snapshot, &request.role, binding, covered)
            .map_err(|error| refused(error.to_string()))?;
        for (_, filter) in &coverage {
            verify(filter, authorizer).await.map_err(refused)?;
        }
        prepared.push(PreparedBinding {
            id: binding.id,
            schema: exact(&binding.binding.schema),
            table: exact(&binding.binding.table),
            events: events(binding.binding.event),
            conditions: binding.conditions.clone().into(),
            select: binding.binding.select.clone().map(Into::into),
            coverage,
        });
    }
    Ok(prepared)
}

fn covered(catalogue: &Catalogue, binding: &ChangesBinding) -> Vec<Coverage> {
    let schema = exact(&binding.binding.schema);
    let table = exact(&binding.binding.table);
    catalogue.covered_by(schema.as_deref(), table.as_deref())
}

fn check(
    catalogue: &Catalogue,
    role: &Role,
    binding: &ChangesBinding,
    covered: Vec<Coverage>,
) -> Result<Vec<(Coverage, Arc<Filter>)>, FilterError> {
    if catalogue.role(role).is_none() {
        return Err(FilterError::new("42704", format!("role \"{role}\" does not exist")));
    }
    let mut checked = Vec::with_capacity(covered.len());
    for coverage in covered {
        let table = &coverage.guard.table;
        let selectable = catalogue.selectable(role, table, table);
        let filter = Filter::check(&binding.conditions, table, &selectable)?;
        for column in binding.binding.select.iter().flatten() {
            let may_select =
                table.position(column).is_some_and(|position| selectable.contains(position));
            if !may_select {
                return Err(FilterError::new(
                    "P0001",
                    format!("invalid column for select {column}"),
                ));
            }
        }
        checked.push((coverage, Arc::new(filter)));
    }
    Ok(checked)
}

async fn verify(filter: &Filter, authorizer: &Authorizer) -> Result<(), String> {
    for verification in filter.verifications() {
        if let Err(error) = authorizer.verify(&verification.sql).await {
            return Err(refusal(&verification, &error));
        }
    }
    Ok(())
}

/// PostgreSQL's own words, as the reference shows them.
fn refusal(verification: &Verification, error: &Error) -> String {
    let Some(db) = error.as_db_error() else {
        return "PostgreSQL could not be asked, please try again".to_owned();
    };
    let mut refusal = verification.refusal(db.code().code(), db.message());
    if let Some(constraint) = db.constraint() {
        refusal = refusal.with_constraint(constraint);
    }
    if let Some(hint) = db.hint() {
        refusal = refusal.with_hint(hint);
    }
    if let Some(detail) = db.detail() {
        refusal = refusal.with_detail(detail);
    }
    refusal.to_string()
}

fn exact(pattern: &Pattern) -> Option<Box<str>> {
    match pattern {
        Pattern::Exact(name) => Some(name.clone()),
        Pattern::Any => None,
    }
}

fn events(event: BindingEvent) -> EventSelection {
    match event {
        BindingEvent::All => EventSelection::All,
        BindingEvent::Insert => EventSelection::Only(EventKind::Insert),
        BindingEvent::Update => EventSelection::Only(EventKind::Update),
        BindingEvent::Delete => EventSelection::Only(EventKind::Delete),
    }
}
