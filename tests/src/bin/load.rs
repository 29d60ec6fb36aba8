//! Loads a server that fans messages out, over loopback, bounded in count and time.
//!
//! ```text
//! load raw                       the least that fan-out can cost: a server without a protocol
//! load run --server walcast …    subscribers and a publisher; prints one line of JSON
//! ```
//!
//! Every server is asked for the same: each of `topics` has `subscribers / topics` listeners, and a
//! message to it reaches all of them. A message carries the moment it was sent.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{interval, sleep, timeout},
};

/// Nothing here may run for longer.
const SECONDS_MAX: u64 = 900;

/// Subscribers that connect at a time.
const CONNECTING: usize = 64;

/// Messages on their way when they are sent as fast as the subscribers take them.
const WINDOW: u64 = 256;

#[derive(Parser)]
#[command(about = "Loads a server that fans messages out, over loopback.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A server that writes what it reads to all subscribers of a topic, and nothing else. Prints its
    /// port.
    Raw,
    /// Loads a server and prints what came of it.
    Run(Run),
}

#[derive(Args, Clone)]
struct Run {
    /// What kind of server it is.
    #[arg(long, value_enum)]
    server: Server,
    /// Its port.
    #[arg(long)]
    port: u16,
    /// Its process ids, for CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// The token to connect with, for walcast.
    #[arg(long, default_value = "")]
    token: String,
    /// How many subscribers there are altogether.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// The topics they are spread over.
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// Deliveries per second altogether; 0 sends as fast as the subscribers take it.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long is sent; 0 only connects.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The size of what a message carries, in bytes.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Server {
    Walcast,
    Raw,
    /// `ws` in Node.
    Ws,
    /// nginx with nchan.
    Nchan,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Arguments::parse().command {
        Command::Raw => runtime.block_on(raw()),
        Command::Run(run) => runtime.block_on(async {
            let limit = Duration::from_secs(SECONDS_MAX);
            timeout(limit, load(run)).await.context("the load took too long")?
        }),
    }
}

/// The subscribers of each topic of the raw server.
type RawTopics = Mutex<HashMap<u16, Arc<[Arc<TcpStream>]>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limit: no protocol, and whoever publishes writes to each subscriber himself.
async fn raw() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&listener.local_addr()?.port().to_string());
    let topics: Arc<RawTopics> = Arc::default();
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let topics = Arc::clone(&topics);
        tokio::spawn(async move {
            let mut head = [0; 3];
            socket.read_exact(&mut head).await?;
            socket.write_all(b"k").await?;
            if head[0] == b's' {
                let topic = u16::from_be_bytes([head[1], head[2]]);
                let mut topics = lock(&topics);
                let known = topics.entry(topic).or_insert_with(|| Arc::from(Vec::new()));
                let mut all = known.to_vec();
                all.push(Arc::new(socket));
                *known = all.into();
                return anyhow::Ok(());
            }
            publish_raw(socket, &topics).await
        });
    }
}

/// Reads `topic, length, frame` and writes the frame to the topic's subscribers, those that are there
/// together in one call.
async fn publish_raw(mut socket: TcpStream, topics: &RawTopics) -> Result<()> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut pending: HashMap<u16, Vec<u8>> = HashMap::new();
        let mut taken = 0;
        while let Some(&[a, b, c, d]) = buffer.get(taken..taken + 4) {
            let length = usize::from(u16::from_be_bytes([c, d]));
            let Some(frame) = buffer.get(taken + 4..taken + 4 + length) else { break };
            pending.entry(u16::from_be_bytes([a, b])).or_default().extend_from_slice(frame);
            taken += 4 + length;
        }
        buffer.drain(..taken);
        for (topic, frames) in pending {
            let subscribers = lock(topics).get(&topic).cloned();
            for subscriber in subscribers.iter().flat_map(|all| all.iter()) {
                let mut rest = &frames[..];
                while !rest.is_empty() {
                    match subscriber.try_write(rest) {
                        Ok(n_written) => rest = &rest[n_written..],
                        Err(_) => subscriber.writable().await?,
                    }
                }
            }
        }
    }
}

/// What the subscribers have seen.
#[derive(Default)]
struct Seen {
    n_messages: AtomicU64,
    latencies_us: Mutex<Vec<u32>>,
}

