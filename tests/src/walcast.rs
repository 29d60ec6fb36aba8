//! The program under test as a process: started, watched, and ended with the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Version};
use crate::database::Database;
use crate::http::http_get;
use crate::programs::walcast_program;
use crate::token::{JWT_SECRET, Token};
use crate::wait::{DEADLINE, eventually};

/// How a process is to be started.
#[derive(Clone, Debug)]
pub struct WalcastBuilder {
    environment: Vec<(String, String)>,
    port: Option<u16>,
}

impl WalcastBuilder {
    /// Sets one variable of its environment; an empty value takes it away again.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Lets it listen at `port`.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts it and returns at once.
    pub fn spawn(self) -> Result<Walcast> {
        let port = match self.port {
            Some(port) => port,
            None => free_port()?,
        };
        let program = walcast_program()?;
        let mut command = Command::new(&program);
        command.arg("serve").env_clear().envs(self.environment.iter().cloned());
        command.env("PORT", port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![keep(child.stdout.take(), &log), keep(child.stderr.take(), &log)];
        Ok(Walcast { builder: self, child, port, log, readers, exited: None })
    }

    /// Starts it and waits until it streams.
    pub async fn start(self) -> Result<Walcast> {
        let mut walcast = self.spawn()?;
        walcast.ready().await?;
        Ok(walcast)
    }
}

/// A running `walcast serve`.
#[derive(Debug)]
pub struct Walcast {
    builder: WalcastBuilder,
    child: Child,
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    exited: Option<ExitStatus>,
}

impl Walcast {
    /// A process for `database` with a slot of its own.
    #[must_use]
    pub fn on(database: &Database) -> WalcastBuilder {
        Self::at(database.url(), &format!("slot_{}", database.name()))
    }

    /// A process for the database at `url`.
    #[must_use]
    pub fn at(url: &str, slot: &str) -> WalcastBuilder {
        WalcastBuilder { environment: Vec::new(), port: None }
            .set("DATABASE_URL", url)
            .set("JWT_SECRET", JWT_SECRET)
            .set("HOST", "127.0.0.1")
            .set("WALCAST_SLOT", slot)
            .set("WALCAST_PUBLICATION", "supabase_realtime")
            .set("PATH", "/usr/bin:/bin")
    }

    /// The port it listens at.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the health check says that database and stream are up.
    pub async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        let started = std::time::Instant::now();
        loop {
            if let Some(status) = self.exit_status()? {
                bail!("walcast ended while it started ({status}):\n{}", self.log_tail());
            }
            let answer = http_get(port, "/healthcheck").await;
            match answer {
                Ok(answer) if answer.status == 200 => return Ok(()),
                answer if started.elapsed() > DEADLINE => {
                    let body = answer.map(|answer| answer.body).unwrap_or_default();
                    bail!("walcast is not ready: {body}\n{}", self.log_tail());
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits until the health check answers something else than 200.
    pub async fn unhealthy(&self) -> Result<()> {
        let port = self.port;
        eventually("the health check to fail", || async move {
            Ok(http_get(port, "/healthcheck").await.is_ok_and(|a| a.status != 200).then_some(()))
        })
        .await
    }

    /// Opens a WebSocket (version 2) with `token`.
    pub async fn client(&self, token: &Token) -> Result<Client> {
        Client::connect(self.port, &token.sign(), Version::V2).await
    }

    /// Ends it like a machine that loses power.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.exited = Some(self.child.wait()?);
        Ok(())
    }

    /// Asks it to end (SIGTERM) and returns at once.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits until it has ended and returns its exit status.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let started = std::time::Instant::now();
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if started.elapsed() > DEADLINE {
                bail!("walcast did not end:\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it again at the same port, with the same options, after it has ended.
    pub async fn start_again(&mut self) -> Result<()> {
        let builder = self.builder.clone().port(self.port);
        *self = builder.start().await?;
        Ok(())
    }

    /// Its exit status, when it has ended.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait()?;
        }
        if self.exited.is_some() {
            // Its last words are still in the pipes.
            self.readers.drain(..).for_each(|reader| drop(reader.join()));
        }
        Ok(self.exited)
    }

    /// Whether it ended by itself in a way no request may cause, or says that a part panicked.
    pub fn has_crashed(&mut self) -> Result<bool> {
        let ended = self
            .exit_status()?
            .is_some_and(|status| status.signal().is_none_or(|number| number != 9 && number != 15));
        Ok(ended || self.log().iter().any(|line| line.contains("panicked at")))
    }

    /// The lines it has logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// The last lines it has logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let lines = self.log();
        let first = lines.len().saturating_sub(60);
        lines.get(first..).unwrap_or_default().join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let number = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(number).context("the process has no id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Walcast {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- walcast at port {} ---\n{}", self.port, self.log_tail());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Reads a pipe in a thread of its own, so that it never fills up.
fn keep(
    pipe: Option<impl std::io::Read + Send + 'static>,
    log: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    /// A chatty process must not fill the memory.
    const LINES_MAX: usize = 100_000;
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        for line in BufReader::new(pipe).lines().map_while(std::io::Result::ok) {
            let mut lines = lock(&log);
            if lines.len() < LINES_MAX {
                lines.push(line);
            }
        }
    })
}

fn lock(log: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
