//! Many clients that come and go for a while: joins and leaves, broadcasts, presence and inserts
//! together. Fails on anything that is lost, repeated or out of order, on members that are not there,
//! and on memory that grows.
//!
//! ```text
//! WALCAST_BIN=target/release/walcast soak --minutes 10 --connections 2000 [--kill]
//! ```
//!
//! With `--kill`, walcast is ended with SIGKILL at half time and started again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{sleep, sleep_until},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use walcast_tests::{Database, Postgres, Token, Walcast};

/// Clients in one room.
const ROOM: usize = 20;

/// One client in so many listens to the table, too.
const LISTENS: usize = 10;

/// Between broadcasts of one client.
const SAYS_EVERY: Duration = Duration::from_secs(8);

/// Between inserts.
const INSERTS_EVERY: Duration = Duration::from_millis(20);

/// How long presence may take to be right.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);

#[derive(Parser)]
#[command(about = "Many clients that come and go for a while.")]
struct Arguments {
    /// How long, at most an hour.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many clients.
    #[arg(long, default_value_t = 2_000)]
    connections: usize,
    /// Whether walcast is ended with SIGKILL at half time.
    #[arg(long)]
    kill: bool,
}

/// What all clients share.
struct Shared {
    port: u16,
    token: String,
    /// Nobody comes, goes or says anything any more.
    is_quiet: AtomicBool,
    is_over: AtomicBool,
    /// Whoever is there stays, and comes back when the server does.
    is_still: AtomicBool,
    /// Raised by each start of the server: what was said before it may be lost.
    n_starts: AtomicU64,
    heard: AtomicU64,
    changes: AtomicU64,
    joins: AtomicU64,
    said: AtomicU64,
    problems: Mutex<Vec<String>>,
    /// Who is there, by room.
    members: Mutex<BTreeMap<usize, BTreeSet<String>>>,
    /// Who believes whom to be there, by client.
    views: Mutex<BTreeMap<usize, BTreeSet<String>>>,
}

impl Shared {
    fn problem(&self, text: String) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < 50 {
            problems.push(text);
        }
    }

    fn members<R>(&self, act: impl FnOnce(&mut BTreeMap<usize, BTreeSet<String>>) -> R) -> R {
        act(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !(0.0..=60.0).contains(&arguments.minutes) || arguments.connections > 15_000 {
        bail!("at most an hour and 15,000 connections");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(soak(&arguments))
}

async fn soak(arguments: &Arguments) -> Result<()> {
    let postgres = Postgres::start_with_prelude().await?;
    let database = postgres.database("soak").await?;
    database
        .run(&format!(
            "grant create on database {} to walcast;
             create table notes (id int primary key);
             alter publication supabase_realtime add table notes;",
            database.name()
        ))
        .await?;
    let mut walcast = Walcast::on(&database)
        .set("WALCAST_MAX_CONNECTIONS", "20000")
        .set("WALCAST_MAX_CONCURRENT_USERS", "20000")
        .set("WALCAST_REPLAY_PUBLIC_CHANNELS", "true")
        .start()
        .await?;
    let shared = Arc::new(Shared {
        port: walcast.port(),
        token: Token::anon().sign(),
        is_quiet: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        is_still: AtomicBool::new(false),
        n_starts: AtomicU64::new(0),
        heard: AtomicU64::new(0),
        changes: AtomicU64::new(0),
        joins: AtomicU64::new(0),
        said: AtomicU64::new(0),
        problems: Mutex::default(),
        members: Mutex::default(),
        views: Mutex::default(),
    });
    let clients: Vec<_> = (0..arguments.connections)
        .map(|number| tokio::spawn(client(Arc::clone(&shared), number)))
        .collect();
    let inserting = tokio::spawn(insert(database.session().await?, Arc::clone(&shared)));
    let whole = Duration::from_secs_f64(arguments.minutes * 60.0);
    let started = Instant::now();
    println!(
        "{:>8} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9}",
        "seconds", "RSS KiB", "members", "joins", "broadcasts", "heard", "changes"
    );
    let mut rss = Vec::new();
    for step in 1..=10_u32 {
        sleep((whole * step / 10).saturating_sub(started.elapsed())).await;
        rss.push(report(&shared, &walcast, started)?);
        if arguments.kill && step == 5 {
            kill(&shared, &mut walcast, &database, arguments.connections).await?;
        }
    }
    shared.is_quiet.store(true, Ordering::Relaxed);
    let settled = settle(&shared, None).await?;
    println!("presence was right {:.1} s after the last change", settled.as_secs_f64());
    shared.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?;
    }
    inserting.await??;
    verdict(&shared, &rss, arguments.kill)
}

fn report(shared: &Shared, walcast: &Walcast, started: Instant) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", walcast.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let rss: u64 = line.trim().trim_end_matches(" kB").parse()?;
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let n_members = shared.members(|rooms| rooms.values().map(BTreeSet::len).sum::<usize>());
    println!(
        "{:>8} {rss:>9} {n_members:>9} {:>9} {:>10} {:>9} {:>9}",
        started.elapsed().as_secs(),
        count(&shared.joins),
        count(&shared.said),
        count(&shared.heard),
        count(&shared.changes)
    );
    Ok(rss)
}