async fn load(run: Run) -> Result<()> {
    if run.topics == 0 || !run.subscribers.is_multiple_of(run.topics) || run.seconds > 600 {
        bail!("subscribers must be a multiple of topics, and 600 seconds the most");
    }
    let started = Instant::now();
    let rss_before = rss(&run.pid)?;
    let seen = Arc::new(Seen::default());
    let connected: Vec<Result<TcpStream>> = stream::iter(0..run.subscribers)
        .map(|number| subscribe(&run, number % run.topics))
        .buffered(CONNECTING)
        .collect()
        .await;
    let joining = started.elapsed();
    for socket in connected {
        tokio::spawn(read(socket?, started, Arc::clone(&seen)));
    }
    sleep(Duration::from_secs(1)).await;
    let rss_connected = rss(&run.pid)?;
    let mut publisher = Publisher::connect(&run).await?;
    let (cpu_before, wall) = (cpu(&run.pid)?, Instant::now());
    let n_sent = publisher.send_all(&run, started, &seen).await?;
    let expected = n_sent * (run.subscribers / run.topics) as u64;
    let deadline = Instant::now() + Duration::from_secs(10);
    while seen.n_messages.load(Ordering::Relaxed) < expected && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
    let wall = wall.elapsed();
    let cpu = cpu(&run.pid)? - cpu_before;
    let n_seen = seen.n_messages.load(Ordering::Relaxed);
    let mut latencies = lock(&seen.latencies_us).clone();
    latencies.sort_unstable();
    let at = |permille: usize| latencies.get(latencies.len() * permille / 1000).copied();
    let cpu_us = if n_seen == 0 { 0.0 } else { cpu * 1e6 / n_seen as f64 };
    let line = json!({
        "deliveries": n_seen,
        "lost": expected.saturating_sub(n_seen),
        "seconds": wall.as_secs_f64(),
        "cpu_us_per_delivery": cpu_us,
        "p50_us": at(500),
        "p99_us": at(990),
        "joins_per_second": run.subscribers as f64 / joining.as_secs_f64(),
        "rss_bytes_per_connection":
            rss_connected.saturating_sub(rss_before) / run.subscribers.max(1) as u64,
    });
    say(&line.to_string());
    Ok(())
}

/// Connects one subscriber.
async fn subscribe(run: &Run, topic: usize) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", run.port)).await?;
    socket.set_nodelay(true)?;
    match run.server {
        Server::Raw => greet_raw(&mut socket, b's', topic).await?,
        Server::Ws => upgrade(&mut socket, &format!("/{topic}")).await?,
        Server::Nchan => upgrade(&mut socket, &format!("/sub/{topic}")).await?,
        Server::Walcast => {
            upgrade(&mut socket, &walcast_path(run)).await?;
            join(&mut socket, &[topic]).await?;
        }
    }
    Ok(socket)
}

fn walcast_path(run: &Run) -> String {
    format!("/socket/websocket?apikey={}&vsn=2.0.0", run.token)
}

async fn greet_raw(socket: &mut TcpStream, role: u8, topic: usize) -> Result<()> {
    let [high, low] = u16::try_from(topic)?.to_be_bytes();
    socket.write_all(&[role, high, low]).await?;
    socket.read_exact(&mut [0]).await?;
    Ok(())
}

/// Opens a WebSocket; nothing may follow the head of the answer.
async fn upgrade(socket: &mut TcpStream, path: &str) -> Result<()> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut head).await? == 0 || head.len() > 8192 {
            break;
        }
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        bail!("no WebSocket: {}", String::from_utf8_lossy(&head));
    }
    Ok(())
}

