//! Nanoseconds per frame, read and written: `cargo bench -p walcast-protocol --bench frames`.
#![expect(clippy::print_stdout, reason = "a benchmark prints what a human compares")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{hint::black_box, time::Instant};

use bytes::Bytes;
use walcast_protocol::{
    Frame, Topic, Version,
    frame::{decode, postgres_changes},
};

const N_FRAMES: u32 = 1_000_000;
const N_ROUNDS: usize = 5;

const V1: &str = r#"{"topic":"realtime:room","event":"broadcast","payload":{"type":"broadcast","event":"cursor","payload":{"x":12.5,"y":-3,"name":"somebody"}},"ref":"31","join_ref":"1"}"#;
const V2: &str = r#"["1","31","realtime:room","broadcast",{"type":"broadcast","event":"cursor","payload":{"x":12.5,"y":-3,"name":"somebody"}}]"#;
/// Kind 3: join_ref "1", ref "31", the event "cursor", JSON.
const KIND_3: &[u8] = b"\x03\x01\x02\x0d\x06\x00\x01131realtime:roomcursor{\"x\":12.5,\"y\":-3}";

fn main() {
    for (name, version, frame) in [
        ("read a text frame of version 1", Version::V1, Frame::Text(Bytes::from(V1))),
        ("read a text frame of version 2", Version::V2, Frame::Text(Bytes::from(V2))),
        ("read a binary frame", Version::V2, Frame::Binary(Bytes::from(KIND_3))),
    ] {
        measure(name, || black_box(decode(version, black_box(&frame))).is_ok());
    }
    let (topic, data) = (Topic::new("realtime:room"), vec![b' '; 400]);
    for (name, version) in [
        ("put a head around 400 bytes, version 1", Version::V1),
        ("put a head around 400 bytes, version 2", Version::V2),
    ] {
        measure(name, || {
            let frame = postgres_changes(version, black_box(&topic), &[1, 2], black_box(&data));
            !black_box(frame).bytes().is_empty()
        });
    }
}

fn measure(name: &str, mut work: impl FnMut() -> bool) {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..N_FRAMES {
            assert!(work(), "{name}");
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(N_FRAMES)
    };
    // The best round is the one that was disturbed least.
    let best = (0..N_ROUNDS).map(round).fold(f64::INFINITY, f64::min);
    println!("{name}: {best:.0} ns");
}
