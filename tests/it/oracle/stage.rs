//! Builds a world in a database of its own, and reads it as walcast does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;
use walcast_change::{Cell, Row};
use walcast_filters::claims::Role;
use walcast_replicator::{ConnectOptions, Host, SslMode};
use walcast_server::{
    catalogue::{Catalogue, KnownTable, read},
    database, migrate,
};
use walcast_tests::{Database, ImageCell, Postgres, SUPERUSER, WalReader};

use super::{
    auth::Auth,
    random::Random,
    report::Report,
    values::quoted,
    world::{PolicyPlan, TablePlan, World},
};

/// The publication that all tables of a world are in.
const PUBLICATION: &str = "oracle";

/// A world in a database.
pub struct Stage {
    /// The database.
    pub database: Database,
    /// Who created everything.
    superuser: Client,
    /// How walcast connects to it.
    pub connect: ConnectOptions,
    /// The login walcast has: a member of every role that asks.
    pub session: Client,
    /// What walcast knows.
    pub catalogue: Catalogue,
    /// The rows as the stream carries them, in order of their keys.
    pub rows: Vec<Row>,
}

impl Stage {
    /// Creates everything; policies that PostgreSQL refuses are taken out of the plan.
    pub async fn build(server: &Postgres, world: &mut World, report: &mut Report) -> Result<Self> {
        let database = server.database("oracle").await?;
        for setting in &world.settings {
            database.run(&format!("alter database {} set {setting}", database.name())).await?;
        }
        // From here on, sessions have the settings of the world.
        let superuser = database.session().await?;
        for sql in world.auth.statements() {
            superuser.batch_execute(sql).await.context(sql)?;
        }
        if world.auth == Auth::Migrated {
            let connect = connect_options(server, SUPERUSER, database.name());
            let scope = migrate::Scope::Everything {
                bootstrap: migrate::Bootstrap::Yes,
                ddl_triggers: migrate::DdlTriggers::No,
                publication: PUBLICATION,
            };
            migrate::run(&connect, scope).await?;
        } else {
            superuser.batch_execute(&format!("create publication {PUBLICATION}")).await?;
        }
        for sql in world.objects.iter().chain([&world.base]) {
            superuser.batch_execute(sql).await.with_context(|| sql.clone())?;
        }
        superuser
            .batch_execute(
                "grant usage on schema public, \"Odd Schema\", auth, oracle to public; \
                 grant select on public.base to walcast; grant select on public.members to authenticated, oracle_owner",
            )
            .await?;
        let rows = insert_rows(server, &database, world).await?;
        for table in &world.tables {
            let mut sql = vec![
                table.create.clone(),
                format!("insert into {} select * from public.base", table.name),
                format!("grant select on {} to public", table.name),
                format!("alter publication {PUBLICATION} add table {}", table.name),
            ];
            sql.extend(table.alterations.iter().cloned());
            let sql = sql.join(";\n");
            superuser.batch_execute(&sql).await.with_context(|| sql.clone())?;
        }
        // Policies are made with or without them.
        let traps = world.traps.join("; ");
        let is_early = Random::new(world.seed ^ 1).chance(50);
        if is_early {
            superuser.batch_execute(&traps).await.with_context(|| traps.clone())?;
        }
        for table in &mut world.tables {
            let mut kept = Vec::new();
            for policy in table.policies.drain(..) {
                if create_policy(&superuser, &policy, report).await? {
                    kept.push(policy);
                }
            }
            table.policies = kept;
        }
        if !is_early {
            superuser.batch_execute(&traps).await.with_context(|| traps.clone())?;
        }
        let connect = connect_options(server, "walcast", database.name());
        let mut session = database::connect(&connect).await?;
        let roles: BTreeSet<Role> =
            world.audiences.iter().map(|asking| Role::new(&asking.role)).collect();
        let catalogue = read_catalogue(&mut session, &roles).await?;
        Ok(Self { database, superuser, connect, session, catalogue, rows })
    }

