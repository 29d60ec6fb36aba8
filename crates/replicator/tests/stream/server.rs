//! A private PostgreSQL server for the tests of one process.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_postgres::{NoTls, SimpleQueryMessage};
use walcast_replicator::{ConnectOptions, Host, ReplicationOptions, Secret, SslMode};

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const HBA: &str = "\
local all all trust
host all md5_user 127.0.0.1/32 md5
host all scram_user 127.0.0.1/32 scram-sha-256
host all password_user 127.0.0.1/32 password
hostnossl all plain_user 127.0.0.1/32 trust
host all plain_user 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
host all all ::1/128 trust
";

/// Starts PostgreSQL, restarts it for each line of standard input, and stops it at its end, however
/// the test ended.
const KEEPER: &str = r#"
start() {
    "$1/postgres" -D "$2/data" -k "$2" -p "$3" >>"$2/log" 2>&1 &
    postgres=$!
}
stop() {
    kill -INT $postgres
    wait $postgres
}
start "$@"
while read -r line; do
    stop
    start "$@"
done
stop
cd /
rm -rf "$2"
"#;

pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    /// Closing its standard input stops the server.
    keeper: Child,
}

impl Server {
    /// The server that the tests of this process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(""))
    }

    /// A server of its own, with more settings.
    pub(crate) fn start(settings: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let programs = find_programs();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            PathBuf::from(format!("/var/tmp/walcast-replicator-{}-{number}", std::process::id()));
        fs::create_dir(&folder).expect("create the server's folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let owner = unprivileged_owner(&folder);
        if let Some((uid, gid)) = owner {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&folder).env_clear().env("LC_ALL", "C.UTF-8");
            command.env("PATH", "/usr/bin:/bin");
            if let Some((uid, gid)) = owner {
                command.uid(uid).gid(gid);
            }
            command
        };
        let output = command(&programs.join("initdb"))
            .args(["-D", "data", "-U", "postgres", "-A", "trust", "--no-sync"])
            .args(["--locale=C", "-E", "UTF8"])
            .output()
            .expect("run initdb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        append(
            &folder.join("data/postgresql.conf"),
            &format!(
                "wal_level = logical\nmax_wal_senders = 20\nmax_replication_slots = 40\nfsync = off\n\
             shared_buffers = 32MB\nlisten_addresses = 'localhost'\nlog_min_messages = log\n\
             log_connections = on\nlog_replication_commands = on\n{settings}\n"
            ),
        );
        fs::write(folder.join("data/pg_hba.conf"), HBA).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let keeper = command(Path::new("/bin/sh"))
            .args(["-c", KEEPER, "keeper"])
            .args([programs.as_path(), folder.as_path()])
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start PostgreSQL");
        let server = Self { folder, port, keeper };
        server.await_readiness();
        server
    }

    /// Stops and starts it, and waits until it takes connections.
    pub(crate) fn restart(&mut self) {
        let before = self.first_line_of_pid_file();
        self.keeper.stdin.as_mut().unwrap().write_all(b"restart\n").unwrap();
        let start = Instant::now();
        while self.first_line_of_pid_file().is_none_or(|line| Some(line) == before) {
            assert!(start.elapsed() < DEADLINE, "PostgreSQL does not restart");
            std::thread::yield_now();
        }
        self.await_readiness();
    }

    /// Makes a file in the data folder, as the server's own.
    pub(crate) fn create_file(&self, name: &str) {
        let path = self.folder.join("data").join(name);
        fs::write(&path, "").unwrap();
        let owner = fs::metadata(&self.folder).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    fn first_line_of_pid_file(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
    }

    fn await_readiness(&self) {
        let start = Instant::now();
        let pid_file = self.folder.join("data/postmaster.pid");
        let is_up = |text: String| text.contains("ready") || text.contains("standby");
        while !fs::read_to_string(&pid_file).is_ok_and(is_up) {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(start.elapsed() < DEADLINE, "PostgreSQL does not start: {}", log());
            std::thread::yield_now();
        }
    }

    /// Makes a database and logs in as its superuser.
    pub(crate) async fn database(&self, name: &str, clause: &str) -> Database {
        let postgres = self.sql("postgres").await;
        postgres.batch_execute(&format!("create database {name} {clause}")).await.unwrap();
        self.existing_database(name).await
    }

    pub(crate) async fn existing_database(&self, name: &str) -> Database {
        let sql = self.sql(name).await;
        let connect = self.connect_options(name);
        let replication = ReplicationOptions {
            slot: format!("{name}_slot"),
            temporary: false,
            publications: vec!["supabase_realtime".to_owned()],
            wal_budget_bytes: None,
            recreate_slot: false,
        };
        Database { sql, connect, replication }
    }

    pub(crate) fn connect_options(&self, database: &str) -> ConnectOptions {
        ConnectOptions {
            host: Host::Unix(self.folder.clone()),
            port: self.port,
            user: "postgres".to_owned(),
            password: None,
            database: database.to_owned(),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            application_name: database.to_owned(),
            connect_timeout: DEADLINE,
        }
    }

    /// The same over TCP, as another role.
    pub(crate) fn tcp_options(&self, database: &str, user: &str, password: &str) -> ConnectOptions {
        ConnectOptions {
            host: Host::Tcp("127.0.0.1".to_owned()),
            user: user.to_owned(),
            password: (!password.is_empty()).then(|| Secret::new(password)),
            ..self.connect_options(database)
        }
    }

    async fn sql(&self, database: &str) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).port(self.port).user("postgres").dbname(database);
        let (client, connection) = config.connect(NoTls).await.expect("connect");
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A database with a superuser's connection, and how to stream it.
pub(crate) struct Database {
    pub(crate) sql: tokio_postgres::Client,
    pub(crate) connect: ConnectOptions,
    pub(crate) replication: ReplicationOptions,
}

impl Database {
    pub(crate) async fn run(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The single text value of a query.
    pub(crate) async fn value(&self, sql: &str) -> Option<String> {
        let rows = self.sql.simple_query(sql).await.unwrap();
        rows.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            row.get(0).map(str::to_owned)
        })
    }

    /// Waits until the query's value is "t".
    pub(crate) async fn await_true(&self, sql: &str) {
        let start = Instant::now();
        while self.value(sql).await.as_deref() != Some("t") {
            assert!(start.elapsed() < DEADLINE, "never true: {sql}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests look for PostgreSQL's programs")]
fn find_programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("PG_BIN") {
        return folder.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for root in ["/usr/lib/postgresql", "/usr/local/pgsql"] {
        let versions = fs::read_dir(root).into_iter().flatten().flatten();
        folders.extend(versions.map(|version| version.path().join("bin")));
    }
    let has_initdb = |folder: &PathBuf| folder.join("initdb").exists();
    let found = folders.into_iter().rfind(has_initdb);
    let folder = found.expect("PostgreSQL's programs: install PostgreSQL or set PG_BIN");
    // A link in PATH would hide where the server's other files are.
    fs::canonicalize(folder.join("initdb")).unwrap().parent().unwrap().to_owned()
}

/// PostgreSQL refuses to run as root: the role to run as, when we are root.
fn unprivileged_owner(folder: &Path) -> Option<(u32, u32)> {
    if fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let find = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a role to run PostgreSQL as"))
}

fn append(file: &Path, text: &str) {
    fs::OpenOptions::new().append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}
