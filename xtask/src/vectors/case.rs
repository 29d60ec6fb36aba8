//! One recorded case: what is set up, who subscribes, what changes, and what the reference sent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use walcast_tests::Json;

/// A case as the runner uses it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// From this size on a change is too large.
    pub max_record_bytes: u64,
    /// SQL before anybody subscribes.
    pub setup_sql: String,
    /// Who subscribes.
    pub subscriptions: Vec<CaseSubscription>,
    /// The changes, each one simple query.
    pub changes: Vec<String>,
    /// Whether PostgreSQL refuses some of the changes.
    pub has_refused_changes: bool,
    /// Whether the reference lost the batch.
    pub poll_aborted: bool,
    /// The `data` objects the reference sent to each subscription.
    pub expected: BTreeMap<String, Vec<Json>>,
    /// The messages of channels that several subscriptions share.
    pub channel_messages: Vec<ChannelMessage>,
}

/// One subscription.
#[derive(Clone, Debug)]
pub struct CaseSubscription {
    /// Its name in the case.
    pub name: String,
    /// The channel it belongs to.
    pub channel: String,
    /// The reference's id; two entries with one id are one subscription whose token was refreshed.
    pub id: String,
    /// The role of the claims.
    pub role: String,
    /// The claims.
    pub claims: Map<String, Value>,
    /// The binding.
    pub params: Value,
    /// The conditions that the reference read: column, operator, value, negated.
    pub conditions: Vec<(String, String, String, bool)>,
    /// The error the reference answered with.
    pub error: Option<String>,
    /// Whether the reference wrote the subscription itself, so that `error` is only PostgreSQL's.
    pub is_written_directly: bool,
}

/// One message on a shared channel.
#[derive(Clone, Debug)]
pub struct ChannelMessage {
    /// The channel.
    pub channel: String,
    /// Names of the subscriptions it is for.
    pub ids: Vec<String>,
    /// Its `data`.
    pub data: Json,
}

impl Case {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let file: CaseFile = serde_json::from_str(&text)?;
        let exact = Json::parse(&text)?;
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a file has a name")?;
        let subscriptions =
            file.subscriptions.into_iter().map(SubscriptionFile::convert).collect::<Result<_>>()?;
        let expected = exact
            .member("expected")
            .map_or(&[][..], Json::items)
            .iter()
            .map(|entry| {
                let name = text_of(entry, "subscription")?;
                let payloads = entry.member("payloads").map_or(&[][..], Json::items);
                Ok((name, payloads.iter().map(expand).collect()))
            })
            .collect::<Result<_>>()?;
        let channel_messages = exact
            .member("channel_messages")
            .map_or(&[][..], Json::items)
            .iter()
            .map(|entry| {
                let ids = entry.member("ids").map_or(&[][..], Json::items);
                Ok(ChannelMessage {
                    channel: text_of(entry, "channel")?,
                    ids: ids.iter().filter_map(Json::as_str).map(ToOwned::to_owned).collect(),
                    data: expand(entry.member("data").context("a message without data")?),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            name: name.to_owned(),
            max_record_bytes: file.settings.poll_max_record_bytes,
            setup_sql: file.setup_sql,
            subscriptions,
            changes: file.changes_sql,
            has_refused_changes: !file.changes_errors.is_empty(),
            poll_aborted: !file.poll_errors.is_empty(),
            expected,
            channel_messages,
        })
    }
}

#[derive(Deserialize)]
struct CaseFile {
    #[serde(default)]
    settings: Settings,
    #[serde(default)]
    setup_sql: String,
    #[serde(default)]
    subscriptions: Vec<SubscriptionFile>,
    #[serde(default)]
    changes_sql: Vec<String>,
    #[serde(default)]
    changes_errors: Vec<Value>,
    #[serde(default)]
    poll_errors: Vec<Value>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default = "default_max_record_bytes")]
    poll_max_record_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { poll_max_record_bytes: default_max_record_bytes() }
    }
}

fn default_max_record_bytes() -> u64 {
    1 << 20
}

