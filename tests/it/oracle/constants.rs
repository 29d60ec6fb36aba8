//! Constants in policies, as questions repeat them.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use walcast_server::{
    catalogue::{Catalogue, read},
    database,
};
use walcast_tests::Postgres;

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
    let mut session =
        database::connect(&connect_options(server, "walcast", database.name())).await?;
    let publications = ["supabase_realtime".to_owned()];
    let (catalogue, _) =
        read::catalogue(&mut session, &publications, &Catalogue::default(), &BTreeSet::new())
            .await?;
    let known = catalogue.tables.values().next().context("a table")?;
    let policies = known.row_security.policies.iter();
    let expressions: Vec<_> = policies.filter_map(|policy| policy.using.as_deref()).collect();
    let expected = [
        "(f = '0.30000000000000004'::double precision)",
        "(m = '2000-01-01 05:30:00+05:30'::timestamp with time zone)",
    ];
    assert_eq!(expressions, expected);
    drop(creator);
    drop(session);
    database.remove().await
}
