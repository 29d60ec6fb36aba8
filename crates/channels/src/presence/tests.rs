//! One topic: what is told, to whom, and how much of it.

use serde_json::{Value, json};
use walcast_protocol::{
    ClientMessage, Frame, Version, frame,
    push::{PresenceAction, presence_action},
};

use super::*;

fn replica(node: u32) -> ReplicaId {
    ReplicaId { node, life: 1 }
}

pub(super) fn member(connection: u64) -> MemberId {
    MemberId { connection, channel: ChannelId(1) }
}

/// Remarks, read from what a client sends.
pub(super) fn tracked(remarks: &Value) -> Tracked {
    let payload = json!({"type": "presence", "event": "track", "payload": remarks});
    let text = json!(["1", "2", "realtime:room", "presence", payload]).to_string();
    let ClientMessage { payload, .. } =
        frame::decode(Version::V2, &Frame::Text(text.into())).unwrap();
    let action = presence_action(&payload);
    let PresenceAction::Track(tracked) = action else { panic!("{remarks}: {action:?}") };
    tracked
}

fn read(payload: &RawJson) -> Value {
    serde_json::from_slice(payload.as_bytes()).unwrap()
}

/// A payload with its references taken out, and these in their order.
fn without_references(payload: &RawJson) -> (Value, Vec<String>) {
    fn strip(value: &mut Value, references: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for name in ["phx_ref", "phx_ref_prev"] {
                    if let Some(reference) = object.remove(name) {
                        references.push(format!("{name}={}", reference.as_str().unwrap()));
                    }
                }
                object.values_mut().for_each(|value| strip(value, references));
            }
            Value::Array(items) => items.iter_mut().for_each(|value| strip(value, references)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let (mut value, mut references) = (read(payload), Vec::new());
    strip(&mut value, &mut references);
    (value, references)
}

#[test]
fn who_tracks_joins_and_who_untracks_leaves() {
    let mut presence = Presence::new(replica(1));
    assert_eq!(read(&presence.state()), json!({}));
    assert!(presence.track(member(1), Some("a"), tracked(&json!({"n": 1}))));
    let (diff, joined) = without_references(&presence.flush().unwrap());
    assert_eq!(diff, json!({"joins": {"a": {"metas": [{"n": 1}]}}, "leaves": {}}));
    let (state, listed) = without_references(&presence.state());
    assert_eq!(state, json!({"a": {"metas": [{"n": 1}]}}));
    assert_eq!(listed, joined);
    assert_eq!(joined[0].len(), "phx_ref=".len() + 16);
    assert!(presence.untrack(member(1)));
    let (diff, left) = without_references(&presence.flush().unwrap());
    assert_eq!(diff, json!({"joins": {}, "leaves": {"a": {"metas": [{"n": 1}]}}}));
    assert_eq!(left, joined);
    assert!(presence.is_idle());
    assert_eq!(read(&presence.state()), json!({}));
}

#[test]
fn to_track_the_same_again_or_untrack_twice_is_not_told() {
    let mut presence = Presence::new(replica(1));
    assert!(!presence.untrack(member(1)));
    assert!(presence.track(member(1), None, tracked(&json!({"a": 1, "b": 2}))));
    presence.flush();
    assert!(!presence.track(member(1), None, tracked(&json!({"b": 2, "a": 1}))));
    assert!(!presence.untrack(member(2)));
    assert_eq!(presence.flush(), None);
}

#[test]
fn an_update_names_what_it_takes_the_place_of() {
    let mut presence = Presence::new(replica(1));
    presence.track(member(1), Some("a"), tracked(&json!({"n": 1})));
    presence.flush();
    // The second of three is never told.
    presence.track(member(1), Some("a"), tracked(&json!({"n": 2})));
    presence.track(member(1), Some("a"), tracked(&json!({"n": 3})));
    let diff = read(&presence.flush().unwrap());
    let (join, leave) = (&diff["joins"]["a"]["metas"], &diff["leaves"]["a"]["metas"]);
    assert_eq!((join[0]["n"].clone(), leave[0]["n"].clone()), (json!(3), json!(1)));
    assert_eq!(join[0]["phx_ref_prev"], leave[0]["phx_ref"]);
    assert_ne!(join[0]["phx_ref"], leave[0]["phx_ref"]);
    assert_eq!((join.as_array().unwrap().len(), leave.as_array().unwrap().len()), (1, 1));
    let (state, references) = without_references(&presence.state());
    assert_eq!(state, json!({"a": {"metas": [{"n": 3}]}}));
    assert_eq!(references, [format!("phx_ref={}", join[0]["phx_ref"].as_str().unwrap())]);
}

#[test]
fn channels_that_share_a_key_appear_side_by_side() {
    let mut presence = Presence::new(replica(1));
    presence.track(member(1), Some("a"), tracked(&json!({"n": 1})));
    presence.track(member(2), Some("a"), tracked(&json!({"n": 2})));
    presence.track(member(3), Some("b"), tracked(&json!({})));
    presence.flush();
    let (state, references) = without_references(&presence.state());
    assert_eq!(state, json!({"a": {"metas": [{"n": 1}, {"n": 2}]}, "b": {"metas": [{}]}}));
    assert_eq!(references.len(), 3);
    presence.untrack(member(1));
    presence.flush();
    assert_eq!(
        without_references(&presence.state()).0,
        json!({"a": {"metas": [{"n": 2}]}, "b": {"metas": [{}]}})
    );
}

#[test]
fn what_came_and_went_between_two_flushes_is_not_told() {
    let mut presence = Presence::new(replica(1));
    presence.track(member(1), Some("a"), Tracked::default());
    presence.untrack(member(1));
    assert_eq!(presence.flush(), None);
    assert!(presence.is_idle());
}

#[test]
fn a_newcomer_learns_what_the_others_were_told_and_then_what_they_are_told() {
    let mut presence = Presence::new(replica(1));
    presence.track(member(1), Some("a"), Tracked::default());
    assert_eq!(read(&presence.state()), json!({}), "nobody was told yet");
    assert!(presence.flush().is_some());
    assert_eq!(without_references(&presence.state()).0, json!({"a": {"metas": [{}]}}));
}

#[test]
fn without_a_key_every_member_gets_its_own() {
    let mut presence = Presence::new(replica(7));
    for connection in [1, 2, 1 << 40, u64::MAX >> 16] {
        presence.track(member(connection), None, Tracked::default());
    }
    presence.flush();
    let state = read(&presence.state());
    let keys: Vec<&String> = state.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4);
    for key in keys {
        let parts: Vec<usize> = key.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{key}");
    }
}

