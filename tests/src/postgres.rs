//! A private PostgreSQL server that ends with the test process, whichever way that ends.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::sync::OnceCell;

use crate::database::{Database, connect};
use crate::programs::PostgresPrograms;

/// The superuser of every private server. Named as on Supabase, where `postgres` is an ordinary
/// role.
pub const SUPERUSER: &str = "supabase_admin";

/// The database that new ones are copied from.
const TEMPLATE: &str = "walcast_template";

/// How long initdb, start and stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the server and removes its folder when the pipe that the test process holds breaks:
/// a killed test leaves nothing behind.
const KEEPER: &str = r#"
"$0" -D "$1/data" -p "$2" >>"$1/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
if [ -e "$1/keep" ]; then signal=INT; else signal=QUIT; fi
# A server that has only just been started ignores signals, hence the repetition.
(while kill -$signal $server 2>/dev/null; do sleep 0.1; done) &
wait $server
[ -e "$1/keep" ] || rm -rf "$1"
"#;

/// What every database of the integration tests holds, as on Supabase.
const PRELUDE_ROLES: &str = "
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role walcast login replication noinherit;
grant anon, authenticated, service_role to walcast;
";

const PRELUDE_DATABASE: &str = r"
create schema auth;
grant usage on schema auth, public to anon, authenticated, service_role;
create function auth.jwt() returns jsonb language sql stable
  as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
create function auth.uid() returns uuid language sql stable
  as $$ select (auth.jwt() ->> 'sub')::uuid $$;
create function auth.role() returns text language sql stable
  as $$ select auth.jwt() ->> 'role' $$;
alter default privileges in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public
  grant all on sequences to anon, authenticated, service_role;
grant create on schema public to walcast;
create publication supabase_realtime;
";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    programs: PostgresPrograms,
    folder: PathBuf,
    port: u16,
    keeper: Option<Child>,
}

