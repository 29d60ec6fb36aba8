//! What the old row holds when a change is published under the name of a partitioned table.

use anyhow::Result;
use serde_json::{Value, json};
use walcast_tests::Token;

use crate::world::{ALICE, World};

/// Under its root's name the old row has the form that the root's replica identity asks for, and
/// NULL where the leaf sent nothing. What is told is what the leaf sent: root, leaf, and the old
/// rows of an UPDATE of `code`, an UPDATE of `id`, and a DELETE.
const ROOTS: &[(&str, &str, [&str; 3])] = &[
    (
        "full",
        "full",
        [
            r#"{"id":1,"owner":null,"code":"a"}"#,
            r#"{"id":1,"owner":null,"code":"b"}"#,
            r#"{"id":2,"owner":null,"code":"b"}"#,
        ],
    ),
    ("full", "default", [r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":2}"#]),
    ("full", "using index low_code", [r#"{"code":"a"}"#, r#"{"code":"b"}"#, r#"{"code":"b"}"#]),
    ("default", "full", [r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":2}"#]),
    ("default", "default", [r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":2}"#]),
    ("default", "using index low_code", ["{}", r#"{"code":"b"}"#, "{}"]),
];

#[tokio::test]
async fn under_its_roots_name_a_leaf_tells_what_it_sent() -> Result<()> {
    for (root, leaf, expected) in ROOTS {
        let world = World::new(
            "roots",
            &format!(
                "create table notes (id int primary key, owner uuid, code text not null)
                   partition by range (id);
                 create table low partition of notes for values from (0) to (10);
                 create unique index low_code on low (code);
                 alter table notes replica identity {root};
                 alter table low replica identity {leaf};
                 alter publication supabase_realtime set (publish_via_partition_root);
                 alter publication supabase_realtime add table notes;
                 insert into notes values (1, null, 'a');"
            ),
        )
        .await?;
        let mut client = world.listener(&Token::anon(), "notes").await?;
        world
            .database
            .run("update notes set code = 'b'; update notes set id = 2; delete from notes")
            .await?;
        let changes = world.settled(&mut client).await?;
        let old: Vec<Value> = changes.iter().map(|data| data["old_record"].clone()).collect();
        let expected: Vec<Value> =
            expected.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
        assert_eq!(old, expected, "root {root}, leaf {leaf}");
        world.end().await?;
    }
    Ok(())
}

/// A NULL that stands for what a leaf did not send is no value that a policy could pass on, nor one
/// that a large value could be filled with.
#[tokio::test]
async fn a_root_judges_nothing_that_its_leaf_did_not_send() -> Result<()> {
    let large = "x".repeat(20_000);
    for leaf in ["default", "full"] {
        let world = World::new(
            "root_policies",
            &format!(
                "create table notes (id int primary key, owner uuid, body text)
                   partition by range (id);
                 create table low partition of notes for values from (0) to (10);
                 alter table low alter body set storage external;
                 alter table notes replica identity full;
                 alter table low replica identity {leaf};
                 alter table notes enable row level security;
                 create policy ownerless on notes for select to anon using (owner is null);
                 create policy own on notes for select to authenticated using (owner = auth.uid());
                 alter publication supabase_realtime set (publish_via_partition_root);
                 alter publication supabase_realtime add table notes;
                 insert into notes values (1, '{ALICE}', repeat('x', 20000));"
            ),
        )
        .await?;
        let mut anon = world.listener(&Token::anon(), "notes").await?;
        let mut alice = world.listener(&Token::user(ALICE), "notes").await?;
        world.database.run("update notes set id = 2; delete from notes").await?;
        let (hers, theirs) = (world.settled(&mut alice).await?, world.settled(&mut anon).await?);
        let old = |changes: &[Value]| -> Vec<Value> {
            changes.iter().map(|data| json!([data["type"], data["old_record"]])).collect()
        };
        let whole = |id: i32| json!({"id": id, "owner": ALICE, "body": large});
        if leaf == "full" {
            assert_eq!(hers[0]["record"], whole(2));
            assert_eq!(old(&hers), [json!(["UPDATE", whole(1)]), json!(["DELETE", whole(2)])]);
            assert_eq!(old(&theirs), [] as [Value; 0]);
        } else {
            let key = |id: i32| json!({"id": id});
            assert_eq!(hers[0]["record"], json!({"id": 2, "owner": ALICE}));
            assert_eq!(old(&hers), [json!(["UPDATE", key(1)]), json!(["DELETE", key(2)])]);
            assert_eq!(old(&theirs), [json!(["DELETE", key(2)])]);
        }
        world.end().await?;
    }
    Ok(())
}
