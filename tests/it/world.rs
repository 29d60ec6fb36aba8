//! What most tests start from: a database with tables, and a `walcast` on it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use walcast_tests::{Client, Database, Message, Postgres, Token, Version, Walcast, WalcastBuilder};

/// A signed-in user.
pub const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
/// Another one.
pub const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

/// The table of the tests about paths and joins.
pub const NOTES: &str = "
    create table notes (id int primary key, body text, n int);
    alter publication supabase_realtime add table notes;";

/// A table whose rows belong to users.
pub const PRIVATE_NOTES: &str = "
    create table notes (id int primary key, owner uuid, body text);
    alter table notes enable row level security;
    create policy own on notes for select to authenticated using (owner = auth.uid());
    alter publication supabase_realtime add table notes;";

/// A table that every client may read. A row in it, inserted last, tells a client that everything
/// before has arrived.
const MARKS: &str = "
    create table marks (id serial primary key);
    alter publication supabase_realtime add table marks;
    grant select on all tables in schema public to walcast;";

/// A database and the process that serves it.
pub struct World {
    /// The database.
    pub database: Database,
    /// The process.
    pub walcast: Walcast,
}

impl World {
    /// Starts both.
    pub async fn new(name: &str, setup: &str) -> Result<Self> {
        Self::with(name, setup, |builder| builder).await
    }

    /// Starts both, with options for the process.
    pub async fn with(
        name: &str,
        setup: &str,
        options: impl FnOnce(WalcastBuilder) -> WalcastBuilder,
    ) -> Result<Self> {
        Self::on(Postgres::shared().await?, name, setup, options).await
    }

    /// Starts both where the process may make schema `realtime`, and so does.
    pub async fn with_messages(name: &str, setup: &str) -> Result<Self> {
        let database = Postgres::shared().await?.database(name).await?;
        allow_messages(&database).await?;
        database.run(setup).await?;
        database.run(MARKS).await?;
        let walcast = Walcast::on(&database).start().await?;
        Ok(Self { database, walcast })
    }

    /// Starts the process on a database of `server`.
    pub async fn on(
        server: &Postgres,
        name: &str,
        setup: &str,
        options: impl FnOnce(WalcastBuilder) -> WalcastBuilder,
    ) -> Result<Self> {
        let database = server.database(name).await?;
        database.run(setup).await?;
        database.run(MARKS).await?;
        let walcast = options(Walcast::on(&database)).start().await?;
        Ok(Self { database, walcast })
    }

    /// Connects and subscribes to all changes of `table` and to the marks.
    pub async fn listener(&self, token: &Token, table: &str) -> Result<Client> {
        let bindings = json!([{"event": "*", "schema": "public", "table": table}]);
        self.listener_to(token, &bindings).await
    }

    /// Connects and subscribes to `bindings` as `realtime:test`, and to the marks.
    pub async fn listener_to(&self, token: &Token, bindings: &Value) -> Result<Client> {
        let mut client = self.walcast.client(token).await?;
        client.subscribe("realtime:test", bindings).await?;
        watch_marks(&mut client).await?;
        Ok(client)
    }

    /// The `data` of all changes on `realtime:test` that were committed before this moment.
    pub async fn settled(&self, client: &mut Client) -> Result<Vec<Value>> {
        let messages = self.settled_messages(client).await?;
        Ok(messages.iter().map(|message| message.data().clone()).collect())
    }

    /// The same as whole messages.
    pub async fn settled_messages(&self, client: &mut Client) -> Result<Vec<Message>> {
        let id = self
            .database
            .text("insert into marks default values returning id")
            .await?
            .context("a mark has an id")?;
        await_mark(client, &id).await?;
        let mut messages = client.take_inbox();
        messages.retain(|message| message.is_change() && message.topic == "realtime:test");
        Ok(messages)
    }

    /// Stops everything.
    pub async fn end(self) -> Result<()> {
        drop(self.walcast);
        self.database.remove().await
    }
}

/// Lets the process make schema `realtime`.
pub async fn allow_messages(database: &Database) -> Result<()> {
    database.run(&format!("grant create on database {} to walcast", database.name())).await
}

/// Subscribes a client of this version to the marks.
pub async fn watch_marks(client: &mut Client) -> Result<()> {
    let bindings = json!([{"event": "INSERT", "schema": "public", "table": "marks"}]);
    let token = Token::service_role().sign();
    client.subscribe_with("realtime:marks", &bindings, Some(&token)).await.map(drop)
}

/// Waits for the mark with this id.
pub async fn await_mark(client: &mut Client, id: &str) -> Result<()> {
    let number: i64 = id.parse()?;
    client
        .next_where(&format!("mark {id}"), |message| {
            message.topic == "realtime:marks"
                && message.is_change()
                && message.data()["record"]["id"] == number
        })
        .await
        .map(drop)
}

/// `type` and the `id` of the row of each change.
pub fn summary(changes: &[Value]) -> Vec<String> {
    changes
        .iter()
        .map(|data| {
            let row = if data["type"] == "DELETE" { &data["old_record"] } else { &data["record"] };
            format!("{} {}", data["type"].as_str().unwrap_or_default(), row["id"])
        })
        .collect()
}

/// Both versions of the serialiser.
pub const VERSIONS: [Version; 2] = [Version::V1, Version::V2];