impl Postgres {
    /// The server that the tests of one process share, with the prelude in its template.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start_with_prelude).await
    }

    /// Starts a server of its own whose template holds the roles, schema `auth` and publication
    /// that Supabase has.
    pub async fn start_with_prelude() -> Result<Self> {
        let server = Self::start().await?;
        server.prepare_template(PRELUDE_ROLES, PRELUDE_DATABASE).await?;
        Ok(server)
    }

    /// Starts a server with nothing in it.
    pub async fn start() -> Result<Self> {
        let programs = PostgresPrograms::find()?;
        let folder = create_folder()?;
        let mut server = Self { programs, folder, port: 0, keeper: None };
        server.initialise()?;
        for _ in 0..5 {
            // A port that was free may be taken a moment later, hence the attempts.
            server.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            match server.run().await {
                Ok(()) => return Ok(server),
                Err(error) if server.log().contains("could not bind") => drop(error),
                Err(error) => return Err(error),
            }
        }
        bail!("no free port for PostgreSQL after five attempts: {}", server.log())
    }

    /// Runs `roles` once in the cluster and `database_sql` in the template of new databases.
    pub async fn prepare_template(&self, roles: &str, database_sql: &str) -> Result<()> {
        let maintenance = connect(&self.url(SUPERUSER, "postgres")).await?;
        maintenance.batch_execute(roles).await.context("roles of the prelude")?;
        maintenance.batch_execute(&format!("create database {TEMPLATE}")).await?;
        let template = connect(&self.url(SUPERUSER, TEMPLATE)).await?;
        template.batch_execute(database_sql).await.context("database part of the prelude")?;
        drop(template);
        // The copy needs a template without connections, and ours may still be closing.
        maintenance
            .batch_execute(&format!("alter database {TEMPLATE} with allow_connections false"))
            .await?;
        maintenance
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
                &[&TEMPLATE],
            )
            .await?;
        Ok(())
    }

    /// Creates a database of its own from the template.
    pub async fn database(&self, name: &str) -> Result<Database> {
        Database::create(self, TEMPLATE, name).await
    }

    /// The address of one database for one role.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The major release, e.g. 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.programs.major
    }

    /// The port the server listens at on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its programs.
    #[must_use]
    pub fn programs(&self) -> &PostgresPrograms {
        &self.programs
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops the server as an operator would (fast shutdown) and keeps its data.
    pub fn stop(&mut self) -> Result<()> {
        fs::write(self.folder.join("keep"), "")?;
        let pid = self.pid()?;
        kill_process(pid, Signal::INT)?;
        self.end_keeper()
    }

    /// Starts it again at the same port after [`Self::stop`].
    pub async fn start_again(&mut self) -> Result<()> {
        fs::remove_file(self.folder.join("keep"))?;
        self.run().await
    }

    fn initialise(&self) -> Result<()> {
        let mut refusal = String::new();
        // The C library of some machines has no C.UTF-8.
        for locale in ["C.UTF-8", "C"] {
            let answer = self
                .command("initdb")?
                .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-sync"])
                .arg(format!("--locale={locale}"))
                .arg("-D")
                .arg(self.data())
                .output()
                .context("cannot run initdb")?;
            if answer.status.success() {
                let settings = self.data().join("postgresql.conf");
                let mut text = fs::read_to_string(&settings)?;
                text.push_str(&format!(
                    "\nunix_socket_directories = '{}'\n",
                    self.folder.display()
                ));
                text.push_str(SETTINGS);
                fs::write(&settings, text)?;
                return Ok(());
            }
            refusal = String::from_utf8_lossy(&answer.stderr).into_owned();
        }
        bail!("initdb of {} failed: {refusal}", self.programs.folder.display())
    }

    async fn run(&mut self) -> Result<()> {
        let logged = self.log().len();
        let mut command = Command::new("sh");
        self.drop_privileges(&mut command)?;
        let keeper = command
            .arg("-c")
            .arg(KEEPER)
            .arg(self.programs.path("postgres"))
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start PostgreSQL")?;
        self.keeper = Some(keeper);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if self.is_ready() && connect(&self.url(SUPERUSER, "postgres")).await.is_ok() {
                return Ok(());
            }
            if self.log().get(logged..).is_some_and(|new| new.contains("system is shut down")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = self.log();
        self.end_keeper_keeping_data()?;
        bail!("PostgreSQL did not start: {log}")
    }

    fn is_ready(&self) -> bool {
        fs::read_to_string(self.data().join("postmaster.pid"))
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
    }

    fn pid(&self) -> Result<Pid> {
        let text = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let number = text.lines().next().context("empty postmaster.pid")?.trim().parse()?;
        Pid::from_raw(number).context("postmaster.pid holds no process id")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A PostgreSQL program, as a user that PostgreSQL accepts, free of inherited settings.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.programs.path(program));
        self.drop_privileges(&mut command)?;
        Ok(command)
    }

    fn drop_privileges(&self, command: &mut Command) -> Result<()> {
        if let Some((user, group)) = unprivileged_user()? {
            command.uid(user).gid(group);
        }
        command.current_dir(&self.folder).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        Ok(())
    }

    fn end_keeper(&mut self) -> Result<()> {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait()?;
        }
        Ok(())
    }

    fn end_keeper_keeping_data(&mut self) -> Result<()> {
        fs::write(self.folder.join("keep"), "")?;
        self.end_keeper()?;
        Ok(fs::remove_file(self.folder.join("keep"))?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.end_keeper());
        drop(fs::remove_dir_all(&self.folder));
    }
}

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
wal_level = logical
max_wal_senders = 64
max_replication_slots = 64
max_connections = 300
shared_buffers = 64MB
max_wal_size = 2GB
# Nothing here has to survive a power cut, but commits are to be decoded at once.
fsync = off
full_page_writes = off
synchronous_commit = on
# Compiling catalogue queries costs more than running them.
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%d %u %a '
";

fn create_folder() -> Result<PathBuf> {
    let parent = if Path::new("/var/tmp").is_dir() {
        PathBuf::from("/var/tmp")
    } else {
        std::env::temp_dir()
    };
    let moment = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let folder = parent.join(format!("walcast-test-{}-{moment}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    File::create(folder.join("log"))?;
    if let Some((user, group)) = unprivileged_user()? {
        chown(&folder, Some(user), Some(group))?;
        chown(folder.join("log"), Some(user), Some(group))?;
    }
    Ok(folder)
}

/// PostgreSQL refuses to run as root; whoever is root becomes `postgres`, else `nobody`.
fn unprivileged_user() -> Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for line in users.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, user, group, ..] = fields.as_slice()
                && *name == wanted
            {
                return Ok(Some((user.parse()?, group.parse()?)));
            }
        }
    }
    bail!("running as root, and neither user postgres nor nobody exists to run PostgreSQL as")
}
