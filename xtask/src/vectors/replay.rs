//! Playing one case through the real server over real WebSockets.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio_postgres::Client as Session;
use walcast_tests::{Client, Database, Json, Message, Postgres, Token, Version, Walcast};

use super::case::{Case, CaseSubscription};
use super::oracle::{Oracle, Own};

/// A schema of the runner's own. A change in its table, made after all others, tells a connection
/// that everything before has arrived: connections keep commit order.
pub const SENTINEL_SCHEMA: &str = "walcast_sentinel";

const SENTINEL_TOPIC: &str = "realtime:sentinel";

/// What happened in a case.
#[derive(Debug, Default)]
pub struct Played {
    /// By the name of the subscription.
    pub subscriptions: BTreeMap<String, Received>,
    /// The messages of each channel in order.
    pub channels: BTreeMap<String, Vec<ReceivedMessage>>,
    /// What walcast has to send by its own rules, in the order of the subscriptions.
    pub own: Vec<Own>,
    /// What the process said when it crashed.
    pub crash: Option<String>,
}

/// What one subscription received.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The error it was answered with.
    pub error: Option<String>,
    /// Its `data` objects in order.
    pub payloads: Vec<Json>,
}

/// One message of a channel.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// The subscriptions it is for.
    pub names: Vec<String>,
    /// Its `data`.
    pub data: Json,
}

/// Plays a case.
pub async fn play(server: &Postgres, case: &Case) -> Result<Played> {
    let database = server.database(&case.name).await?;
    let played = Box::pin(play_on(&database, case)).await;
    let removed = database.remove().await;
    let played = played?;
    removed?;
    Ok(played)
}

async fn play_on(database: &Database, case: &Case) -> Result<Played> {
    database.run(&case.setup_sql).await.context("setup_sql")?;
    database
        .run(&format!(
            "create schema {SENTINEL_SCHEMA}; \
             create table {SENTINEL_SCHEMA}.mark (id int primary key); \
             grant usage on schema {SENTINEL_SCHEMA} to service_role; \
             grant select on {SENTINEL_SCHEMA}.mark to service_role"
        ))
        .await?;
    let mut walcast = Walcast::at(database.superuser_url(), &format!("slot_{}", database.name()))
        .set("WALCAST_MAX_RECORD_BYTES", &case.max_record_bytes.to_string())
        .spawn()?;
    let outcome = match walcast.ready().await {
        Ok(()) => Box::pin(play_with(database, case, &walcast)).await,
        Err(error) => Err(error),
    };
    if walcast.has_crashed()? {
        let crash = Some(walcast.log_tail());
        return Ok(Played { crash, ..Played::default() });
    }
    walcast.kill9()?;
    outcome.with_context(|| {
        let log = walcast.log();
        let last = log.get(log.len().saturating_sub(8)..).unwrap_or_default();
        format!("the last lines of walcast: {}", last.join(" | "))
    })
}

async fn play_with(database: &Database, case: &Case, walcast: &Walcast) -> Result<Played> {
    let slot = format!("oracle_{}", database.name());
    let mut oracle = Oracle::start(case, database.session().await?, &slot).await?;
    let mut channels = Vec::new();
    for (index, channel) in channels_of(case).into_iter().enumerate() {
        let version = if index % 2 == 0 { Version::V2 } else { Version::V1 };
        channels.push(Listener::open(walcast, channel, version).await?);
    }
    publish_sentinel(database).await?;
    for channel in &mut channels {
        channel.await_sentinel_subscription().await?;
    }
    let session = database.session().await?;
    for statement in &case.changes {
        change(&session, case, statement).await?;
        oracle.observe().await?;
    }
    // A publication may publish only some kinds of changes; any of these tells the same.
    for mark in ["insert into {} values (1)", "update {} set id = 2", "delete from {}"] {
        database.run(&mark.replace("{}", &format!("{SENTINEL_SCHEMA}.mark"))).await?;
    }
    let mut played = Played { own: oracle.finish(), ..Played::default() };
    for mut channel in channels {
        channel.await_sentinel().await?;
        channel.report(&mut played)?;
    }
    Ok(played)
}

/// Runs one statement, which may be meant to fail.
async fn change(session: &Session, case: &Case, statement: &str) -> Result<()> {
    let Err(error) = session.batch_execute(statement).await else { return Ok(()) };
    // A statement that fails inside an explicit transaction leaves it open.
    session.batch_execute("rollback").await?;
    if case.has_refused_changes || statement.contains("realtime.subscription") {
        return Ok(());
    }
    Err(error).with_context(|| format!("change {statement:?}"))
}

async fn publish_sentinel(database: &Database) -> Result<()> {
    let published = format!(
        "select 1 from pg_publication_tables where pubname = 'supabase_realtime' \
         and schemaname = '{SENTINEL_SCHEMA}'"
    );
    if database.text(&published).await?.is_none() {
        database
            .run(&format!("alter publication supabase_realtime add table {SENTINEL_SCHEMA}.mark"))
            .await?;
    }
    Ok(())
}

/// Subscriptions that share a channel.
#[derive(Debug)]
struct Channel<'a> {
    name: &'a str,
    bindings: Vec<&'a CaseSubscription>,
    /// Later entries with the id of a binding: its token was refreshed.
    refreshed: Vec<&'a CaseSubscription>,
}

