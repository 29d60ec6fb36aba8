//! The integration tests: the `walcast` program as a black box on a real PostgreSQL.

mod authorization;
mod broadcast;
mod commands;
mod ddl;
mod failures;
mod frames;
mod guides;
mod harness;
mod idle;
mod join;
mod keys;
mod limits;
mod longpoll;
mod messages;
mod oracle;
mod partitions;
mod path;
mod payloads;
mod presence;
mod private;
mod regressions;
mod replay;
mod sql;
mod subscribing;
mod tokens;
mod world;
