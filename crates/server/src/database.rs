//! Connections to PostgreSQL for questions: everything but the replication stream.

use anyhow::Context as _;
use rustls::ClientConfig;
use tokio_postgres::{Client, Config, config::SslMode as PgSslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use walcast_replicator::{ConnectOptions, Host, SslMode, tls_client_config};

/// Opens a connection.
///
/// # Errors
/// When PostgreSQL cannot be reached, refuses or is not done with the login in time; the text says what
/// to do, and never shows the password.
pub async fn connect(options: &ConnectOptions) -> anyhow::Result<Client> {
    let config = settings(options);
    let tls = tls_client_config(options.ssl_mode, options.ssl_root_cert.as_deref())
        .context("set up TLS for PostgreSQL")?;
    let connector = MakeRustlsConnect::new(ClientConfig::clone(&tls));
    // The driver's own limit ends with the TCP connection; whatever answers there may say nothing.
    let connecting = tokio::time::timeout(options.connect_timeout, config.connect(connector));
    let (client, connection) = connecting
        .await
        .with_context(|| format!("log in within {:?}", options.connect_timeout))
        .and_then(|connected| connected.map_err(anyhow::Error::from))
        .with_context(|| {
            format!("connect to PostgreSQL at {} as {}", place(options), options.user)
        })?;
    // The task ends by itself once the client is dropped or the server goes away; statements
    // then fail with an error of their own, so its result adds nothing.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a PostgreSQL connection ended");
        }
    });
    Ok(client)
}

fn settings(options: &ConnectOptions) -> Config {
    let mut config = Config::new();
    match &options.host {
        Host::Tcp(host) => config.host(host),
        Host::Unix(folder) => config.host_path(folder),
    };
    config
        .port(options.port)
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .ssl_mode(match options.ssl_mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => PgSslMode::Require,
        });
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    config
}

/// Where the database is, for messages: `host:port/database`.
#[must_use]
pub fn place(options: &ConnectOptions) -> String {
    match &options.host {
        Host::Tcp(host) => format!("{host}:{}/{}", options.port, options.database),
        Host::Unix(folder) => {
            format!("{}:{}/{}", folder.display(), options.port, options.database)
        }
    }
}

/// Quotes an identifier for SQL.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
