//! One database cluster on disk and the server that runs on it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::embedded::account::Account;
use crate::embedded::guard::Arguments;
use crate::embedded::programs::run_failure;

/// The locales to try, best first: character classes of UTF-8 where the system has them.
pub(super) const LOCALES: [&str; 2] = ["C.UTF-8", "C"];

/// What walcast needs of a server, and what keeps a private one small.
const SETTINGS: [(&str, &str); 9] = [
    ("wal_level", "logical"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("shared_buffers", "32MB"),
    // Only flushed WAL is sent: switched off, changes would arrive up to 0.2 s late.
    ("synchronous_commit", "on"),
    ("TimeZone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
    ("cluster_name", "walcast"),
];

/// Variables that would change what initdb and postgres do.
const VARIABLES_REMOVED: [&str; 14] = [
    "PGDATA",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
];

/// How long a server may take to stop before it is asked less politely.
const STOP_TIME_MAX: Duration = Duration::from_secs(8);

/// How many of the log's last lines an error shows.
const LOG_TAIL_LINES: usize = 20;

/// A data folder, its log, and the running server if there is one.
pub(super) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    account: Option<Account>,
    settings: Vec<String>,
    server: Option<Child>,
}

impl Cluster {
    pub(super) fn new(arguments: &Arguments) -> Self {
        let folder = arguments.folder.clone();
        Self {
            programs: arguments.programs.clone(),
            data: arguments.data.clone().unwrap_or_else(|| folder.join("data")),
            folder,
            account: arguments.account(),
            settings: arguments.settings.clone(),
            server: None,
        }
    }

    pub(super) fn is_initialised(&self) -> bool {
        self.data.join("PG_VERSION").exists()
    }

    pub(super) fn initdb(&self, locale: &str) -> anyhow::Result<Child> {
        let mut command = self.command("initdb")?;
        command
            .arg("--pgdata")
            .arg(&self.data)
            .args(["--username=postgres", "--encoding=UTF8", "--no-sync"])
            // The socket is in a folder that only its owner may enter; TCP asks for a password.
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--locale={locale}"));
        command.spawn().with_context(|| run_failure(&self.programs.join("initdb")))
    }

    pub(super) fn start(&mut self, port: u16) -> anyhow::Result<()> {
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(&self.data);
        command.arg("-k").arg(&self.folder);
        command.args(["-h", "127.0.0.1", "-p"]).arg(port.to_string());
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        let server =
            command.spawn().with_context(|| run_failure(&self.programs.join("postgres")))?;
        self.server = Some(server);
        Ok(())
    }

    /// The process id of the postmaster, once it accepts connections.
    pub(super) fn ready(&self) -> Option<i32> {
        let server = self.server.as_ref()?;
        let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid = i32::try_from(server.id()).ok()?;
        says_ready(&pid_file, pid).then_some(pid)
    }

    /// How the server ended, told once, when it ended by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.server.as_mut()?.try_wait().ok()??;
        self.server = None;
        Some(status)
    }

    /// Stops the server: fast, then at once, then by force.
    pub(super) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        for signal in [Signal::INT, Signal::QUIT] {
            if send(&server, signal) && ends_within(&mut server, STOP_TIME_MAX) {
                return;
            }
        }
        end(&mut server);
    }

    /// The end of what one of the programs said when it ran last, for people to read.
    pub(super) fn log_tail(&self, program: &str) -> String {
        let log = fs::read(self.log_path(program)).unwrap_or_default();
        tail(&String::from_utf8_lossy(&log))
    }

    fn log_path(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.log"))
    }

    fn command(&self, program: &str) -> anyhow::Result<Command> {
        let path = self.log_path(program);
        let open = || File::options().create(true).append(true).open(&path);
        let log = File::create(&path)
            .and_then(|_| Ok((open()?, open()?)))
            .with_context(|| format!("cannot write {}", path.display()));
        let (log, errors) = log?;
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder).env("LC_ALL", "C");
        for variable in VARIABLES_REMOVED {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        if let Some(account) = self.account {
            account.apply(&mut command);
        }
        Ok(command)
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a port")?;
    Ok(listener.local_addr().context("cannot find a port")?.port())
}

/// Reads postmaster.pid: the process id is its first line, the state its eighth.
fn says_ready(pid_file: &str, pid: i32) -> bool {
    let mut lines = pid_file.lines();
    lines.next().is_some_and(|first| first.parse() == Ok(pid))
        && lines.nth(6).is_some_and(|state| state.trim_end() == "ready")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let start = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines.get(start..).unwrap_or_default().join("\n")
}

fn send(server: &Child, signal: Signal) -> bool {
    // Not yet waited for, so the number still belongs to it.
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

fn ends_within(server: &mut Child, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if !matches!(server.try_wait(), Ok(None)) {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

fn end(server: &mut Child) {
    // Both fail only for a process that has ended already.
    drop(server.kill());
    drop(server.wait());
}

/// Stops a server whose guard was killed, and removes its folder.
pub(in crate::embedded) fn stop_orphan(pid: i32, folder: &Path) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    if kill_process(pid, Signal::QUIT).is_err() {
        tracing::debug!("the private PostgreSQL server had ended before");
    }
    let deadline = Instant::now() + STOP_TIME_MAX;
    while Instant::now() < deadline && rustix::process::test_kill_process(pid).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    drop(fs::remove_dir_all(folder));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_server_that_is_ready_counts_as_ready() {
        let file = |state: &str| {
            format!("42\n/data\n1700000000\n5433\n/socket\n127.0.0.1\n  1234  5\n{state}\n")
        };
        for (pid_file, pid, expected) in [
            (file("ready   "), 42, true),
            (file("ready"), 42, true),
            (file("starting"), 42, false),
            (file("ready   "), 43, false),
            ("42\n/data\n".to_owned(), 42, false),
            (String::new(), 42, false),
        ] {
            assert_eq!(says_ready(&pid_file, pid), expected, "{pid_file:?}");
        }
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let log: Vec<String> = (1..=50).map(|number| number.to_string()).collect();
        let tail_of_log = tail(&log.join("\n"));
        assert!(tail_of_log.starts_with("31\n") && tail_of_log.ends_with("\n50"), "{tail_of_log}");
        assert_eq!(tail("one\ntwo\n"), "one\ntwo");
        assert_eq!(tail(""), "");
    }
}
