//! The harness of the integration tests: a private PostgreSQL, the `walcast` program as a black
//! box, tokens, and a client that speaks the Phoenix protocol.
//!
//! ```text
//! Postgres ── Database ── Walcast ── Client
//!  one server   one per     one per    as many as
//!  per run      test        test       a test wants
//! ```

mod client;
mod database;
mod http;
mod identity_provider;
mod json;
mod message;
mod postgres;
mod programs;
mod token;
mod wait;
mod wal;
mod walcast;

pub use client::{Client, Refused, Subscription, Version};
pub use database::Database;
pub use http::{HttpAnswer, http_get, http_post, http_request, http_send};
pub use identity_provider::{Answer, IdentityProvider, SigningKey};
pub use json::Json;
pub use message::Message;
pub use postgres::{Postgres, SUPERUSER};
pub use programs::{PostgresPrograms, walcast_program};
pub use token::{JWT_SECRET, Token};
pub use wait::{DEADLINE, eventually, within};
pub use wal::{ImageCell, WalChange, WalReader, WalRelation};
pub use walcast::{Walcast, WalcastBuilder, free_port};
