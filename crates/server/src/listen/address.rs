//! The URL of a server.

use std::{fmt, str::FromStr};

/// Where a server is, as `ws://host:port/path` or with `wss`, `http` or `https`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// The path of the WebSocket, from its first slash.
    pub(super) path: String,
}

/// Why a text is no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be a URL such as ws://127.0.0.1:4000 or https://PROJECT.example/realtime/v1")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError)?;
        let tls = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(AddressError),
        };
        let legal =
            |character: char| character.is_ascii_graphic() && !"?#\\\"<>".contains(character);
        if !rest.chars().all(legal) {
            return Err(AddressError);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        // A user name here would be a misplaced secret.
        if authority.contains('@') {
            return Err(AddressError);
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, Some(port.strip_prefix(':').ok_or(AddressError)?)),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| AddressError)?,
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() {
            return Err(AddressError);
        }
        Ok(Self { host: host.to_owned(), port, tls, path: socket_path(path) })
    }
}

/// The WebSocket's path: the one given, completed as clients do it.
fn socket_path(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/socket/websocket".to_owned(),
        complete if complete.ends_with("/websocket") => complete.to_owned(),
        prefix => format!("{prefix}/websocket"),
    }
}

impl Address {
    /// Host and port as a `Host` header has them.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(formatter, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_as_clients_do_it() {
        let check = |text: &str, expected: &str| {
            let address: Result<Address, _> = text.parse();
            assert_eq!(
                address.map(|address| address.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        };
        check("ws://127.0.0.1:4000", "ws://127.0.0.1:4000/socket/websocket");
        check("http://localhost/", "ws://localhost:80/socket/websocket");
        check("https://a.example/realtime/v1", "wss://a.example:443/realtime/v1/websocket");
        check("wss://a.example/socket/websocket", "wss://a.example:443/socket/websocket");
        check("ws://[::1]:4000/socket", "ws://[::1]:4000/socket/websocket");
        check("ws://[::1]", "ws://[::1]:80/socket/websocket");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "127.0.0.1:4000",
            "ftp://host",
            "ws://",
            "ws://:4000",
            "ws://host:port",
            "ws://host:70000",
            "ws://me:secret@host",
            "ws://host/?apikey=x",
            "ws://ho st",
            "ws://[::1",
            "ws://[::1]4000",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }
}
