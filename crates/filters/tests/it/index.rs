//! The index finds exactly the subscriptions whose filters match.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::{Strategy, prop, prop_assert_eq, prop_oneof, proptest};
use walcast_change::{Cell, EventKind, OldImage, Row, RowChange, Table, TableId, oid};
use walcast_filters::{
    EventSelection, Interest, Match, MatchIndex, Matches, Scope, SubscriptionId, Visible,
};

use crate::support::{event, filter, row, table};

fn columns() -> Table {
    table(&[("n", oid::INT4), ("s", oid::TEXT), ("d", oid::NUMERIC), ("nd_s", oid::TEXT)])
}

fn conditions() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec!["1", "2", "1.0", "a", "b", "null"]);
    let operator = prop::sample::select(vec![
        "eq",
        "eq",
        "eq",
        "neq",
        "gt",
        "not.eq",
        "not.neq",
        "isdistinct",
        "not.isdistinct",
    ]);
    let column = || prop::sample::select(vec!["n", "s", "d", "nd_s"]);
    prop_oneof![
        (column(), operator, value.clone())
            .prop_map(|(column, op, value)| format!("{column}={op}.{value}")),
        (column(), prop::collection::vec(value, 0..4))
            .prop_map(|(column, values)| format!("{column}=in.({})", values.join(","))),
        column().prop_map(|column| format!("{column}=is.null")),
    ]
}

fn filters() -> impl Strategy<Value = String> {
    prop::collection::vec(conditions(), 0..3).prop_map(|conditions| conditions.join(","))
}

/// What row security asks for: mostly nothing, a value, or nothing it could show.
fn bounds() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => prop::sample::select(vec!["n=eq.1", "n=eq.2", "s=eq.a", "d=eq.1", "nd_s=eq.a"])
            .prop_map(|text| Some(text.to_owned())),
        2 => proptest::strategy::Just(Some(String::new())),
        1 => proptest::strategy::Just(None),
    ]
}

fn visible(bound: Option<&str>, table: &Table) -> Visible {
    match bound {
        None => Visible::Never,
        Some("") => Visible::Perhaps,
        Some(text) => Visible::Where(Arc::new(filter(text, table).expect("a filter"))),
    }
}

fn selections() -> impl Strategy<Value = EventSelection> {
    prop::sample::select(vec![
        EventSelection::All,
        EventSelection::Only(EventKind::Insert),
        EventSelection::Only(EventKind::Update),
        EventSelection::Only(EventKind::Delete),
    ])
}

fn cells() -> impl Strategy<Value = Row> {
    let cell = |values: Vec<&'static str>| {
        prop_oneof![
            1 => prop::sample::select(vec![Cell::Null, Cell::Unchanged]),
            4 => prop::sample::select(values).prop_map(Cell::Text),
        ]
    };
    (
        cell(vec!["1", "2", "3", "odd"]),
        cell(vec!["a", "b", "1", "null"]),
        cell(vec!["1", "1.00", "2", "NaN"]),
        cell(vec!["a", "b", "1"]),
    )
        .prop_map(|(n, s, d, nd)| [n, s, d, nd].into_iter().collect())
}

fn changes() -> impl Strategy<Value = RowChange> {
    (cells(), prop::sample::select(vec![0, 1, 2, 3])).prop_map(|(row, kind)| match kind {
        0 => RowChange::Insert { new: row },
        1 => RowChange::Update { old: None, new: row },
        2 => RowChange::Delete { old: OldImage::Full(row) },
        _ => RowChange::Truncate,
    })
}

/// Subscriptions by a plain list.
type Subscriptions = BTreeMap<u64, Interest>;

