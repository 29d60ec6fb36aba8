//! Constants in policies, as questions repeat them.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use walcast_server::{
    catalogue::{Catalogue, read},
    database,
};
use walcast_tests::Postgres;

use super::stage::connect_options;

/// Found by the oracle: the database's `extra_float_digits` cut them off.
#[tokio::test]
async fn constants_of_policies_keep_their_digits() -> Result<()> {
    let server = Postgres::shared().await?;
    let database = server.database("oracle_constants").await?;
    database
        .run(&format!("alter database {} set extra_float_digits = -2", database.name()))
        .await?;
    database
        .run(
            "create table t (f float8); alter table t enable row level security;
             create policy p on t using (f = '0.30000000000000004'::float8);
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
    let policy = known.row_security.policies.first().context("a policy")?;
    assert_eq!(policy.using.as_deref(), Some("(f = '0.30000000000000004'::double precision)"));
    drop(session);
    database.remove().await
}
