//! What a delivery of a broadcast costs, beside other servers and a limit in the same run.

use std::{
    any::Any,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use walcast_tests::{Postgres, Token, Walcast};

/// Subscribers, topics and deliveries per second; 0 is as fast as it goes.
const SHAPES: [(&str, u32, u32, u32); 5] = [
    ("1 x 100", 100, 1, 20_000),
    ("1 x 1,000", 1_000, 1, 20_000),
    ("1 x 5,000", 5_000, 1, 20_000),
    ("100 x 50", 5_000, 100, 20_000),
    ("burst 1 x 100", 100, 1, 0),
];

/// Connections whose memory is measured.
const IDLE: u32 = 5_000;

/// The servers, the limit first.
const SERVERS: [&str; 4] = ["raw", "walcast", "ws", "nchan"];

/// A server under load; ended when it is dropped.
struct Server {
    port: u16,
    pid: u32,
    token: String,
    /// What ends it when it is dropped.
    _owner: Box<dyn Any>,
}

/// Ends with its owner.
struct KilledChild(Child);

impl Drop for KilledChild {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Prints the tables. Each shape is measured `rounds` times in turn with all servers; the median
/// counts, since machines are shared and noisy.
pub async fn run(root: &Path, rounds: u64, seconds: u64) -> Result<()> {
    let load = load_program(root)?;
    let postgres = Postgres::start_with_prelude().await?;
    println!("\n== fan-out: CPU of the server in us per delivery of 128 bytes, {rounds} rounds");
    println!(
        "{:<14} {:>9} {:>9} {:>9} {:>9} {:>7} {:>22}",
        "topics x each", "raw", "walcast", "ws", "nchan", "/ raw", "walcast p50, p99 us"
    );
    for (name, subscribers, topics, rate) in SHAPES {
        let mut costs: [Vec<f64>; SERVERS.len()] = Default::default();
        let mut latency = String::new();
        for _ in 0..rounds {
            for (kind, costs) in SERVERS.iter().zip(&mut costs) {
                if *kind == "nchan" && topics > 1 {
                    continue;
                }
                let Some(server) = start(root, &load, kind, &postgres).await? else { continue };
                let measured = measure(&load, kind, &server, subscribers, topics, rate, seconds)?;
                if measured["lost"] != 0 {
                    println!("{name}: {kind} lost {} deliveries", measured["lost"]);
                }
                costs.push(measured["cpu_us_per_delivery"].as_f64().context("a cost")?);
                if *kind == "walcast" {
                    latency = format!("{} {}", measured["p50_us"], measured["p99_us"]);
                }
            }
        }
        let medians = costs.map(median);
        let [raw, walcast, ws, nchan] =
            medians.map(|cost| cost.map_or("-".to_owned(), |cost| format!("{cost:.2}")));
        let ratio = medians[1].zip(medians[0]).map_or(f64::NAN, |(walcast, raw)| walcast / raw);
        println!("{name:<14} {raw:>9} {walcast:>9} {ws:>9} {nchan:>9} {ratio:>7.2} {latency:>22}");
    }
    println!("\n== idle: resident memory of the server in bytes per joined connection, of {IDLE}");
    for kind in SERVERS {
        let Some(server) = start(root, &load, kind, &postgres).await? else { continue };
        let measured = measure(&load, kind, &server, IDLE, 1, 1, 0)?;
        println!(
            "{kind:<14} {:>9} {:>12} joins/s",
            measured["rss_bytes_per_connection"],
            measured["joins_per_second"].as_f64().unwrap_or_default() as u64
        );
    }
    Ok(())
}

fn median(mut costs: Vec<f64>) -> Option<f64> {
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied()
}

/// Builds the load generator.
fn load_program(root: &Path) -> Result<PathBuf> {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--package", "walcast-tests", "--bin", "load"])
        .current_dir(root)
        .status()?;
    if !built.success() {
        bail!("the load generator could not be built");
    }
    // Beside this program, which is a release build, too.
    Ok(std::env::current_exe()?.with_file_name("load"))
}

/// Starts a server; `None` where it cannot be had.
async fn start(
    root: &Path,
    load: &Path,
    kind: &str,
    postgres: &Postgres,
) -> Result<Option<Server>> {
    let (mut child, port) = match kind {
        "walcast" => return start_walcast(postgres).await.map(Some),
        "raw" => (Command::new(load).arg("raw").stdout(Stdio::piped()).spawn()?, None),
        "ws" => {
            let script = root.join("tests/load/ws-server.mjs");
            (Command::new("node").arg(script).stdout(Stdio::piped()).spawn()?, None)
        }
        _ => {
            let folder = std::env::temp_dir().join(format!("walcast-nchan-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut command = Command::new(root.join("tests/load/nchan.sh"));
            (command.arg(port.to_string()).arg(folder).spawn()?, Some(port))
        }
    };
    let port = match port {
        Some(port) => {
            // Installing it takes its time.
            let is_up = (0..1_200).any(|_| {
                sleep(Duration::from_millis(100));
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
                    || child.try_wait().is_ok_and(|ended| ended.is_some())
            });
            if !is_up || child.try_wait()?.is_some() {
                return Ok(None);
            }
            port
        }
        None => {
            let mut line = String::new();
            BufReader::new(child.stdout.take().context("it prints")?).read_line(&mut line)?;
            match line.trim().parse() {
                Ok(port) => port,
                Err(_) => return Ok(None),
            }
        }
    };
    let pid = child.id();
    let owner = Box::new(KilledChild(child));
    Ok(Some(Server { port, pid, token: String::new(), _owner: owner }))
}

async fn start_walcast(postgres: &Postgres) -> Result<Server> {
    let database = postgres.database("fanout").await?;
    let walcast = Walcast::on(&database)
        .set("WALCAST_MAX_CONNECTIONS", "20000")
        .set("WALCAST_MAX_CONCURRENT_USERS", "20000")
        .set("WALCAST_MAX_EVENTS_PER_SECOND", "1000000")
        .set("WALCAST_MAX_JOINS_PER_SECOND", "100000")
        .start()
        .await?;
    let (port, pid, token) = (walcast.port(), walcast.id(), Token::anon().sign());
    let owner = Box::new((walcast, database));
    Ok(Server { port, pid, token, _owner: owner })
}

fn measure(
    load: &Path,
    kind: &str,
    server: &Server,
    subscribers: u32,
    topics: u32,
    rate: u32,
    seconds: u64,
) -> Result<Value> {
    let output = Command::new(load)
        .args(["run", "--server", kind])
        .args(["--port", &server.port.to_string(), "--pid", &server.pid.to_string()])
        .args(["--subscribers", &subscribers.to_string(), "--topics", &topics.to_string()])
        .args(["--rate", &rate.to_string(), "--seconds", &seconds.to_string()])
        .args(["--token", &server.token])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the load of {kind} failed");
    }
    serde_json::from_slice(&output.stdout).context("the load prints a line of JSON")
}