fn channels_of(case: &Case) -> Vec<Channel<'_>> {
    let mut channels: Vec<Channel<'_>> = Vec::new();
    for subscription in &case.subscriptions {
        let same = |other: &&CaseSubscription| {
            !subscription.id.is_empty()
                && other.id == subscription.id
                && other.params == subscription.params
        };
        if let Some(channel) = channels.iter_mut().find(|channel| channel.bindings.iter().any(same))
        {
            channel.refreshed.push(subscription);
        } else if let Some(channel) =
            channels.iter_mut().find(|channel| channel.name == subscription.channel)
        {
            channel.bindings.push(subscription);
        } else {
            channels.push(Channel {
                name: &subscription.channel,
                bindings: vec![subscription],
                refreshed: Vec::new(),
            });
        }
    }
    channels
}

/// A connection with one channel and the sentinel's.
struct Listener<'a> {
    channel: Channel<'a>,
    client: Client,
    topic: String,
    ids: Vec<i64>,
    error: Option<String>,
}

impl<'a> Listener<'a> {
    async fn open(walcast: &Walcast, channel: Channel<'a>, version: Version) -> Result<Self> {
        let first = channel.bindings.first().context("a channel has a subscription")?;
        let token = Token::claims(first.claims.clone()).sign();
        let client = Client::connect(walcast.port(), &token, version).await?;
        let topic = format!("realtime:{}", channel.name);
        let mut listener = Self { channel, client, topic, ids: Vec::new(), error: None };
        listener.join().await?;
        Ok(listener)
    }

    async fn join(&mut self) -> Result<()> {
        let bindings: Vec<&Value> =
            self.channel.bindings.iter().map(|subscription| &subscription.params).collect();
        let payload = json!({"config": {"postgres_changes": bindings}});
        let reply = self.client.join(&self.topic, &payload).await?;
        if reply.payload["status"] != "ok" {
            bail!("the join was refused: {}", reply.payload_text);
        }
        self.ids = reply.payload["response"]["postgres_changes"]
            .as_array()
            .context("the reply lists no bindings")?
            .iter()
            .map(|binding| binding["id"].as_i64().context("a binding without an integer id"))
            .collect::<Result<_>>()?;
        self.error = self.answer().await?;
        for refreshed in self.channel.refreshed.clone() {
            let token = Token::claims(refreshed.claims.clone()).sign();
            let payload = json!({"access_token": token});
            self.client.push(&self.topic, "access_token", &payload).await?;
            self.error = self.answer().await?;
        }
        Ok(())
    }

    /// The error of the next system message, if it is one.
    async fn answer(&mut self) -> Result<Option<String>> {
        let system = self.client.system(&self.topic).await?;
        let message = system.payload["message"].as_str().unwrap_or_default().to_owned();
        Ok((system.payload["status"] != "ok").then_some(message))
    }

    /// Joins the sentinel's channel; the table has only just been published.
    async fn await_sentinel_subscription(&mut self) -> Result<()> {
        let token = Token::service_role().sign();
        let bindings = json!([{"event": "*", "schema": SENTINEL_SCHEMA, "table": "mark"}]);
        let mut refusal = String::new();
        for _ in 0..40 {
            let joined = self.client.subscribe_with(SENTINEL_TOPIC, &bindings, Some(&token)).await;
            match joined {
                Ok(_) => return Ok(()),
                Err(error) => refusal = format!("{error:#}"),
            }
            if !refusal.contains("Please check Realtime is enabled") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        bail!("a table that was just published cannot be subscribed to: {refusal}")
    }

    async fn await_sentinel(&mut self) -> Result<()> {
        self.client
            .next_where("the sentinel", |message| {
                message.topic == SENTINEL_TOPIC && message.is_change()
            })
            .await
            .map(drop)
    }

    fn report(mut self, played: &mut Played) -> Result<()> {
        let mut messages = Vec::new();
        for message in self.client.take_inbox() {
            if message.topic == self.topic && message.is_change() {
                let message = self.read(&message)?;
                if message.data.member("schema").and_then(Json::as_str) != Some(SENTINEL_SCHEMA) {
                    messages.push(message);
                }
            }
        }
        let everybody = self.channel.bindings.iter().chain(&self.channel.refreshed);
        for subscription in everybody {
            // A refreshed entry is the same binding under another name.
            let wire_name = self
                .channel
                .bindings
                .iter()
                .find(|other| other.id == subscription.id)
                .unwrap_or(subscription);
            let payloads = messages
                .iter()
                .filter(|message| message.names.contains(&wire_name.name))
                .map(|message| message.data.clone())
                .collect();
            let received = Received { error: self.error.clone(), payloads };
            played.subscriptions.insert(subscription.name.clone(), received);
        }
        played.channels.insert(self.channel.name.to_owned(), messages);
        Ok(())
    }

    fn read(&self, message: &Message) -> Result<ReceivedMessage> {
        let payload = Json::parse(&message.payload_text)?;
        let ids = payload.member("ids").context("a change without ids")?.items();
        let mut names = Vec::new();
        for id in ids {
            let number: i64 = id.to_string().parse().context("an id that is no integer")?;
            let mut known = false;
            for (other, binding) in self.ids.iter().zip(&self.channel.bindings) {
                if *other == number {
                    names.push(binding.name.clone());
                    known = true;
                }
            }
            if !known {
                bail!("id {number} was never handed out");
            }
        }
        let data = payload.member("data").context("a change without data")?.clone();
        Ok(ReceivedMessage { names, data })
    }
}