    /// The table that the others are copies of.
    pub fn base(&self) -> Result<Arc<KnownTable>> {
        let mut tables = self.catalogue.tables.values();
        let found = tables.find(|known| &*known.table.name == "base");
        found.map(Arc::clone).context("the base is not in the catalogue")
    }

    /// Gives a table one policy in place of those it has.
    pub async fn replace_policies(
        &mut self,
        world: &World,
        table: &TablePlan,
        policy: &PolicyPlan,
    ) -> Result<()> {
        let drop = format!(
            "do $$ declare name text; begin for name in select polname from pg_policy \
               where polrelid = {}::regclass loop \
               execute format('drop policy %I on %s', name, {0}); end loop; end $$",
            quoted(&table.name)
        );
        self.superuser.batch_execute(&drop).await?;
        self.superuser.batch_execute(&policy.sql()).await?;
        let roles = world.audiences.iter().map(|asking| Role::new(&asking.role)).collect();
        self.catalogue = read_catalogue(&mut self.session, &roles).await?;
        Ok(())
    }
}

async fn read_catalogue(session: &mut Client, roles: &BTreeSet<Role>) -> Result<Catalogue> {
    let (catalogue, _) =
        read::catalogue(session, &[PUBLICATION.to_owned()], &Catalogue::default(), roles).await?;
    Ok(catalogue)
}

async fn create_policy(
    superuser: &Client,
    policy: &PolicyPlan,
    report: &mut Report,
) -> Result<bool> {
    report.policies += 1;
    match superuser.batch_execute(&policy.sql()).await {
        Ok(()) => Ok(true),
        Err(error) => {
            let Some(refusal) = error.as_db_error() else { return Err(error.into()) };
            report.refuse(refusal.message(), &policy.condition.sql);
            Ok(false)
        }
    }
}

/// Inserts the rows and takes them from a logical slot, written as a walsender writes them for
/// walcast.
async fn insert_rows(server: &Postgres, database: &Database, world: &World) -> Result<Vec<Row>> {
    let session = database.session().await?;
    session
        .batch_execute(
            "set search_path = ''; set datestyle = 'ISO'; set bytea_output = 'hex'; \
             select case when current_setting('extra_float_digits')::int < 1 \
               then set_config('extra_float_digits', '1', false) end",
        )
        .await?;
    let slot = format!("oracle_{}_{}", server.port(), database.name());
    session
        .batch_execute(&format!("alter publication {PUBLICATION} add table public.base"))
        .await?;
    let mut reader = WalReader::create(&session, &slot, PUBLICATION).await?;
    let inserting = database.session().await?;
    for sql in &world.rows {
        inserting.batch_execute(sql).await.with_context(|| sql.clone())?;
    }
    let changes = reader.take(&session).await?;
    if changes.len() != world.rows.len() {
        bail!("{} of {} rows are in the stream", changes.len(), world.rows.len());
    }
    session.execute("select pg_drop_replication_slot($1)", &[&slot]).await?;
    let rows = changes.iter().map(|change| {
        let cells = change.new.as_deref().unwrap_or_default().iter().map(|cell| match cell {
            ImageCell::Null => Cell::Null,
            ImageCell::Unchanged => Cell::Unchanged,
            ImageCell::Text(text) => Cell::Text(text),
        });
        cells.collect()
    });
    Ok(rows.collect())
}

/// How to reach a database.
pub fn connect_options(server: &Postgres, user: &str, database: &str) -> ConnectOptions {
    ConnectOptions {
        host: Host::Tcp("127.0.0.1".to_owned()),
        port: server.port(),
        user: user.to_owned(),
        password: None,
        database: database.to_owned(),
        ssl_mode: SslMode::Disable,
        ssl_root_cert: None,
        application_name: "walcast".to_owned(),
        connect_timeout: Duration::from_secs(10),
    }
}