#[derive(Deserialize)]
struct SubscriptionFile {
    name: String,
    channel: Option<String>,
    #[serde(default)]
    subscription_id: String,
    role: Option<String>,
    #[serde(default)]
    claims: Map<String, Value>,
    params: Option<Value>,
    entity: Option<String>,
    parsed: Option<Parsed>,
    subscribe_error: Option<String>,
}

#[derive(Default, Deserialize)]
struct Parsed {
    action_filter: Option<String>,
    #[serde(default)]
    filters: Vec<(String, String, String, bool)>,
    selected_columns: Option<Vec<String>>,
}

impl SubscriptionFile {
    fn convert(self) -> Result<CaseSubscription> {
        let parsed = self.parsed.unwrap_or_default();
        let params = match (&self.params, &self.entity) {
            (Some(params), _) => params.clone(),
            (None, Some(entity)) => binding(entity, &parsed)?,
            (None, None) => json!({}),
        };
        let role = self
            .role
            .or_else(|| self.claims.get("role").and_then(Value::as_str).map(ToOwned::to_owned))
            .unwrap_or_default();
        Ok(CaseSubscription {
            channel: self.channel.unwrap_or_else(|| self.name.clone()),
            name: self.name,
            id: self.subscription_id,
            role,
            claims: self.claims,
            conditions: parsed.filters,
            params,
            error: self.subscribe_error,
            is_written_directly: self.entity.is_some(),
        })
    }
}

/// The binding that stands for a subscription which the reference's tests wrote directly.
fn binding(entity: &str, parsed: &Parsed) -> Result<Value> {
    let (schema, table) = entity.split_once('.').unwrap_or(("public", entity));
    let mut binding = json!({
        "event": parsed.action_filter.as_deref().unwrap_or("*"),
        "schema": unquote(schema),
        "table": unquote(table),
    });
    if !parsed.filters.is_empty() {
        let conditions: Vec<String> = parsed.filters.iter().map(condition_text).collect();
        binding["filter"] = json!(conditions.join(","));
    }
    if let Some(columns) = &parsed.selected_columns {
        binding["select"] = json!(columns);
    }
    Ok(binding)
}

fn unquote(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Writes a condition so that it is read back as the same one.
pub fn condition_text(
    (column, operator, value, negated): &(String, String, String, bool),
) -> String {
    let negation = if *negated { "not." } else { "" };
    let value = if operator == "in" {
        let inner = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        format!("({})", inner.unwrap_or(value))
    } else if value.contains([',', '"', '(', ')', '\\']) || value.trim() != value {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        value.clone()
    };
    format!("{column}={negation}{operator}.{value}")
}

/// Writes out `{"$repeat": [text, count]}`.
fn expand(value: &Json) -> Json {
    match value {
        Json::Object(members) => {
            if let Some([Json::String(text), Json::Number(count)]) =
                members.get("$repeat").map(Json::items)
                && let Ok(count) = count.parse::<usize>()
            {
                return Json::String(text.repeat(count));
            }
            Json::Object(members.iter().map(|(key, value)| (key.clone(), expand(value))).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(expand).collect()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.clone(),
    }
}

fn text_of(entry: &Json, key: &str) -> Result<String> {
    let text = entry.member(key).and_then(Json::as_str);
    text.map(ToOwned::to_owned).with_context(|| format!("an entry without {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        let value = Json::parse(r#"{"a":[{"$repeat":["xy",3]}]}"#).unwrap();
        assert_eq!(expand(&value).to_string(), r#"{"a":["xyxyxy"]}"#);
    }

    #[test]
    fn conditions_are_written_as_they_are_read() {
        let condition = |operator: &str, value: &str, negated| {
            condition_text(&("c".to_owned(), operator.to_owned(), value.to_owned(), negated))
        };
        assert_eq!(condition("eq", "a", true), "c=not.eq.a");
        assert_eq!(condition("in", "{a,b}", false), "c=in.(a,b)");
        assert_eq!(condition("eq", "a,\"b", false), r#"c=eq."a,\"b""#);
    }
}
