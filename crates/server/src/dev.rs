//! `walcast dev`: everything on one machine, for trying things out; gone at the end.

mod demo;
mod welcome;

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use walcast_replicator::Secret;

use crate::app::{self, App};
use crate::config::Config;
use crate::dev::demo::{Keys, LOGIN};
use crate::dev::welcome::Welcome;
use crate::embedded::server::SUPERUSER;
use crate::{
    embedded::{Options, PrivateServer, Programs, SearchPaths},
    random::random_hex,
};

/// The database of the private server that everything is in.
const DATABASE: &str = "postgres";

/// What `walcast dev` can be told.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// The port of 127.0.0.1 for clients; 0 takes a free one.
    pub port: u16,
    /// The port of 127.0.0.1 for PostgreSQL; a free one by default.
    pub database_port: Option<u16>,
    /// A data folder to use and to leave; without it the data ends with the command.
    pub keep: Option<PathBuf>,
    /// Where PostgreSQL's programs are looked for.
    pub search: SearchPaths,
}

/// Runs everything until Ctrl-C or SIGTERM, and then leaves nothing behind.
///
/// # Errors
///
/// Fails when PostgreSQL is missing, a port is taken, or a part of it ends by itself.
pub async fn run(options: DevOptions) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    app::stop_on_signal(shutdown.clone())?;
    let started = tokio::select! {
        started = Box::pin(start(options, shutdown.clone())) => started?,
        // Dropping what has started so far ends it.
        () = shutdown.cancelled() => return Ok(()),
    };
    let Started { mut server, app, welcome } = started;
    welcome.print().context("cannot write to the standard output")?;
    let ended = tokio::select! {
        reason = server.ended() => Some(reason),
        () = shutdown.cancelled() => None,
    };
    shutdown.cancel();
    let finished = app.finish().await;
    server.stop().await?;
    match ended {
        Some(reason) => anyhow::bail!(reason),
        None => finished,
    }
}

struct Started {
    server: PrivateServer,
    app: App,
    welcome: Welcome,
}

async fn start(options: DevOptions, shutdown: CancellationToken) -> anyhow::Result<Started> {
    // Checked first: to hear of it after a database was made would waste the reader's time.
    check_port(options.port, "--port")?;
    if let Some(port) = options.database_port {
        check_port(port, "--database-port")?;
    }
    let programs = Programs::find(&options.search)?;
    let psql = programs.psql.clone();
    let major = programs.major;
    let mut server = PrivateServer::start(Options {
        programs,
        guard: env::current_exe().context("cannot find the walcast program")?,
        data: options.keep.clone(),
        port: options.database_port,
        settings: Vec::new(),
    })
    .await?;
    let password = Secret::new(random_hex(16)?);
    demo::prepare(&server.connect_options(SUPERUSER, DATABASE), &password).await?;

    let jwt_secret = Secret::new(random_hex(32)?);
    let keys = Keys::mint(&jwt_secret)?;
    let database = server.connect_options(LOGIN, DATABASE);
    let config = Config::for_dev(database, jwt_secret, options.port);
    let app = App::start(config, None, shutdown).await?;
    tokio::select! {
        () = app.ready() => {}
        reason = server.ended() => anyhow::bail!(reason),
    }
    let welcome = Welcome {
        address: app.address(),
        keys,
        postgres_major: major,
        psql,
        socket_folder: server.folder().to_path_buf(),
        database_port: server.port(),
        database: DATABASE,
        superuser: SUPERUSER,
        password,
        keep: options.keep,
    };
    Ok(Started { server, app, welcome })
}

fn check_port(port: u16, option: &str) -> anyhow::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).with_context(|| {
        format!("cannot listen on port {port} of 127.0.0.1; choose another one with {option}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_the_option_to_choose_another() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_port(port, "--port").unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
    }
}