#[test]
fn those_on_a_node_that_is_gone_leave() {
    let (mut here, mut there) = (Presence::new(replica(1)), Presence::new(replica(2)));
    here.track(member(1), Some("a"), Tracked::default());
    there.track(member(1), Some("b"), Tracked::default());
    here.merge(there.roster());
    here.flush();
    here.forget(replica(2));
    assert_eq!(
        without_references(&here.flush().unwrap()).0,
        json!({"joins": {}, "leaves": {"b": {"metas": [{}]}}})
    );
    assert_eq!(here.n_members(), 1);
}

/// Ten thousand are here. What one more costs is counted, not timed.
#[test]
fn one_more_among_ten_thousand_is_one_small_diff() {
    let mut presence = Presence::new(replica(1));
    let mut n_diffs = 0;
    for connection in 0..10_000 {
        let key = format!("user-{connection}");
        presence.track(member(connection), Some(&key), tracked(&json!({"name": key})));
        // A hundred per tick.
        if connection % 100 == 99 {
            n_diffs += usize::from(presence.flush().is_some());
        }
    }
    assert_eq!(n_diffs, 100);

    // Who only listens gets the state, and nothing is told to anybody.
    let state = presence.state();
    assert_eq!(read(&state).as_object().unwrap().len(), 10_000);
    assert_eq!(state.as_bytes().len(), 737_781);
    assert_eq!(presence.flush(), None);
    // The next newcomer shares its bytes.
    assert_eq!(presence.state().as_bytes().as_ptr(), state.as_bytes().as_ptr());

    // Who tracks is told to the others in one diff that names nobody else.
    presence.track(member(10_000), Some("user-10000"), tracked(&json!({"name": "user-10000"})));
    let diff = presence.flush().unwrap();
    assert_eq!(diff.as_bytes().len(), 99);
    assert_eq!(presence.flush(), None);
}
