//! Nodes that tell each other what they know, in any order, agree.

use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde_json::json;

use super::{tests::member, tests::tracked, *};

const NODES: u32 = 3;

/// One thing that happens among three nodes.
#[derive(Clone, Debug)]
enum Step {
    /// A member of a node tracks.
    Track(u32, u64, u8),
    /// A member of a node leaves.
    Untrack(u32, u64),
    /// A node tells another one everything.
    Tell(u32, u32),
    /// A node tells another one about some dots only.
    TellSome(u32, u32, u64),
    /// A node tells its listeners.
    Flush(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..NODES;
    let step = prop_oneof![
        4 => (node(), 0_u64..4, 0_u8..4).prop_map(|(at, who, n)| Step::Track(at, who, n)),
        2 => (node(), 0_u64..4).prop_map(|(at, who)| Step::Untrack(at, who)),
        1 => (node(), node()).prop_map(|(from, to)| Step::Tell(from, to)),
        3 => (node(), node(), any::<u64>())
            .prop_map(|(from, to, which)| Step::TellSome(from, to, which)),
        1 => node().prop_map(Step::Flush),
    ];
    proptest::collection::vec(step, 0..60)
}

/// What a client makes of the diffs it is told: the names of the appearances by key.
#[derive(Default)]
struct Listener(BTreeSet<(String, String)>);

impl Listener {
    fn metas(side: &serde_json::Value) -> BTreeSet<(String, String)> {
        let mut metas = BTreeSet::new();
        for (key, held) in side.as_object().unwrap() {
            for meta in held["metas"].as_array().unwrap() {
                metas.insert((key.clone(), meta["phx_ref"].as_str().unwrap().to_owned()));
            }
        }
        metas
    }

    fn told(&mut self, diff: &RawJson) {
        let diff: serde_json::Value = serde_json::from_slice(diff.as_bytes()).unwrap();
        let (joins, leaves) = (Self::metas(&diff["joins"]), Self::metas(&diff["leaves"]));
        assert!(joins.is_disjoint(&leaves), "{diff}");
        for meta in joins {
            assert!(self.0.insert(meta), "told twice: {diff}");
        }
        for meta in leaves {
            assert!(self.0.remove(&meta), "left without having joined: {diff}");
        }
    }
}

/// Nodes after these steps, each with a listener that was told everything it was to be told.
fn run(steps: Vec<Step>) -> Vec<Presence> {
    let mut nodes: Vec<(Presence, Listener)> = (0..NODES)
        .map(|node| (Presence::new(ReplicaId { node, life: 9 }), Listener::default()))
        .collect();
    for step in steps {
        match step {
            Step::Track(node, who, n) => {
                let key = format!("k{}", who % 2);
                let remarks = tracked(&json!({"n": n}));
                nodes[node as usize].0.track(member(who), Some(&key), remarks);
            }
            Step::Untrack(node, who) => _ = nodes[node as usize].0.untrack(member(who)),
            Step::Tell(from, to) => {
                let roster = nodes[from as usize].0.roster().clone();
                nodes[to as usize].0.merge(&roster);
            }
            Step::TellSome(from, to, which) => {
                let roster = nodes[from as usize].0.roster();
                let replica = ReplicaId { node: from, life: 9 };
                let dots = (1..64).filter(|clock| which >> clock & 1 == 1);
                let delta = roster.delta(dots.map(|clock| Dot { replica, clock }));
                nodes[to as usize].0.merge(&delta);
            }
            Step::Flush(node) => flush(&mut nodes[node as usize]),
        }
    }
    nodes.iter_mut().for_each(flush);
    nodes.into_iter().map(|(presence, _)| presence).collect()
}

fn flush((presence, listener): &mut (Presence, Listener)) {
    if let Some(diff) = presence.flush() {
        listener.told(&diff);
    }
    let state: serde_json::Value = serde_json::from_slice(presence.state().as_bytes()).unwrap();
    assert_eq!(Listener::metas(&state), listener.0, "the state is the sum of the diffs");
    assert_eq!(listener.0.len(), presence.roster().entries().count());
}

fn merged(rosters: &[&Roster]) -> Roster {
    rosters.iter().fold(Roster::default(), |mut all, roster| {
        all.merge(roster);
        all
    })
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(steps in steps(), which in any::<u64>()) {
        let nodes = run(steps);
        let replica = ReplicaId { node: 0, life: 9 };
        let dots = (1..64).filter(|clock| which >> clock & 1 == 1);
        let delta = nodes[0].roster().delta(dots.map(|clock| Dot { replica, clock }));
        let [a, b, c] = [nodes[0].roster(), nodes[1].roster(), nodes[2].roster()];
        for [a, b, c] in [[a, b, c], [&delta, b, c], [b, &delta, a]] {
            let ab_c = merged(&[&merged(&[a, b]), c]);
            assert_eq!(merged(&[a, &merged(&[b, c])]), ab_c);
            for order in [[a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
                assert_eq!(merged(&order), ab_c);
            }
            let mut again = ab_c.clone();
            for roster in [a, b, c, &ab_c] {
                assert_eq!(again.merge(roster), []);
            }
            assert_eq!(again, ab_c);
        }
    }

    #[test]
    fn nodes_that_have_told_each_other_everything_agree_with_their_members(steps in steps()) {
        let mut nodes = run(steps);
        let rosters: Vec<Roster> = nodes.iter().map(|node| node.roster().clone()).collect();
        for node in &mut nodes {
            rosters.iter().for_each(|roster| node.merge(roster));
            node.flush();
        }
        let states: BTreeSet<Vec<u8>> =
            nodes.iter_mut().map(|node| node.state().as_bytes().to_vec()).collect();
        assert_eq!(states.len(), 1);
        // Nobody is a ghost, nobody is missing: what all agree on is what each node has itself.
        let n_members: usize = nodes.iter().map(Presence::n_members).sum();
        assert_eq!(nodes[0].roster().entries().count(), n_members);
    }

    #[test]
    fn what_is_told_in_parts_and_in_any_order_is_what_is_told_at_once(
        steps in steps(),
        order in Just((1..40).collect::<Vec<u64>>()).prop_shuffle(),
    ) {
        let nodes = run(steps);
        let replica = ReplicaId { node: 1, life: 9 };
        let roster = nodes[1].roster();
        let mut parts = Roster::default();
        for clock in order {
            parts.merge(&roster.delta([Dot { replica, clock }]));
        }
        let own = roster.delta((1..100).map(|clock| Dot { replica, clock }));
        let mut whole = Roster::default();
        whole.merge(&own);
        assert!(parts.entries().eq(whole.entries()));
    }
}