/// Ends the server like a machine that loses power, lets SQL speak meanwhile, and starts it again. All
/// clients come back by themselves; what is said and inserted goes on.
async fn kill(
    shared: &Shared,
    walcast: &mut Walcast,
    database: &Database,
    n_clients: usize,
) -> Result<()> {
    shared.is_still.store(true, Ordering::Relaxed);
    shared.n_starts.fetch_add(1, Ordering::Relaxed);
    walcast.kill9()?;
    let killed = Instant::now();
    database
        .run("select realtime.send('{}', 'while down', 'room' || n, false) from generate_series(0, 9) as n")
        .await?;
    sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    walcast.start_again().await?;
    let ready = started.elapsed();
    let settled = async {
        settle(shared, Some(n_clients)).await?;
        let (serving, dead) = (started.elapsed() - ready, killed.elapsed());
        let [serving, dead] = [serving, dead].map(|time| time.as_secs_f64());
        println!(
            "all clients are back and presence is right {serving:.1} s after the server is, \
             {dead:.1} s after its end"
        );
        anyhow::Ok(())
    };
    let (settled, passed_on) = tokio::join!(settled, passed_on(walcast, started, ready));
    settled?;
    passed_on?;
    replays(shared).await?;
    shared.is_still.store(false, Ordering::Relaxed);
    Ok(())
}

