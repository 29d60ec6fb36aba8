//! Nanoseconds per row for decoding and assembling inserts: `cargo bench -p walcast-replicator`.

use std::{hint::black_box, time::Instant};

use walcast_change::Lsn;
use walcast_replicator::{Assembler, StreamItem, Taken};

const N_ROUNDS: usize = 50;
const N_ROWS_PER_ROUND: u32 = 20_000;
const N_ROWS_PER_BATCH: usize = 1000;

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn main() {
    println!("columns  bytes/row  ns/row");
    for n_columns in [4, 20] {
        let cells: Vec<String> = (0..n_columns).map(|n| "x".repeat(n % 16 + 4)).collect();
        let insert = insert(&cells);
        println!("{n_columns:>7}  {:>9}  {:>6.0}", insert.len(), measure(&insert, n_columns));
    }
}

fn measure(insert: &[u8], n_columns: usize) -> f64 {
    let mut assembler = Assembler::new(Taken::default());
    let mut out = Vec::with_capacity(N_ROWS_PER_BATCH);
    let mut push = |message: &[u8], out: &mut Vec<StreamItem>| {
        assembler.push(Lsn::new(1), message, out).unwrap_or_else(|error| panic!("{error}"));
    };
    push(&begin(), &mut out);
    push(&relation(n_columns), &mut out);
    out.clear();
    // The least of many rounds: whatever else the machine does only ever adds.
    let mut least = f64::INFINITY;
    for _ in 0..N_ROUNDS {
        let start = Instant::now();
        for _ in 0..N_ROWS_PER_ROUND {
            push(black_box(insert), &mut out);
            if out.len() >= N_ROWS_PER_BATCH {
                black_box(&out);
                out.clear();
            }
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(N_ROWS_PER_ROUND));
    }
    least
}

fn begin() -> Vec<u8> {
    [&b"B"[..], &[0; 20]].concat()
}

fn relation(n_columns: usize) -> Vec<u8> {
    let mut bytes = b"R\0\0\0\x01public\0notes\0d".to_vec();
    bytes.extend(count(n_columns));
    for _ in 0..n_columns {
        bytes.extend(b"\0column\0\0\0\0\x19\xff\xff\xff\xff");
    }
    bytes
}

fn insert(cells: &[String]) -> Vec<u8> {
    let mut bytes = b"I\0\0\0\x01N".to_vec();
    bytes.extend(count(cells.len()));
    for cell in cells {
        bytes.extend(b"t\0\0");
        bytes.extend(count(cell.len()));
        bytes.extend(cell.as_bytes());
    }
    bytes
}

fn count(n: usize) -> [u8; 2] {
    u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes()
}
