//! What a connection tells whoever runs the server, and does for him.

use walcast_channels::Input;
use walcast_filters::claims::{Claims, Role};

use super::Driver;
use crate::transport::control::{ChannelDescription, ConnectionDescription, Identity, Order};

impl Driver {
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            // Whoever asked may have stopped waiting.
            Order::Describe(to) => drop(to.try_send(self.description())),
            Order::Disconnect { subject, gone } => {
                if subject.is_none_or(|subject| self.is_somebody(&subject)) {
                    self.feed(Input::Disconnect);
                    let _ = gone.try_send(self.connection);
                }
            }
        }
    }

    fn is_somebody(&self, subject: &str) -> bool {
        let (_, claims) = self.session.opened_by();
        let of_channels = self.session.joined().map(|channel| channel.claims);
        of_channels.chain([claims]).any(|claims| self::subject(claims).as_deref() == Some(subject))
    }

    fn description(&self) -> ConnectionDescription {
        let channels = self.session.joined().map(|channel| ChannelDescription {
            topic: channel.topic.as_str().to_owned(),
            is_private: channel.is_private,
            identity: identity(channel.role, channel.claims),
        });
        let (role, claims) = self.session.opened_by();
        ConnectionDescription {
            id: self.connection,
            version: self.version.vsn(),
            is_websocket: self.wire.is_some(),
            opened_unix: self.opened_unix,
            opened_by: identity(role, claims),
            n_waiting: self.wire.as_ref().map_or(self.batch.len(), |wire| wire.n_waiting()),
            channels: channels.collect(),
        }
    }
}

fn identity(role: &Role, claims: &Claims) -> Identity {
    Identity { role: role.as_str().to_owned(), subject: subject(claims) }
}

/// The claim `sub`.
fn subject(claims: &Claims) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Subject {
        sub: Option<serde_json::Value>,
    }
    let claims: Subject = serde_json::from_str(claims.as_str()).ok()?;
    claims.sub?.as_str().map(str::to_owned)
}
