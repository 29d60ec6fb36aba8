//! One item of a join's `postgres_changes`: what a client wants to hear about.

use std::{fmt, fmt::Write as _};

use serde_json::value::RawValue;

use crate::{
    inspect::inspect_value,
    raw_json::{self, RawJson, members, pick},
};

/// The item as the client sent it: a JSON object, kept for the echo in the join's reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BindingItem(RawJson);

/// What is listened to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// Which kinds of change.
    pub event: BindingEvent,
    /// In which schema.
    pub schema: Pattern,
    /// Of which table.
    pub table: Pattern,
    /// The condition, not parsed yet; `filters` knows its grammar.
    pub filter: Option<String>,
    /// The columns wanted; `None` means all.
    pub select: Option<Vec<String>>,
}

/// The `event` of a binding.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BindingEvent {
    /// `*`, and whatever is no other event.
    All,
    /// `INSERT`
    Insert,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
}

impl BindingEvent {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// Reads an event's name in any letter case; what is unknown means all.
    fn new(name: &str) -> Self {
        [Self::Insert, Self::Update, Self::Delete]
            .into_iter()
            .find(|event| event.as_str().eq_ignore_ascii_case(name))
            .unwrap_or(Self::All)
    }
}

/// The schema or table of a binding.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Pattern {
    /// `*`: any name.
    Any,
    /// This name, exactly.
    Exact(Box<str>),
}

impl Pattern {
    /// Reads a name; `*` is the only wildcard.
    #[must_use]
    pub fn new(name: &str) -> Self {
        if name == "*" { Self::Any } else { Self::Exact(name.into()) }
    }

    /// The pattern as clients write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Exact(name) => name,
        }
    }

    /// Whether a name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => &**wanted == name,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an item means nothing; the texts reach the client as they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BindingError {
    /// Neither schema nor table, or one that is no string.
    NoParameters {
        /// The item, printed; `<redacted>` when it holds a token.
        item: String,
    },
    /// `select` is a string.
    SelectIsText,
    /// `select` with a wildcard.
    SelectWithWildcard,
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoParameters { item } => write!(
                f,
                "No subscription params provided. Please provide at least a `schema` or `table` to \
                 subscribe to: {item}"
            ),
            Self::SelectIsText => f.write_str(
                "Error parsing `select` params: expected a list of column name strings, e.g. \
                 select: [\"col1\", \"col2\"]",
            ),
            Self::SelectWithWildcard => f.write_str(
                "Column selection is not supported for wildcard subscriptions. Provide an explicit \
                 schema and table name.",
            ),
        }
    }
}

impl std::error::Error for BindingError {}

impl BindingItem {
    /// Takes an item; `None` when it is not an object.
    #[must_use]
    pub fn new(item: RawJson) -> Option<Self> {
        item.is_object().then_some(Self(item))
    }

    /// The item a client of the old interface means by its topic: `schema[:table[:filter]]`.
    #[must_use]
    pub fn from_sub_topic(sub_topic: &str) -> Self {
        let names = ["schema", "table", "filter"];
        let mut text = String::from("{");
        for (name, value) in names.into_iter().zip(sub_topic.splitn(3, ':')) {
            let comma = if text.len() > 1 { "," } else { "" };
            let value = serde_json::Value::from(value);
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}\"{name}\":{value}");
        }
        text.push('}');
        Self(RawJson::written(text))
    }

    /// Reads what the item asks for.
    ///
    /// A `table` or `filter` of `null` counts as absent. The reference server refuses both, but
    /// clients that write out all fields mean just that.
    pub fn parse(&self) -> Result<Binding, BindingError> {
        let [event, schema, table, filter, select] =
            pick(self.0.value(), ["event", "schema", "table", "filter", "select"])
                .unwrap_or_default();
        let schema = Text::read(schema);
        let table = Text::read(table).null_is_absent();
        let filter = Text::read(filter).null_is_absent();
        let (schema, table, filter) = match (schema, table, filter) {
            (Text::Given(schema), Text::Given(table), Text::Given(filter)) => {
                (schema, table, Some(filter))
            }
            (Text::Given(schema), Text::Given(table), Text::Absent) => (schema, table, None),
            (Text::Given(schema), Text::Absent, Text::Absent) => (schema, "*".to_owned(), None),
            (Text::Absent, Text::Given(table), Text::Absent) => ("public".to_owned(), table, None),
            _ => return Err(BindingError::NoParameters { item: self.printed() }),
        };
        let (schema, table) = (Pattern::new(&schema), Pattern::new(&table));
        let select = read_select(select)?;
        if select.is_some() && (schema == Pattern::Any || table == Pattern::Any) {
            return Err(BindingError::SelectWithWildcard);
        }
        let event = match Text::read(event) {
            Text::Given(name) => BindingEvent::new(&name),
            Text::Absent | Text::Null | Text::Other => BindingEvent::All,
        };
        Ok(Binding { event, schema, table, filter, select })
    }

    /// Appends the item as the reply echoes it: unchanged, with the `id` of its events added.
    pub fn echo(&self, id: u32, out: &mut String) {
        let text = self.0.value().get();
        let members = members(self.0.value()).unwrap_or_default();
        if members.iter().any(|(key, _)| key == "id") {
            out.push('{');
            for (key, value) in members.iter().filter(|(key, _)| key != "id") {
                let _ = write!(out, "{}:{},", serde_json::Value::from(&**key), value.get());
            }
        } else {
            out.push_str(text.strip_suffix('}').unwrap_or(text).trim_end());
            if !members.is_empty() {
                out.push(',');
            }
        }
        let _ = write!(out, "\"id\":{id}}}");
    }

    fn printed(&self) -> String {
        let [user_token, auth_token] =
            pick(self.0.value(), ["user_token", "auth_token"]).unwrap_or_default();
        if user_token.is_some() || auth_token.is_some() {
            "<redacted>".to_owned()
        } else {
            inspect_value(self.0.value())
        }
    }
}

