//! The TOML file: every key is the name of an option.

use std::{collections::BTreeMap, path::Path};

use super::{
    error::ConfigError,
    options::{ALL, CONFIG, Kind, OptionSpec},
    value,
};

/// The text of a file that an option names.
pub(super) fn read(path: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { path: path.into(), cause: error.to_string() })
}

/// The options a file sets, by name.
pub(super) fn parse(
    path: &Path,
    text: &str,
) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        ConfigError::Syntax { path: path.into(), line, cause: error.message().to_owned() }
    })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        // A file does not name further files.
        let options = ALL.iter().copied().filter(|option| option.name != CONFIG.name);
        let Some(option) = options.clone().find(|option| option.name == key) else {
            let hint = value::nearest(&key, options.map(|option| option.name));
            return Err(ConfigError::UnknownKey { key, path: path.into(), hint });
        };
        let text = option_text(option, value).ok_or_else(|| ConfigError::Invalid {
            origin: format!("{} in {}", option.name, path.display()),
            value: None,
            reason: format!("must be {}", expected(option.kind)),
        })?;
        values.insert(option.name, text);
    }
    Ok(values)
}

/// The TOML value as the text that a flag would have.
fn option_text(option: &OptionSpec, value: toml::Value) -> Option<String> {
    match (option.kind, value) {
        (_, toml::Value::String(text)) => Some(text),
        (Kind::Number { .. } | Kind::Bytes, toml::Value::Integer(number)) => {
            Some(number.to_string())
        }
        (Kind::Boolean, toml::Value::Boolean(flag)) => Some(flag.to_string()),
        (Kind::List, toml::Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(toml::Value::as_str).collect();
            Some(names?.join(","))
        }
        (Kind::Json, value @ toml::Value::Table(_)) => serde_json::to_string(&value).ok(),
        (_, _) => None,
    }
}

const fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Secret | Kind::File | Kind::Choice(_) => "a string",
        Kind::Number { .. } => "a number",
        Kind::Bytes => "a number of bytes, or a string such as \"64MiB\"",
        Kind::Duration => "a string such as \"10s\"",
        Kind::Boolean => "true or false",
        Kind::List => "a string or a list of strings",
        Kind::Json => "a table, or a string with a JSON document",
    }
}
