//! Time to find the subscriptions of an event, and memory per subscription.
//!
//! Prints one line per number of subscriptions; run it with `cargo bench -p walcast-filters`.
#![expect(clippy::print_stdout, reason = "a benchmark prints what a human compares")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/it/support.rs"]
mod support;

use std::{hint::black_box, process::Command, sync::Arc, time::Instant};

use walcast_change::{RowChange, oid};
use walcast_filters::{
    EventSelection, Interest, MatchIndex, Matches, Scope, SubscriptionId, Visible,
};

/// Events per measurement.
const N_EVENTS: u64 = 20_000;
/// Measurements, of which the fastest counts: the others were disturbed.
const N_MEASUREMENTS: u64 = 20;

/// The filter of a subscription.
type MakeFilter = fn(u64) -> String;

/// What subscriptions filter by.
const FILTERS: [(&str, MakeFilter); 3] =
    [("int8", id_filter), ("uuid", owner_filter), ("text", room_filter)];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, wanted, n_subscriptions] = arguments.as_slice() {
        let n_subscriptions = n_subscriptions.parse().expect("a number");
        for (name, filter) in FILTERS.iter().filter(|(name, _)| name == wanted) {
            measure(name, n_subscriptions, *filter);
        }
        return;
    }
    println!("one `eq` filter per subscription, one match per event");
    // A process each, so that memory freed before is not counted as free.
    let program = std::env::current_exe().expect("the path of this program");
    for (name, _) in FILTERS {
        for n_subscriptions in ["10", "1000", "100000", "1000000"] {
            let mut process = Command::new(&program);
            let status = process.args([name, n_subscriptions]).status().expect("a process");
            assert!(status.success());
        }
    }
}

fn measure(name: &str, n_subscriptions: u64, filter: MakeFilter) {
    let table = &support::table(&[("id", oid::INT8), ("owner", oid::UUID), ("room", oid::TEXT)]);
    let bytes_before = resident_bytes();
    let started = Instant::now();
    let mut index = MatchIndex::new();
    for id in 0..n_subscriptions {
        let filter = Arc::new(support::filter(&filter(id), table).expect("a filter"));
        let interest = Interest { events: EventSelection::All, filter, visible: Visible::Perhaps };
        index.insert(SubscriptionId(id), table.id, interest);
    }
    let insert_ns = started.elapsed().as_nanos() / u128::from(n_subscriptions);
    let bytes = resident_bytes().saturating_sub(bytes_before) / n_subscriptions;

    // Different subscriptions in turn, so that the caches hold no more than they would in service.
    let events: Vec<_> = (0..1_000)
        .map(|n| {
            let id = n * 7_919 % n_subscriptions;
            let owner = owner(id);
            let (id, room) = (id.to_string(), format!("room {id}"));
            let row = support::row(&[Some(&id), Some(&owner), Some(&room)]);
            support::event(table, RowChange::Insert { new: row })
        })
        .collect();
    let mut matches = Matches::default();
    let mut n_matches = 0;
    let mut event_ns = u128::MAX;
    for _ in 0..N_MEASUREMENTS {
        let started = Instant::now();
        for event in events.iter().cycle().take(usize::try_from(N_EVENTS).expect("a count")) {
            index.matches(table, black_box(event), Scope::Visible, &mut matches);
            n_matches += matches.certain.len();
        }
        event_ns = event_ns.min(started.elapsed().as_nanos() / u128::from(N_EVENTS));
    }
    assert_eq!(u64::try_from(n_matches), Ok(N_EVENTS * N_MEASUREMENTS));

    let started = Instant::now();
    for id in 0..n_subscriptions {
        index.remove(SubscriptionId(id));
    }
    let remove_ns = started.elapsed().as_nanos() / u128::from(n_subscriptions);
    println!(
        "{name} {n_subscriptions:>9} subscriptions: {event_ns:>5} ns/event, {bytes:>5} B, \
         {insert_ns:>5} ns to check and insert, {remove_ns:>4} ns to remove"
    );
}

fn id_filter(id: u64) -> String {
    format!("id=eq.{id}")
}

fn owner_filter(id: u64) -> String {
    format!("owner=eq.{}", owner(id))
}

fn room_filter(id: u64) -> String {
    format!("room=eq.room {id}")
}

fn owner(id: u64) -> String {
    format!("00000000-0000-4000-8000-{id:012x}")
}

/// What the process holds in memory, as Linux tells; zero elsewhere.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}
