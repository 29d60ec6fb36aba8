//! `DATABASE_URL`: postgres:// URLs and key=value strings, as libpq writes them.

use percent_encoding::percent_decode_str;

use super::options::{self, OptionSpec};

/// Why a URL cannot be read. Repeats no value of it: any part may be a misplaced password.
#[derive(Debug, thiserror::Error, Eq, PartialEq)]
pub(super) enum DatabaseUrlError {
    #[error("it must begin with postgres:// or postgresql://, or consist of key=value pairs")]
    Form,
    #[error("the parameter {0} is not supported; supported are {SUPPORTED}")]
    UnknownParameter(String),
    #[error("several hosts are not supported; name the primary")]
    SeveralHosts,
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("sslmode must be disable, prefer, require, verify-ca or verify-full")]
    SslMode,
    #[error("connect_timeout must be a number of seconds")]
    ConnectTimeout,
    #[error("{0} is given twice with different values")]
    Repeated(&'static str),
    #[error("its percent-encoding is not UTF-8")]
    Encoding,
    #[error("a quoted value is not closed")]
    Quote,
}

const SUPPORTED: &str = "host, port, user, password, dbname, sslmode, sslrootcert, \
                         application_name and connect_timeout";

/// One part: the option it sets, what to call it, and the option's value.
pub(super) type Part = (&'static OptionSpec, &'static str, String);

/// The options that a URL sets.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, DatabaseUrlError> {
    let text = text.trim();
    let mut parts = Parts(Vec::new());
    match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        Some(rest) => parts.read_url(rest)?,
        None if text.contains("://") || !text.contains('=') => return Err(DatabaseUrlError::Form),
        None => parts.read_pairs(text)?,
    }
    Ok(parts.0)
}

struct Parts(Vec<Part>);

impl Parts {
    fn read_url(&mut self, rest: &str) -> Result<(), DatabaseUrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // The last @ parts user from host, so that one in a password need not be encoded.
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if let Some(user) = user {
            let (user, password) = match user.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user, None),
            };
            self.add_encoded("user", user)?;
            self.add_encoded("password", password.unwrap_or_default())?;
        }
        self.read_host(host)?;
        self.add_encoded("dbname", database)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.add(&decode(key)?, decode(value)?)?;
        }
        Ok(())
    }

    fn read_host(&mut self, host: &str) -> Result<(), DatabaseUrlError> {
        if host.contains(',') {
            return Err(DatabaseUrlError::SeveralHosts);
        }
        // An IPv6 address stands in brackets, since it holds colons itself.
        let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':').unwrap_or(rest)),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        self.add_encoded("host", host)?;
        self.add_encoded("port", port)
    }

    fn read_pairs(&mut self, text: &str) -> Result<(), DatabaseUrlError> {
        let mut rest = text;
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or(DatabaseUrlError::Form)?;
            let (value, after) = pair_value(after.trim_start())?;
            self.add(key.trim(), value)?;
            rest = after.trim_start();
        }
        Ok(())
    }

    fn add_encoded(&mut self, key: &str, value: &str) -> Result<(), DatabaseUrlError> {
        if value.is_empty() { Ok(()) } else { self.add(key, decode(value)?) }
    }

    fn add(&mut self, key: &str, mut value: String) -> Result<(), DatabaseUrlError> {
        let (option, part): (&'static OptionSpec, &'static str) = match key {
            "host" if value.contains(',') => return Err(DatabaseUrlError::SeveralHosts),
            "host" => (&options::DATABASE_HOST, "host"),
            "port" => match value.parse::<u16>() {
                Ok(1..) => (&options::DATABASE_PORT, "port"),
                _ => return Err(DatabaseUrlError::Port),
            },
            "user" => (&options::DATABASE_USER, "user"),
            "password" => (&options::DATABASE_PASSWORD, "password"),
            "dbname" => (&options::DATABASE_NAME, "database name"),
            "sslmode" => {
                match value.as_str() {
                    // libpq's allow tries without encryption first; prefer is never weaker.
                    "allow" => "prefer".clone_into(&mut value),
                    "disable" | "prefer" | "require" | "verify-ca" | "verify-full" => {}
                    _ => return Err(DatabaseUrlError::SslMode),
                }
                (&options::DATABASE_SSL_MODE, "sslmode")
            }
            "sslrootcert" => (&options::DATABASE_SSL_ROOT_CERT, "sslrootcert"),
            "application_name" => (&options::DATABASE_APPLICATION_NAME, "application_name"),
            "connect_timeout" => match value.parse::<u32>() {
                // libpq waits for ever; here the default holds.
                Ok(0) => return Ok(()),
                Ok(seconds) => {
                    value = format!("{seconds}s");
                    (&options::DATABASE_CONNECT_TIMEOUT, "connect_timeout")
                }
                Err(_) => return Err(DatabaseUrlError::ConnectTimeout),
            },
            other => return Err(DatabaseUrlError::UnknownParameter(other.to_owned())),
        };
        match self.0.iter().find(|(present, _, _)| present.name == option.name) {
            Some((_, _, present)) if *present != value => Err(DatabaseUrlError::Repeated(part)),
            Some(_) => Ok(()),
            None => {
                self.0.push((option, part, value));
                Ok(())
            }
        }
    }
}

