//! Policies as they are read from the catalogue: what the oracle found, each by itself.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use walcast_server::{
    catalogue::{Catalogue, read},
    database,
};
use walcast_tests::{Database, Postgres};

use super::stage::connect_options;

/// Found by the oracle: the settings of the database cut digits off, and gave a moment in the zone IST
/// of India that is read back as one of Israel.
#[tokio::test]
async fn constants_of_policies_mean_the_same_in_questions() -> Result<()> {
    let server = Postgres::shared().await?;
    let database = server.database("oracle_constants").await?;
    for setting in ["extra_float_digits = -2", "datestyle = 'German'", "timezone = 'Asia/Kolkata'"]
    {
        database.run(&format!("alter database {} set {setting}", database.name())).await?;
    }
    let creator = database.session().await?;
    creator
        .batch_execute(
            "create table t (f float8, m timestamptz); alter table t enable row level security;
             create policy f on t using (f = '0.30000000000000004'::float8);
             create policy m on t using (m = '2000-01-01 00:00:00+00'::timestamptz);
             alter publication supabase_realtime add table t",
        )
        .await?;
    let catalogue = read_catalogue(server, &database).await?;
    let known = catalogue.tables.values().next().context("a table")?;
    let policies = known.row_security.policies.iter();
    let expressions: Vec<_> = policies.filter_map(|policy| policy.using.as_deref()).collect();
    let expected = [
        "(f = '0.30000000000000004'::double precision)",
        "(m = '2000-01-01 05:30:00+05:30'::timestamp with time zone)",
    ];
    assert_eq!(expressions, expected);
    drop(creator);
    database.remove().await
}

/// Found by the oracle: the planner replaces `not (… <> all …)` by `… = any …`, and with it the
/// function that a role must be allowed to run.
#[tokio::test]
async fn a_negated_operator_needs_the_function_of_its_negator() -> Result<()> {
    let server = Postgres::shared().await?;
    let database = server.database("oracle_negators").await?;
    database
        .run(
            "create table t (u uuid); alter table t enable row level security;
             create policy p on t using (not (u <> '00000000-0000-0000-0000-000000000000'::uuid));
             alter publication supabase_realtime add table t",
        )
        .await?;
    for (statement, is_decided) in
        [("select", true), ("revoke execute on function uuid_eq(uuid, uuid) from public", false)]
    {
        database.run(statement).await?;
        let catalogue = read_catalogue(server, &database).await?;
        let known = catalogue.tables.values().next().context("a table")?;
        let policy = known.row_security.policies.first().context("a policy")?;
        assert_eq!(policy.decision.is_ok(), is_decided, "{statement}: {:?}", policy.decision);
    }
    database.remove().await
}

async fn read_catalogue(server: &Postgres, database: &Database) -> Result<Catalogue> {
    let mut session =
        database::connect(&connect_options(server, "walcast", database.name())).await?;
    let publications = ["supabase_realtime".to_owned()];
    let nobody = BTreeSet::new();
    let (catalogue, _) =
        read::catalogue(&mut session, &publications, &Catalogue::default(), &nobody).await?;
    Ok(catalogue)
}
