//! The guard: a process that owns one PostgreSQL server and outlives its owner by a moment.
//!
//! It is the walcast binary once more, as `walcast postgres-guard …`. Reports go as JSON lines to
//! standard output; the end of the standard input is the end of the owner. Nothing here needs a
//! signal handler or `unsafe`, and nothing depends on how the owner ended.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::embedded::account::Account;
use crate::embedded::guard::cluster::Cluster;

mod cluster;

pub(super) use cluster::stop_orphan;

/// The name of the hidden subcommand.
pub const SUBCOMMAND: &str = "postgres-guard";

/// How often a running server is looked at; the only cost of a guard that has nothing to do.
const LOOK: Duration = Duration::from_millis(200);

/// How often a server that starts is looked at.
const LOOK_AT_START: Duration = Duration::from_millis(10);

/// How long a server may take until it accepts connections, recovery after a crash included.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How many free ports are tried before giving up; each can be taken between finding and using it.
const PORT_ATTEMPTS_MAX: u32 = 8;

/// What the guard needs to know: `walcast postgres-guard --folder … --programs …`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The folder to create for socket, log and data, and to remove at the end.
    #[arg(long)]
    pub folder: PathBuf,
    /// The folder of initdb and postgres.
    #[arg(long)]
    pub programs: PathBuf,
    /// A data folder to use and to leave, instead of one inside the folder.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// The port of 127.0.0.1; a free one by default.
    #[arg(long)]
    pub port: Option<u16>,
    /// The user to run the server as.
    #[arg(long, requires = "gid")]
    pub uid: Option<u32>,
    /// The group to run the server as.
    #[arg(long, requires = "uid")]
    pub gid: Option<u32>,
    /// A setting of the server, name=value.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
}

impl Arguments {
    /// The account to run the server as, when it is not our own.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        self.uid.zip(self.gid).map(|(uid, gid)| Account { uid, gid })
    }

    /// The arguments as a command line, subcommand included.
    #[must_use]
    pub fn to_command_line(&self) -> Vec<std::ffi::OsString> {
        let mut line = vec![SUBCOMMAND.into()];
        let mut push = |name: &str, value: &std::ffi::OsStr| {
            line.push(name.into());
            line.push(value.to_owned());
        };
        push("--folder", self.folder.as_os_str());
        push("--programs", self.programs.as_os_str());
        if let Some(data) = &self.data {
            push("--data", data.as_os_str());
        }
        let numbers =
            [("--port", self.port.map(u32::from)), ("--uid", self.uid), ("--gid", self.gid)];
        for (name, value) in numbers {
            if let Some(value) = value {
                push(name, value.to_string().as_ref());
            }
        }
        for setting in &self.settings {
            push("--set", setting.as_ref());
        }
        line
    }
}

/// What the guard tells; each is one line of its output.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The server accepts connections.
    Ready {
        /// Its port, on 127.0.0.1 and in the name of its socket.
        port: u16,
        /// The process id of its postmaster.
        pid: i32,
    },
    /// The server could not be started, or ended by itself.
    Failed {
        /// What happened, with the end of the server's log.
        reason: String,
    },
    /// The server is stopped and the folder removed.
    Gone,
}

/// Guards one server until the input ends; the body of the hidden subcommand.
///
/// # Errors
///
/// Fails when the folder cannot be created or removed; trouble with the server is reported to the
/// owner on standard output.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Whoever ends every process named walcast means the owner; the guard has to clean up behind
    // it. Only Linux has the file.
    drop(fs::write("/proc/self/comm", SUBCOMMAND));
    let owner = Owner::watch();
    let folder = &arguments.folder;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let outcome = prepare(arguments).and_then(|()| guard(arguments, &owner));
    if let Err(error) = &outcome {
        report(&Report::Failed { reason: format!("{error:#}") });
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    report(&Report::Gone);
    Ok(())
}

/// Whether somebody still wants the server.
struct Owner(Receiver<()>);

impl Owner {
    fn watch() -> Self {
        let (alive, gone) = mpsc::channel();
        // The thread ends with the input, and so before the process does.
        thread::spawn(move || {
            drop(io::copy(&mut io::stdin(), &mut io::sink()));
            drop(alive);
        });
        Self(gone)
    }