/// A value of the key=value form, bare or in quotes, and what follows it.
fn pair_value(text: &str) -> Result<(String, &str), DatabaseUrlError> {
    let quoted = text.strip_prefix('\'');
    let mut characters = quoted.unwrap_or(text).chars();
    let mut value = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => value.extend(characters.next()),
            '\'' if quoted.is_some() => return Ok((value, characters.as_str())),
            space if quoted.is_none() && space.is_whitespace() => break,
            other => value.push(other),
        }
    }
    if quoted.is_some() {
        return Err(DatabaseUrlError::Quote);
    }
    Ok((value, characters.as_str()))
}

fn decode(text: &str) -> Result<String, DatabaseUrlError> {
    Ok(percent_decode_str(text).decode_utf8().map_err(|_| DatabaseUrlError::Encoding)?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let parts = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found: Vec<(&str, &str)> =
            parts.iter().map(|(option, _, value)| (option.name, value.as_str())).collect();
        let expected: Vec<(String, &str)> =
            expected.iter().map(|(name, value)| (format!("database-{name}"), *value)).collect();
        let expected: Vec<(&str, &str)> =
            expected.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn urls_are_taken_apart() {
        check("postgres://", &[]);
        check("postgresql://db", &[("host", "db")]);
        check(
            "postgres://me:secret@db.example:6543/app",
            &[
                ("user", "me"),
                ("password", "secret"),
                ("host", "db.example"),
                ("port", "6543"),
                ("name", "app"),
            ],
        );
        check(
            "postgres://m%40e:p%3A%2F%25@[::1]:5433/a%20b",
            &[
                ("user", "m@e"),
                ("password", "p:/%"),
                ("host", "::1"),
                ("port", "5433"),
                ("name", "a b"),
            ],
        );
        check("postgres://me:p@ss:w@db", &[("user", "me"), ("password", "p@ss:w"), ("host", "db")]);
        check(
            "postgres:///app?host=/run/postgresql&user=me",
            &[("name", "app"), ("host", "/run/postgresql"), ("user", "me")],
        );
        check("postgres://%2Frun%2Fpg/app", &[("host", "/run/pg"), ("name", "app")]);
        check(
            "postgres://db?sslmode=verify-full&sslrootcert=/ca.pem&application_name=x&connect_timeout=3",
            &[
                ("host", "db"),
                ("ssl-mode", "verify-full"),
                ("ssl-root-cert", "/ca.pem"),
                ("application-name", "x"),
                ("connect-timeout", "3s"),
            ],
        );
        check(
            "postgres://db?sslmode=allow&connect_timeout=0",
            &[("host", "db"), ("ssl-mode", "prefer")],
        );
    }

    #[test]
    fn key_value_strings_are_taken_apart() {
        check("host=db port=5433", &[("host", "db"), ("port", "5433")]);
        check(
            "host = /run/pg  user='me' password='it\\'s \\\\ a secret' dbname=app",
            &[
                ("host", "/run/pg"),
                ("user", "me"),
                ("password", "it's \\ a secret"),
                ("name", "app"),
            ],
        );
        check("password='' user=me", &[("password", ""), ("user", "me")]);
    }

    #[test]
    fn faults_are_named_without_values() {
        let check = |text: &str, expected: DatabaseUrlError| {
            let error = parse(text).map(drop).expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        };
        check("", DatabaseUrlError::Form);
        check("hunter2", DatabaseUrlError::Form);
        check("mysql://hunter2@db", DatabaseUrlError::Form);
        check("postgres://a,b/hunter2", DatabaseUrlError::SeveralHosts);
        check("host=a,b", DatabaseUrlError::SeveralHosts);
        check("postgres://db:hunter2/", DatabaseUrlError::Port);
        check("postgres://db:0/", DatabaseUrlError::Port);
        check("postgres://db?sslmode=hunter2", DatabaseUrlError::SslMode);
        check("postgres://db?connect_timeout=hunter2", DatabaseUrlError::ConnectTimeout);
        check("postgres://db?host=other", DatabaseUrlError::Repeated("host"));
        check("postgres://db/%ff", DatabaseUrlError::Encoding);
        check("password='hunter2", DatabaseUrlError::Quote);
        check(
            "postgres://db?pgbouncer=true",
            DatabaseUrlError::UnknownParameter("pgbouncer".to_owned()),
        );
    }

    #[test]
    fn no_prefix_of_a_url_panics() {
        for text in [
            "postgres://m%40e:p%3A@[::1]:5433/a%20b?sslmode=require&host=x",
            "host = /run/pg user='me' password='it\\'s' dbname=app",
        ] {
            for end in 0..=text.len() {
                let _ = parse(&text[..end]);
            }
        }
    }
}
