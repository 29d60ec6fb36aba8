//! The owner's side of a private server.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::watch;
use walcast_replicator::{ConnectOptions, Host, SslMode};

use crate::embedded::account::Account;
use crate::embedded::guard::{self, Report};
use crate::{embedded::Programs, random::random_hex};

/// The superuser of every private server.
pub const SUPERUSER: &str = "postgres";

/// Where the folders are: on disk, unlike `/tmp` on some machines, and open to every account.
const PARENT: &str = "/var/tmp";

/// How long the guard may take to stop the server and to remove its folder; longer than all the
/// deadlines the guard itself keeps.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// What kind of private server to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// The program whose hidden subcommand is the guard: walcast itself.
    pub guard: PathBuf,
    /// A data folder to use and to leave; without it the data ends with the server.
    pub data: Option<PathBuf>,
    /// The port of 127.0.0.1; a free one by default.
    pub port: Option<u16>,
    /// Further settings, name=value, such as `fsync=off` in tests.
    pub settings: Vec<String>,
}

/// A running server that ends with this value, and with this process at the latest.
#[derive(Debug)]
pub struct PrivateServer {
    folder: PathBuf,
    port: u16,
    state: watch::Receiver<State>,
    /// The guard waits for the end of this pipe, and nobody else holds it.
    lifeline: ChildStdin,
}

#[derive(Clone, Debug)]
enum State {
    Starting,
    Ready(u16),
    Failed(String),
    Gone,
}

impl PrivateServer {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// Fails with the end of the server's log when it does not start.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let account = Account::for_server()?;
        let folder = Path::new(PARENT).join(format!("walcast-{}", random_hex(6)?));
        let data = options.data.map(std::path::absolute).transpose().context("no such folder")?;
        let arguments = guard::Arguments {
            folder: folder.clone(),
            programs: options.programs.folder,
            data,
            port: options.port,
            uid: account.map(|account| account.uid),
            gid: account.map(|account| account.gid),
            settings: options.settings,
        };
        let mut guard = Command::new(&options.guard)
            .args(arguments.to_command_line())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C at the terminal is for us; the guard hears of it by our end.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", options.guard.display()))?;
        let lifeline = guard.stdin.take().context("the guard has no input")?;
        let mut state = attend(guard, folder.clone())?;
        let started = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match started.map(|state| state.clone()) {
            Ok(State::Ready(port)) => Ok(Self { folder, port, state, lifeline }),
            Ok(State::Failed(reason)) => {
                // The guard removes the folder; the channel ends after it.
                while state.changed().await.is_ok() {}
                bail!(reason)
            }
            Ok(State::Starting | State::Gone) | Err(_) => {
                bail!("{} ended without starting PostgreSQL", options.guard.display())
            }
        }
    }

    /// The folder of the server's socket and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The port, on 127.0.0.1 and in the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How to connect through the socket, which asks for no password.
    #[must_use]
    pub fn connect_options(&self, user: &str, database: &str) -> ConnectOptions {
        ConnectOptions {
            host: Host::Unix(self.folder.clone()),
            port: self.port,
            user: user.to_owned(),
            password: None,
            database: database.to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            application_name: "walcast".to_owned(),
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// Waits until the server ends without having been told to, and returns the reason.
    ///
    /// Cancel-safe: a dropped wait loses nothing.
    pub async fn ended(&mut self) -> String {
        let ended = self.state.wait_for(|state| !matches!(state, State::Ready(_))).await;
        match ended.as_deref() {
            Ok(State::Failed(reason)) => reason.clone(),
            Ok(State::Starting | State::Ready(_) | State::Gone) | Err(_) => {
                "the private PostgreSQL server was stopped".to_owned()
            }
        }
    }

    /// Stops the server and waits until nothing of it is left.
    ///
    /// Dropping the value does the same without waiting.
    ///
    /// # Errors
    ///
    /// Fails when something is left after the deadline.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { folder, mut state, lifeline, .. } = self;
        drop(lifeline);
        let gone = state.wait_for(|state| matches!(state, State::Gone));
        match tokio::time::timeout(STOP_TIME_MAX, gone).await {
            // A closed channel is the end, too: that of a server which had failed before.
            Ok(Ok(_) | Err(_)) if !folder.exists() => Ok(()),
            Ok(_) | Err(_) => bail!("PostgreSQL left {} behind", folder.display()),
        }
    }
}

/// Reads the guard's reports in a thread that outlives the runtime, as the guard may.
fn attend(mut guard: Child, folder: PathBuf) -> anyhow::Result<watch::Receiver<State>> {
    let output = guard.stdout.take().context("the guard has no output")?;
    let (sender, receiver) = watch::channel(State::Starting);
    thread::spawn(move || {
        let mut server = None;
        let mut is_clean = false;
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            let state = match serde_json::from_str(&line) {
                Ok(Report::Ready { port, pid }) => {
                    server = Some(pid);
                    State::Ready(port)
                }
                Ok(Report::Failed { reason }) => State::Failed(reason),
                Ok(Report::Gone) => {
                    is_clean = true;
                    continue;
                }
                Err(_) => continue,
            };
            sender.send_replace(state);
        }
        // A guard that could not be waited for has been waited for already.
        drop(guard.wait());
        if let (false, Some(pid)) = (is_clean, server) {
            guard::stop_orphan(pid, &folder);
        }
        sender.send_if_modified(|state| {
            // The reason of a failure stays readable; whoever waits for the end sees the end of
            // the channel.
            let is_failed = matches!(state, State::Failed(_));
            if !is_failed {
                *state = State::Gone;
            }
            !is_failed
        });
    });
    Ok(receiver)
}