/// The ids of a channel's items: 1, 2, … in order, equal objects sharing one.
///
/// Clients need them to be small, not zero, and different for different items; nothing else.
#[must_use]
pub fn assign_ids(items: &[BindingItem]) -> Vec<u32> {
    // `None` for what serde_json cannot hold (numbers out of range, very deep values).
    let mut distinct: Vec<(Option<serde_json::Value>, &BindingItem)> = Vec::new();
    let mut ids = Vec::with_capacity(items.len());
    for item in items {
        let value = serde_json::from_str(item.0.value().get()).ok();
        let known = distinct.iter().position(|(other, other_item)| {
            *other_item == item || (value.is_some() && *other == value)
        });
        let position = known.unwrap_or_else(|| {
            distinct.push((value, item));
            distinct.len() - 1
        });
        ids.push(u32::try_from(position).unwrap_or(u32::MAX).saturating_add(1));
    }
    ids
}

/// What the reply to a join says about its items: the array of their echoes.
#[must_use]
pub fn echo_all(items: &[BindingItem], ids: &[u32]) -> RawJson {
    let mut out = String::from("[");
    for (item, id) in items.iter().zip(ids) {
        if out.len() > 1 {
            out.push(',');
        }
        item.echo(*id, &mut out);
    }
    out.push(']');
    RawJson::written(out)
}

/// A field that should be a string.
enum Text {
    Absent,
    Null,
    Given(String),
    Other,
}

impl Text {
    fn read(value: Option<&RawValue>) -> Self {
        match value {
            None => Self::Absent,
            Some(value) if raw_json::is_null(value) => Self::Null,
            Some(value) => raw_json::string(value).map_or(Self::Other, Self::Given),
        }
    }

    fn null_is_absent(self) -> Self {
        match self {
            Self::Null => Self::Absent,
            Self::Absent | Self::Given(_) | Self::Other => self,
        }
    }
}