fn brute_force(
    subscriptions: &Subscriptions,
    table: &Table,
    change: &RowChange,
    scope: Scope,
) -> [Vec<u64>; 2] {
    let (kind, row) = match change {
        RowChange::Insert { new } => (EventKind::Insert, new),
        RowChange::Update { new, .. } => (EventKind::Update, new),
        RowChange::Delete { old } => (EventKind::Delete, old.row()),
        RowChange::Truncate => return [Vec::new(), Vec::new()],
    };
    let with = |wanted: Match| {
        let found = subscriptions.iter().filter(|(_, interest)| {
            let may_see = match &interest.visible {
                Visible::Perhaps => true,
                Visible::Where(visible) => visible.matches(table, row) != Match::No,
                Visible::Never => false,
            };
            interest.events.includes(kind)
                && (may_see || scope == Scope::Everyone)
                && interest.filter.matches(table, row) == wanted
        });
        found.map(|(id, _)| *id).collect()
    };
    [with(Match::Yes), with(Match::Undecided)]
}

fn sorted(ids: &[SubscriptionId]) -> Vec<u64> {
    let mut ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn finds_what_deciding_every_filter_finds(
        steps in prop::collection::vec(
            (0_u64..20, prop::bool::weighted(0.75), selections(), filters(), bounds()),
            1..40,
        ),
        changes in prop::collection::vec(changes(), 1..12),
    ) {
        let table = columns();
        let mut index = MatchIndex::new();
        let mut subscriptions = Subscriptions::new();
        let mut matches = Matches::default();
        for (id, is_insert, events, text, bound) in steps {
            if is_insert {
                // Operands that are no values of the column's type.
                let Ok(filter) = filter(&text, &table) else { continue };
                let visible = visible(bound.as_deref(), &table);
                let interest = Interest { events, filter: Arc::new(filter), visible };
                index.insert(SubscriptionId(id), table.id, interest.clone());
                subscriptions.insert(id, interest);
            } else {
                prop_assert_eq!(index.remove(SubscriptionId(id)), subscriptions.remove(&id).is_some());
            }
            prop_assert_eq!(index.len(), subscriptions.len());
        }
        for change in changes {
            let event = event(&table, change.clone());
            for scope in [Scope::Visible, Scope::Everyone] {
                let expected = brute_force(&subscriptions, &table, &change, scope);
                index.matches(&table, &event, scope, &mut matches);
                prop_assert_eq!([sorted(&matches.certain), sorted(&matches.undecided)], expected);
            }
        }
        for id in 0..20 {
            prop_assert_eq!(index.remove(SubscriptionId(id)), subscriptions.remove(&id).is_some());
        }
        prop_assert_eq!(index.is_empty(), true);
    }
}

#[test]
fn error_events_go_to_all_of_the_table_and_kind() {
    let table = columns();
    let mut index = MatchIndex::new();
    let insert_only = EventSelection::Only(EventKind::Insert);
    for (id, events, text) in
        [(1, EventSelection::All, "n=eq.1"), (2, insert_only, "s=gt.a"), (3, insert_only, "")]
    {
        let filter = Arc::new(filter(text, &table).expect(text));
        let interest = Interest { events, filter, visible: Visible::Perhaps };
        index.insert(SubscriptionId(id), table.id, interest);
    }
    let mut found = Vec::new();
    let mut check = |table, kind, expected: &[u64]| {
        index.all_of(table, kind, &mut found);
        assert_eq!(sorted(&found), expected);
    };
    check(table.id, EventKind::Insert, &[1, 2, 3]);
    check(table.id, EventKind::Update, &[1]);
    check(table.id, EventKind::Truncate, &[]);
    check(TableId(99), EventKind::Insert, &[]);
}

#[test]
fn a_retyped_column_leaves_its_filters_to_postgresql() {
    let checked = columns();
    let mut index = MatchIndex::new();
    for id in 0..3 {
        let filter =
            Arc::new(filter(&format!("n=in.({id},{})", id + 1), &checked).expect("a filter"));
        let interest = Interest { events: EventSelection::All, filter, visible: Visible::Perhaps };
        index.insert(SubscriptionId(id), checked.id, interest);
    }
    let retyped = table(&[("n", oid::INT8)]);
    let mut matches = Matches::default();
    let change = RowChange::Insert { new: row(&[Some("1")]) };
    index.matches(&retyped, &event(&retyped, change), Scope::Visible, &mut matches);
    assert_eq!((matches.certain.len(), sorted(&matches.undecided)), (0, vec![0, 1, 2]));
}
