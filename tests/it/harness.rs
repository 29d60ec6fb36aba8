//! The harness itself: a test that cannot fail because its tools are broken proves nothing.

use anyhow::Result;
use walcast_tests::{ImageCell, Postgres, WalReader};

#[tokio::test]
async fn a_database_has_what_supabase_has_and_its_wal_can_be_read() -> Result<()> {
    let database = Postgres::shared().await?.database("harness").await?;
    database
        .run(
            "create table notes (id int primary key, body text);
             alter publication supabase_realtime add table notes;",
        )
        .await?;
    let session = database.session().await?;
    let mut reader = WalReader::create(&session, "harness", "supabase_realtime").await?;
    database.run("insert into notes values (1, 'a'); update notes set id = 2").await?;
    let changes = reader.take(&session).await?;
    let kinds: Vec<&str> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, ["INSERT", "UPDATE"]);
    assert_eq!(changes[1].old.as_ref().unwrap()[0], ImageCell::Text("1".to_owned()));
    assert!(changes[1].old_is_key);
    assert_eq!(database.text("select auth.uid()").await?, None);
    drop(session);
    database.remove().await
}

#[tokio::test]
async fn a_stopped_server_comes_back_with_its_data() -> Result<()> {
    let mut server = Postgres::start_with_prelude().await?;
    let database = server.database("restart").await?;
    database.run("create table notes as select 1 as id").await?;
    let url = database.superuser_url().to_owned();
    server.stop()?;
    server.start_again().await?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let row = client.query_one("select id from notes", &[]).await?;
    assert_eq!(row.get::<_, i32>(0), 1);
    Ok(())
}
