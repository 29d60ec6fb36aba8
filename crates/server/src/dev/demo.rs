//! The demonstration: its schema, its users and their keys.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::Map;
use walcast_replicator::{ConnectOptions, Secret};

use crate::auth::{TokenRequest, mint};
use crate::database;
use crate::migrate::{self, Bootstrap, DdlTriggers, Scope};

/// The login that the walcast server uses; `sql/demo.sql` creates it.
pub(super) const LOGIN: &str = "walcast";

/// The user whose rows the printed lines insert.
pub(super) const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";

/// Another user, who must not see them.
pub(super) const BOB: &str = "b0b00000-0000-4000-8000-000000000002";

const PUBLICATION: &str = "supabase_realtime";

const SCHEMA: &str = include_str!("../../../../sql/demo.sql");

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long keys of applications last; the secret that signs them ends much earlier.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Applies `sql/`, makes the demonstration schema where it is missing and sets the password of
/// the superuser for connections by TCP.
pub(super) async fn prepare(connect: &ConnectOptions, password: &Secret) -> anyhow::Result<()> {
    let scope = Scope::Everything {
        bootstrap: Bootstrap::Yes,
        ddl_triggers: DdlTriggers::Yes,
        publication: PUBLICATION,
    };
    for line in migrate::run(connect, scope).await? {
        tracing::debug!("{line}");
    }
    let mut client = database::connect(connect).await?;
    let transaction = client.transaction().await.context("cannot make the demo schema")?;
    // Hexadecimal digits need no quoting, and a password cannot be a parameter.
    let password = format!("alter role current_user password '{}'", password.expose());
    transaction.batch_execute(&password).await.context("cannot set the password")?;
    let is_there: bool = transaction
        .query_one("select to_regclass('public.messages') is not null", &[])
        .await
        .context("cannot look for the demo schema")?
        .get(0);
    if !is_there {
        transaction.batch_execute(SCHEMA).await.context("cannot make the demo schema")?;
    }
    transaction.commit().await.context("cannot make the demo schema")
}

/// A token for each kind of client.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) anon: String,
    pub(super) alice: String,
    pub(super) bob: String,
    pub(super) service_role: String,
}

impl Keys {
    pub(super) fn mint(secret: &Secret) -> anyhow::Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the clock of this machine is before 1970")?
            .as_secs();
        let key = |role: &str, subject: Option<&str>, expires_in| {
            let request = TokenRequest {
                role: role.to_owned(),
                subject: subject.map(str::to_owned),
                claims: Map::new(),
                expires_in,
            };
            mint(secret, &request, now).with_context(|| format!("cannot make a key for {role}"))
        };
        Ok(Self {
            anon: key("anon", None, TEN_YEARS)?,
            alice: key("authenticated", Some(ALICE), DAY)?,
            bob: key("authenticated", Some(BOB), DAY)?,
            service_role: key("service_role", None, TEN_YEARS)?,
        })
    }
}