    /// Waits for the end of the owner, but not longer than `patience`.
    fn is_gone_within(&self, patience: Duration) -> bool {
        matches!(self.0.recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
    }
}

fn report(report: &Report) {
    let Ok(line) = serde_json::to_string(report) else { return };
    // Nobody reads when the owner is gone; the input tells that, too.
    let mut output = io::stdout().lock();
    drop(writeln!(output, "{line}").and_then(|()| output.flush()));
}

fn prepare(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(account) = arguments.account() {
        account.own(&arguments.folder)?;
    }
    let Some(data) = &arguments.data else { return Ok(()) };
    if let Some(account) = arguments.account()
        && let Some(closed) = account.closed_folder_above(data)
    {
        anyhow::bail!(
            "PostgreSQL does not run as root, and the account it runs as cannot enter {}; \
             choose a folder elsewhere, for example below /var/lib",
            closed.display()
        );
    }
    let is_empty = fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .with_context(|| format!("cannot create {}", data.display()))?;
        if let Some(account) = arguments.account() {
            account.own(data)?;
        }
    }
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot use {} as a data folder", data.display()))
}

fn guard(arguments: &Arguments, owner: &Owner) -> anyhow::Result<()> {
    let mut cluster = Cluster::new(arguments);
    if !cluster.is_initialised() && !initialise(&cluster, owner)? {
        return Ok(());
    }
    if !start(&mut cluster, arguments.port, owner)? {
        return Ok(());
    }
    while !owner.is_gone_within(LOOK) {
        if let Some(status) = cluster.ended() {
            anyhow::bail!("PostgreSQL ended ({status})\n{}", cluster.log_tail("postgres"));
        }
    }
    cluster.stop();
    Ok(())
}

/// Runs initdb; false means that the owner went away meanwhile.
fn initialise(cluster: &Cluster, owner: &Owner) -> anyhow::Result<bool> {
    for locale in cluster::LOCALES {
        let mut initdb = cluster.initdb(locale)?;
        let status = loop {
            if let Some(status) = initdb.try_wait().context("cannot wait for initdb")? {
                break status;
            }
            if owner.is_gone_within(LOOK_AT_START) {
                initdb.kill().context("cannot stop initdb")?;
                initdb.wait().context("cannot wait for initdb")?;
                return Ok(false);
            }
        };
        if status.success() {
            return Ok(true);
        }
        // A machine without C.UTF-8 says so at once, before a file is written.
        if !cluster.log_tail("initdb").contains("invalid locale") {
            break;
        }
    }
    anyhow::bail!("initdb failed\n{}", cluster.log_tail("initdb"))
}

/// Starts the server and waits until it accepts connections; false means the owner went away.
fn start(cluster: &mut Cluster, port: Option<u16>, owner: &Owner) -> anyhow::Result<bool> {
    for _ in 0..PORT_ATTEMPTS_MAX {
        let candidate = match port {
            Some(port) => port,
            None => cluster::free_port()?,
        };
        cluster.start(candidate)?;
        match wait_until_ready(cluster, owner) {
            Start::Ready(pid) => {
                report(&Report::Ready { port: candidate, pid });
                return Ok(true);
            }
            Start::OwnerGone => {
                cluster.stop();
                return Ok(false);
            }
            Start::Ended if port.is_none() && cluster.log_tail("postgres").contains("in use") => {}
            Start::Ended => break,
            Start::Late => {
                cluster.stop();
                break;
            }
        }
    }
    anyhow::bail!("PostgreSQL does not start\n{}", cluster.log_tail("postgres"))
}

enum Start {
    Ready(i32),
    Ended,
    Late,
    OwnerGone,
}

fn wait_until_ready(cluster: &mut Cluster, owner: &Owner) -> Start {
    let deadline = Instant::now() + START_TIME_MAX;
    loop {
        if cluster.ended().is_some() {
            return Start::Ended;
        }
        if let Some(pid) = cluster.ready() {
            return Start::Ready(pid);
        }
        if Instant::now() > deadline {
            return Start::Late;
        }
        if owner.is_gone_within(LOOK_AT_START) {
            return Start::OwnerGone;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_command_line_is_read_as_it_was_written() {
        let written = Arguments {
            folder: "/var/tmp/a folder".into(),
            programs: "/usr/lib/postgresql/15/bin".into(),
            data: Some("/var/lib/kept".into()),
            port: Some(5433),
            uid: Some(101),
            gid: Some(104),
            settings: vec!["fsync=off".to_owned(), "log_line_prefix=%m ".to_owned()],
        };
        let read = Line::try_parse_from(written.to_command_line()).unwrap().arguments;
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
    }

    #[test]
    fn reports_survive_the_way_to_the_owner() {
        for report in [
            Report::Ready { port: 5433, pid: 17 },
            Report::Failed { reason: "two\nlines".to_owned() },
            Report::Gone,
        ] {
            let line = serde_json::to_string(&report).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
        }
    }
}