fn read_select(select: Option<&RawValue>) -> Result<Option<Vec<String>>, BindingError> {
    let Some(select) = select else { return Ok(None) };
    if raw_json::string(select).is_some() {
        return Err(BindingError::SelectIsText);
    }
    let items: Vec<&RawValue> = serde_json::from_str(select.get()).unwrap_or_default();
    let columns: Vec<String> = items.into_iter().filter_map(raw_json::string).collect();
    Ok((!columns.is_empty()).then_some(columns))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn item(json: &str) -> BindingItem {
        let json = RawJson::parse(&Bytes::copy_from_slice(json.as_bytes())).unwrap();
        BindingItem::new(json).unwrap()
    }

    fn check(json: &str, expected: &str) {
        let found = match item(json).parse() {
            Ok(binding) => format!(
                "{} {}.{} {:?} {:?}",
                binding.event.as_str(),
                binding.schema,
                binding.table,
                binding.filter,
                binding.select
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{json}");
    }

    fn no_parameters(item: &str) -> String {
        format!(
            "No subscription params provided. Please provide at least a `schema` or `table` to \
             subscribe to: {item}"
        )
    }

    #[test]
    fn the_accepted_shapes_are_read() {
        check(
            r#"{"schema":"public","table":"t","filter":"a=eq.1"}"#,
            r#"* public.t Some("a=eq.1") None"#,
        );
        check(r#"{"event":"insert","schema":"s","table":"t"}"#, "INSERT s.t None None");
        check(r#"{"event":"Update","table":"t"}"#, "UPDATE public.t None None");
        check(r#"{"event":" INSERT","schema":"s"}"#, "* s.* None None");
        check(r#"{"event":5,"schema":"*","table":"*"}"#, "* *.* None None");
        check(r#"{"schema":"s","table":"t","select":[1,null,"a"]}"#, r#"* s.t None Some(["a"])"#);
        check(r#"{"schema":"s","table":"t","select":[1]}"#, "* s.t None None");
        check(r#"{"schema":"s","table":"t","select":{"a":1}}"#, "* s.t None None");
    }

    #[test]
    fn null_counts_as_absent_for_table_and_filter_only() {
        check(r#"{"schema":"s","table":null}"#, "* s.* None None");
        check(r#"{"schema":"s","table":"t","filter":null}"#, "* s.t None None");
        check(
            r#"{"schema":null,"table":"t"}"#,
            &no_parameters(r#"%{"schema" => nil, "table" => "t"}"#),
        );
        check(
            r#"{"schema":"s","table":null,"filter":"a=eq.1"}"#,
            &no_parameters(r#"%{"filter" => "a=eq.1", "schema" => "s", "table" => nil}"#),
        );
    }

    #[test]
    fn refusals_say_what_was_sent_but_never_a_token() {
        check("{}", &no_parameters("%{}"));
        check(
            r#"{"table":"t","event":"*","filter":5,"schema":"public"}"#,
            &no_parameters(
                r#"%{"event" => "*", "filter" => 5, "schema" => "public", "table" => "t"}"#,
            ),
        );
        check(r#"{"user_token":"x"}"#, &no_parameters("<redacted>"));
        check(r#"{"auth_token":null,"schema":5}"#, &no_parameters("<redacted>"));
        check(
            r#"{"schema":"s","table":"t","select":"a"}"#,
            "Error parsing `select` params: expected a list of column name strings, e.g. select: \
             [\"col1\", \"col2\"]",
        );
        for wildcard in [
            r#"{"schema":"s","select":["a"]}"#,
            r#"{"schema":"*","table":"t","select":["a"]}"#,
            r#"{"schema":"s","table":"*","select":["a"]}"#,
        ] {
            check(
                wildcard,
                "Column selection is not supported for wildcard subscriptions. Provide an explicit \
                 schema and table name.",
            );
        }
    }

    #[test]
    fn the_echo_is_the_item_with_an_id() {
        let check = |json: &str, expected: &str| {
            let mut out = String::new();
            item(json).echo(7, &mut out);
            assert_eq!(out, expected, "{json}");
            assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
        };
        check("{}", r#"{"id":7}"#);
        check("{ }", r#"{"id":7}"#);
        check(
            r#"{"table":"t","n":1.50e3,"event":"insert","x":"\u00e9"}"#,
            r#"{"table":"t","n":1.50e3,"event":"insert","x":"\u00e9","id":7}"#,
        );
        check("{\"a\": {\"id\":1} \n}", r#"{"a": {"id":1},"id":7}"#);
        check(r#"{"id":"mine","table":"t","id":2}"#, r#"{"table":"t","id":7}"#);
        check(r#"{"id":"mine"}"#, r#"{"id":7}"#);
    }

    #[test]
    fn equal_items_share_an_id_whatever_the_order_of_their_keys() {
        let items = [
            r#"{"schema":"s","table":"t"}"#,
            r#"{"schema":"s","table":"u"}"#,
            r#"{"table":"t","schema":"s"}"#,
            r#"{"schema":"s","table":"t","x":1e999}"#,
            r#"{"schema":"s","table":"t","x":1e999}"#,
            r#"{"schema":"s","table":"t","x":1e998}"#,
        ]
        .map(item);
        assert_eq!(assign_ids(&items), [1, 2, 1, 3, 3, 4]);
    }

    #[test]
    fn an_old_topic_is_an_item() {
        let check = |sub_topic: &str, expected: &str| {
            assert_eq!(BindingItem::from_sub_topic(sub_topic), item(expected), "{sub_topic}");
        };
        check("public", r#"{"schema":"public"}"#);
        check("*", r#"{"schema":"*"}"#);
        check("public:t", r#"{"schema":"public","table":"t"}"#);
        check("public:t:a=eq.1:2", r#"{"schema":"public","table":"t","filter":"a=eq.1:2"}"#);
        check("a\"b", r#"{"schema":"a\"b"}"#);
    }
}