/// What SQL said while the server was down is passed on.
async fn passed_on(walcast: &Walcast, started: Instant, ready: Duration) -> Result<()> {
    while started.elapsed() < SETTLES_WITHIN {
        let metrics = walcast_tests::http_get(walcast.port(), "/metrics").await?.body;
        if metrics.contains("walcast_broadcasts_total{origin=\"database\"} 10") {
            println!(
                "started again in {:.2} s; what SQL said while it was down was passed on within {:.2} s",
                ready.as_secs_f64(),
                started.elapsed().as_secs_f64()
            );
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    bail!("what SQL said while the server was down did not arrive")
}

/// Who joins later and asks for it is told what SQL said while the server was down.
async fn replays(shared: &Shared) -> Result<()> {
    let mut socket = open(shared).await?;
    let config = json!({"broadcast": {"replay": {"since": 0, "limit": 25}}});
    let join = json!(["1", "1", "realtime:room3", "phx_join", {"config": config}]);
    send(&mut socket, &join).await?;
    let until = tokio::time::Instant::now() + SETTLES_WITHIN;
    loop {
        let message = tokio::time::timeout_at(until, socket.next()).await;
        let message = message.context("no replay in time")?.context("the connection ended")??;
        // A stored message is sent in a binary frame.
        let bytes = message.into_data();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        if has(b"while down") && has(b"\"replayed\":true") {
            println!("who asked later was told it, too");
            return Ok(socket.close(None).await?);
        }
    }
}

/// Waits until everybody's view of presence is right, and everybody there where their number is given;
/// how long it took.
async fn settle(shared: &Shared, n_clients: Option<usize>) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let rooms = shared.members(|rooms| rooms.clone());
        let views = shared.views.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wrong = views.iter().find(|(number, view)| rooms.get(&(*number / ROOM)) != Some(view));
        let n_members: usize = rooms.values().map(BTreeSet::len).sum();
        match wrong {
            None if views.len() == n_members && n_members == n_clients.unwrap_or(n_members) => {
                return Ok(started.elapsed());
            }
            wrong if started.elapsed() > SETTLES_WITHIN => {
                let Some((number, view)) = wrong else {
                    bail!("{} clients are there and {n_members} are members", views.len());
                };
                let room = rooms.get(&(number / ROOM)).cloned().unwrap_or_default();
                let ghosts: Vec<_> = view.difference(&room).collect();
                let missing: Vec<_> = room.difference(view).collect();
                bail!("client {number} sees ghosts {ghosts:?} and misses {missing:?}");
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

fn verdict(shared: &Shared, rss: &[u64], was_killed: bool) -> Result<()> {
    let problems = shared.problems.lock().unwrap_or_else(PoisonError::into_inner);
    for problem in problems.iter() {
        println!("PROBLEM {problem}");
    }
    if !problems.is_empty() {
        bail!("{} problems", problems.len());
    }
    // After a third the allocator has what it needs. A new process starts anew.
    let (Some(warm), Some(last)) = (rss.get(if was_killed { 6 } else { 3 }), rss.last()) else {
        bail!("nothing was measured");
    };
    println!("RSS warm {warm} KiB, at the end {last} KiB");
    if *last > warm + warm / 5 + 10_000 {
        bail!("memory grew from {warm} to {last} KiB");
    }
    println!("nothing lost, nothing twice, nobody who is not there");
    Ok(())
}

async fn insert(session: tokio_postgres::Client, shared: Arc<Shared>) -> Result<()> {
    let mut id = 0_i32;
    while !shared.is_quiet.load(Ordering::Relaxed) {
        id += 1;
        session.execute("insert into notes values ($1)", &[&id]).await?;
        sleep(INSERTS_EVERY).await;
    }
    Ok(())
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Comes and goes until it is quiet; then stays until it is over.
async fn client(shared: Arc<Shared>, number: usize) {
    // Not all at the same moment: the server lets in a hundred a second for long.
    sleep(Duration::from_millis(10 * number as u64)).await;
    let mut stay = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        stay += 1;
        let starts = shared.n_starts.load(Ordering::Relaxed);
        let ended = visit(&shared, number, stay).await;
        leave(&shared, number, stay);
        if let Err(error) = ended {
            // While the server is down, nobody is let in.
            if shared.n_starts.load(Ordering::Relaxed) == starts && starts == 0 {
                shared.problem(format!("client {number}: {error:#}"));
            }
            sleep(Duration::from_millis(200 + (number as u64 * 37) % 800)).await;
        }
    }
}

fn name(number: usize, stay: u64) -> String {
    format!("{number}.{stay}")
}

fn leave(shared: &Shared, number: usize, stay: u64) {
    shared.members(|rooms| {
        rooms.entry(number / ROOM).or_default().remove(&name(number, stay));
    });
    shared.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
}

/// One stay: joins, says something now and then, and checks what it hears.
async fn visit(shared: &Shared, number: usize, stay: u64) -> Result<()> {
    let mut socket = open(shared).await?;
    let topic = format!("realtime:room{}", number / ROOM);
    let key = name(number, stay);
    let mut config = json!({"presence": {"enabled": true, "key": key}});
    if number.is_multiple_of(LISTENS) {
        config["postgres_changes"] =
            json!([{"event": "INSERT", "schema": "public", "table": "notes"}]);
    }
    send(&mut socket, &json!(["1", "1", topic, "phx_join", {"config": config}])).await?;
    let track = json!({"type": "presence", "event": "track", "payload": {"n": number}});
    let mut seen = Seen::default();
    let mut sequence = 0_u64;
    // Between 20 and 60 seconds, different each time.
    let length = 20_000 + (number as u64 * 7_919 + stay * 104_729) % 40_000;
    let end = tokio::time::Instant::now() + Duration::from_millis(length);
    let offset = SAYS_EVERY * u32::try_from(number % 16)? / 16;
    let mut says = tokio::time::interval_at(tokio::time::Instant::now() + offset, SAYS_EVERY);
    let mut heartbeat = tokio::time::interval(Duration::from_secs(25));
    let mut quiet = tokio::time::interval(Duration::from_millis(100));
    loop {
        let is_quiet = shared.is_quiet.load(Ordering::Relaxed);
        let stays = is_quiet || shared.is_still.load(Ordering::Relaxed);
        tokio::select! {
            message = socket.next() => {
                let message = message.context("the connection ended")??;
                let Message::Text(text) = message else {
                    if message.is_close() { bail!("closed: {message:?}") }
                    continue;
                };
                let message: Value = serde_json::from_str(&text)?;
                if message[3] == "phx_reply" && message[1] == "1" {
                    if message[4]["status"] != "ok" { bail!("refused: {text}") }
                    shared.joins.fetch_add(1, Ordering::Relaxed);
                    send(&mut socket, &json!(["1", "2", topic, "presence", track])).await?;
                    shared.members(|rooms| rooms.entry(number / ROOM).or_default().insert(key.clone()));
                }
                seen.take(shared, number, &message);
            }
            _ = says.tick(), if !is_quiet => {
                sequence += 1;
                let said = json!({"type": "broadcast", "event": "says",
                    "payload": {"who": key, "n": sequence}});
                send(&mut socket, &json!(["1", null, topic, "broadcast", said])).await?;
                shared.said.fetch_add(1, Ordering::Relaxed);
            }
            _ = heartbeat.tick() => {
                send(&mut socket, &json!([null, "h", "phoenix", "heartbeat", {}])).await?;
            }
            _ = quiet.tick(), if stays => {
                let mut views = shared.views.lock().unwrap_or_else(PoisonError::into_inner);
                views.insert(number, seen.present.keys().cloned().collect());
                if shared.is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            () = sleep_until(end), if !stays => {
                // Half of them leave, the others are gone.
                if stay.is_multiple_of(2) {
                    send(&mut socket, &json!(["1", "9", topic, "phx_leave", {}])).await?;
                    socket.close(None).await?;
                }
                return Ok(());
            }
        }
    }
}

async fn open(shared: &Shared) -> Result<Socket> {
    let url = format!(
        "ws://127.0.0.1:{}/socket/websocket?apikey={}&vsn=2.0.0",
        shared.port, shared.token
    );
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    Ok(connect_async_with_config(url, Some(config), true).await?.0)
}

async fn send(socket: &mut Socket, message: &Value) -> Result<()> {
    Ok(socket.send(Message::text(message.to_string())).await?)
}

/// What a client has seen during one stay.
#[derive(Default)]
struct Seen {
    /// The last number of each who spoke.
    said: HashMap<String, u64>,
    last_note: Option<i64>,
    /// Who is present, with the references of his entries.
    present: BTreeMap<String, BTreeSet<String>>,
}

impl Seen {
    fn take(&mut self, shared: &Shared, number: usize, message: &Value) {
        let payload = &message[4];
        match message[3].as_str() {
            Some("broadcast") => {
                let said = &payload["payload"];
                let (Some(who), Some(n)) = (said["who"].as_str(), said["n"].as_u64()) else {
                    return;
                };
                shared.heard.fetch_add(1, Ordering::Relaxed);
                let last = self.said.insert(who.to_owned(), n);
                if last.is_some_and(|last| n != last + 1) {
                    shared.problem(format!("client {number} heard {n} of {who} after {last:?}"));
                }
            }
            Some("postgres_changes") => {
                let Some(id) = payload["data"]["record"]["id"].as_i64() else { return };
                shared.changes.fetch_add(1, Ordering::Relaxed);
                let last = self.last_note.replace(id);
                if last.is_some_and(|last| id != last + 1) {
                    shared.problem(format!("client {number} saw note {id} after {last:?}"));
                }
            }
            Some("presence_state") => self.join(payload),
            Some("presence_diff") => {
                // A change of one entry is a leave and a join of different references.
                self.join(&payload["joins"]);
                for (key, references) in entries(&payload["leaves"]) {
                    if let Some(known) = self.present.get_mut(&key) {
                        references.iter().for_each(|reference| _ = known.remove(reference));
                        if known.is_empty() {
                            self.present.remove(&key);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn join(&mut self, joins: &Value) {
        for (key, references) in entries(joins) {
            self.present.entry(key).or_default().extend(references);
        }
    }
}

/// The references by key.
fn entries(value: &Value) -> Vec<(String, Vec<String>)> {
    let reference = |meta: &Value| meta["phx_ref"].as_str().map(str::to_owned);
    let of = |metas: &Value| {
        metas["metas"].as_array().into_iter().flatten().filter_map(reference).collect()
    };
    value.as_object().into_iter().flatten().map(|(key, metas)| (key.clone(), of(metas))).collect()
}