/// Joins topics of walcast and waits for the replies.
async fn join(socket: &mut TcpStream, topics: &[usize]) -> Result<()> {
    let mut frames = Vec::new();
    for topic in topics {
        let text =
            format!(r#"["{topic}","{topic}","realtime:t{topic}","phx_join",{{"config":{{}}}}]"#);
        push_client_frame(&mut frames, 1, text.as_bytes());
    }
    socket.write_all(&frames).await?;
    let (mut answers, mut n_replies) = (Vec::with_capacity(4096), 0);
    while n_replies < topics.len() {
        if socket.read_buf(&mut answers).await? == 0 {
            bail!("closed while joining: {}", String::from_utf8_lossy(&answers));
        }
        let mut rest = &answers[..];
        while let Some((reply, after)) = next_frame(rest) {
            let reply = String::from_utf8_lossy(reply);
            if !reply.contains("\"ok\"") {
                bail!("a join was refused: {reply}");
            }
            n_replies += 1;
            rest = after;
        }
        let n_taken = answers.len() - rest.len();
        answers.drain(..n_taken);
    }
    Ok(())
}

/// A masked frame; the mask is zero, which changes nothing.
fn push_client_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

fn push_header(out: &mut Vec<u8>, opcode: u8, length: usize, mask: u8) {
    out.push(0x80 | opcode);
    match u8::try_from(length) {
        Ok(short) if short < 126 => out.push(mask | short),
        _ => {
            out.push(mask | 126);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

/// Counts messages, and notes how long each took.
async fn read(mut socket: TcpStream, started: Instant, seen: Arc<Seen>) -> Result<()> {
    let mut buffer = Vec::with_capacity(2048);
    loop {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let now = started.elapsed();
        let mut rest = &buffer[..];
        let mut latencies = Vec::new();
        while let Some((payload, after)) = next_frame(rest) {
            if let Some(sent) = moment(payload) {
                let latency = now.saturating_sub(sent).as_micros();
                latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
            rest = after;
        }
        let n_taken = buffer.len() - rest.len();
        buffer.drain(..n_taken);
        seen.n_messages.fetch_add(latencies.len() as u64, Ordering::Relaxed);
        lock(&seen.latencies_us).extend(latencies);
    }
}

/// The payload of an unmasked frame, and what follows it.
fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, start) = match bytes {
        [_, 127, ..] => return None,
        [_, 126, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        [_, short, ..] if *short < 126 => (usize::from(*short), 2),
        _ => return None,
    };
    Some((bytes.get(start..start + length)?, &bytes[start + length..]))
}

/// What a message carries: when it was sent, and padding.
fn content(started: Instant, n_bytes: usize) -> Vec<u8> {
    let now = started.elapsed().as_micros();
    let mut content = format!(r#"{{"us":"{now:012}","x":""#).into_bytes();
    content.resize(n_bytes.max(content.len() + 2) - 2, b'x');
    content.extend_from_slice(b"\"}");
    content
}

fn moment(payload: &[u8]) -> Option<Duration> {
    let at = payload.windows(7).position(|window| window == b"{\"us\":\"")?;
    let digits = payload.get(at + 7..at + 19)?;
    let micros = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// Who sends.
struct Publisher {
    socket: TcpStream,
}

impl Publisher {
    async fn connect(run: &Run) -> Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", run.port)).await?;
        socket.set_nodelay(true)?;
        match run.server {
            Server::Raw => greet_raw(&mut socket, b'p', 0).await?,
            Server::Ws => upgrade(&mut socket, "/publish").await?,
            Server::Nchan if run.topics > 1 => bail!("nchan is loaded with one topic only"),
            Server::Nchan => upgrade(&mut socket, "/pub/0").await?,
            Server::Walcast => {
                upgrade(&mut socket, &walcast_path(run)).await?;
                join(&mut socket, &(0..run.topics).collect::<Vec<_>>()).await?;
            }
        }
        Ok(Self { socket })
    }

    /// Sends at the rate for the time; how many messages.
    async fn send_all(&mut self, run: &Run, started: Instant, seen: &Seen) -> Result<u64> {
        let per_message = (run.subscribers / run.topics) as u64;
        let mut n_sent = 0;
        if run.seconds == 0 {
            return Ok(0);
        }
        let end = Instant::now() + Duration::from_secs(run.seconds);
        if run.rate == 0 {
            while Instant::now() < end {
                let mut frames = Vec::new();
                let n_seen = seen.n_messages.load(Ordering::Relaxed) / per_message;
                while n_sent < n_seen + WINDOW {
                    push(run, n_sent, started, &mut frames)?;
                    n_sent += 1;
                }
                self.socket.write_all(&frames).await?;
                tokio::task::yield_now().await;
            }
            return Ok(n_sent);
        }
        let mut ticks = interval(Duration::from_nanos(1_000_000_000 * per_message / run.rate));
        while Instant::now() < end {
            ticks.tick().await;
            let mut frames = Vec::new();
            push(run, n_sent, started, &mut frames)?;
            self.socket.write_all(&frames).await?;
            n_sent += 1;
        }
        Ok(n_sent)
    }
}

/// Appends a message as the server wants it.
fn push(run: &Run, number: u64, started: Instant, out: &mut Vec<u8>) -> Result<()> {
    let topic = usize::try_from(number)? % run.topics;
    let content = content(started, run.bytes);
    match run.server {
        Server::Raw => {
            let mut frame = Vec::new();
            push_header(&mut frame, 2, content.len(), 0);
            frame.extend_from_slice(&content);
            out.extend_from_slice(&u16::try_from(topic)?.to_be_bytes());
            out.extend_from_slice(&u16::try_from(frame.len())?.to_be_bytes());
            out.extend_from_slice(&frame);
        }
        Server::Ws => {
            let mut message = format!("{topic:05}").into_bytes();
            message.extend_from_slice(&content);
            push_client_frame(out, 2, &message);
        }
        Server::Nchan => push_client_frame(out, 1, &content),
        Server::Walcast => {
            let topic = format!("realtime:t{topic}");
            let mut message = vec![3, 1, 1, u8::try_from(topic.len())?, 1, 0, 1, b'0', b'0'];
            message.extend_from_slice(topic.as_bytes());
            message.push(b'e');
            message.extend_from_slice(&content);
            push_client_frame(out, 2, &message);
        }
    }
    Ok(())
}

/// User and system time of processes, in seconds.
fn cpu(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = text.rsplit_once(") ").context("a stat file names its program")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        for index in [11, 12] {
            ticks += fields.get(index).context("a stat file is too short")?.parse::<f64>()?;
        }
    }
    // USER_HZ is 100 on every Linux that has /proc.
    Ok(ticks / 100.0)
}

/// Resident memory of processes, in bytes.
fn rss(pids: &[u32]) -> Result<u64> {
    let mut kib = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        kib += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(kib * 1024)
}

fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
