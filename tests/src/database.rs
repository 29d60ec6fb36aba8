//! One database of a test: created from the template, dropped when the test is over.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, NoTls};

use crate::postgres::{Postgres, SUPERUSER};

/// A database with a connection of its superuser.
#[derive(Debug)]
pub struct Database {
    name: String,
    superuser_url: String,
    url: String,
    maintenance_url: String,
    client: Client,
}

impl Database {
    pub(crate) async fn create(server: &Postgres, template: &str, name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cleaned: String = name
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
            .take(40)
            .collect();
        // Cases differ in their tails, and two tests may use one name: the number tells them apart.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", cleaned.to_ascii_lowercase());
        let maintenance_url = server.url(SUPERUSER, "postgres");
        let maintenance = connect(&maintenance_url).await?;
        maintenance
            .batch_execute(&format!("create database {name} template {template}"))
            .await
            .with_context(|| format!("cannot create database {name}"))?;
        let superuser_url = server.url(SUPERUSER, &name);
        let client = connect(&superuser_url).await?;
        Ok(Self { url: server.url("walcast", &name), name, superuser_url, maintenance_url, client })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address for the role `walcast`: REPLICATION and membership in the client roles, nothing
    /// more.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address for the superuser.
    #[must_use]
    pub fn superuser_url(&self) -> &str {
        &self.superuser_url
    }

    /// The superuser's session.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs `statements` in the superuser's session as one simple query.
    pub async fn run(&self, statements: &str) -> Result<()> {
        self.client.batch_execute(statements).await.with_context(|| statements.to_owned())
    }

    /// The first column of the first row that `query` returns, as text.
    pub async fn text(&self, query: &str) -> Result<Option<String>> {
        let messages = self.client.simple_query(query).await.with_context(|| query.to_owned())?;
        Ok(messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
            _ => None,
        }))
    }

    /// Opens the superuser's session anew, after the server was restarted.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.client = connect(&self.superuser_url).await?;
        Ok(())
    }

    /// Another session of the superuser.
    pub async fn session(&self) -> Result<Client> {
        connect(&self.superuser_url).await
    }

    /// Drops the database and its replication slots. Tests on the shared server that create many
    /// databases call it; otherwise the server takes everything with it.
    pub async fn remove(self) -> Result<()> {
        let maintenance = connect(&self.maintenance_url).await?;
        maintenance
            .execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots \
                 where database = $1 and active",
                &[&self.name],
            )
            .await?;
        crate::eventually("the slots of the database to be dropped", || async {
            maintenance
                .execute(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                     where database = $1",
                    &[&self.name],
                )
                .await?;
            Ok(Some(()))
        })
        .await?;
        drop(self.client);
        maintenance
            .batch_execute(&format!("drop database if exists {} with (force)", self.name))
            .await?;
        Ok(())
    }
}

/// Opens a session; its connection lives in a task of the running runtime.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let mut config: Config = url.parse()?;
    config.application_name("walcast-tests");
    let (client, connection) =
        config.connect(NoTls).await.with_context(|| format!("cannot connect to {url}"))?;
    tokio::spawn(async move {
        // It ends with the client, or with the server that a test stops on purpose.
        drop(connection.await);
    });
    Ok(client)
}
