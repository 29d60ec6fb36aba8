//! WebSocket frames as no client library would send them, over a bare TCP socket.

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use walcast_tests::{Token, http_request};

use crate::world::World;

const HEARTBEAT: &[u8] = br#"[null,"7","phoenix","heartbeat",{}]"#;
const ANSWER: &[u8] = br#"[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]"#;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;

/// A WebSocket that was opened by hand.
struct Socket(TcpStream);

impl Socket {
    async fn open(world: &World) -> Result<Self> {
        Self::open_and_send(world, &[]).await
    }

    /// Sends bytes together with the handshake.
    async fn open_and_send(world: &World, bytes: &[u8]) -> Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", world.walcast.port())).await?;
        let request = format!(
            "GET /socket/websocket?apikey={}&vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n\
             Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            Token::anon().sign()
        );
        socket.write_all(&[request.as_bytes(), bytes].concat()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        // The example of RFC 6455.
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Ok(Self(socket))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    /// The opcode and payload of the next frame.
    async fn next(&mut self) -> Result<(u8, Vec<u8>)> {
        let (first, second) = (self.0.read_u8().await?, self.0.read_u8().await?);
        let length = match second {
            126 => usize::from(self.0.read_u16().await?),
            short if short < 126 => usize::from(short),
            _ => bail!("a frame of this length was not expected"),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        assert_eq!(first & 0xf0, FINAL, "frames of the server are whole");
        Ok((first & 0x0f, payload))
    }

    async fn is_answered(&mut self) -> Result<()> {
        assert_eq!(self.next().await?, (TEXT, ANSWER.to_vec()));
        Ok(())
    }

    /// The code of the close frame, which is the last thing the server sends.
    async fn closed_with(mut self) -> Result<u16> {
        let (opcode, payload) = self.next().await?;
        assert_eq!(opcode, CLOSE);
        Ok(u16::from_be_bytes([payload[0], payload[1]]))
    }
}

/// A frame with a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[tokio::test]
async fn messages_come_in_whatever_pieces() -> Result<()> {
    let world = World::new("frames_pieces", "").await?;
    let whole = frame(FINAL | TEXT, HEARTBEAT);
    // With the handshake, two at once, and one byte at a time.
    let mut socket = Socket::open_and_send(&world, &whole).await?;
    socket.is_answered().await?;
    socket.send(&[whole.clone(), whole.clone()].concat()).await?;
    socket.is_answered().await?;
    socket.is_answered().await?;
    for byte in &whole {
        socket.send(&[*byte]).await?;
    }
    socket.is_answered().await?;
    // In fragments, with a ping between them.
    let (first, rest) = HEARTBEAT.split_at(10);
    let (second, third) = rest.split_at(0);
    let fragments = [
        frame(TEXT, first),
        frame(FINAL | PING, b"are you there?"),
        frame(0, second),
        frame(FINAL, third),
    ];
    socket.send(&fragments.concat()).await?;
    assert_eq!(socket.next().await?, (PONG, b"are you there?".to_vec()));
    socket.is_answered().await?;
    // A close is answered with one.
    socket.send(&frame(FINAL | CLOSE, &1000_u16.to_be_bytes())).await?;
    assert_eq!(socket.next().await?.0, CLOSE);
    world.end().await
}

#[tokio::test]
async fn what_is_no_frame_closes_its_own_connection() -> Result<()> {
    let world = World::new("frames_broken", "").await?;
    let mut witness = Socket::open(&world).await?;
    let unmasked = [&[FINAL | TEXT, HEARTBEAT.len() as u8][..], HEARTBEAT].concat();
    let long_ping = frame(FINAL | PING, &[0; 126]);
    for (what, bytes) in [
        ("without a mask", unmasked),
        ("a reserved bit", frame(FINAL | 0x40 | TEXT, HEARTBEAT)),
        ("an unknown kind", frame(FINAL | 3, HEARTBEAT)),
        ("an unknown control frame", frame(FINAL | 11, b"")),
        ("a continuation of nothing", frame(FINAL, HEARTBEAT)),
        ("a message within another", [frame(TEXT, b"["), frame(FINAL | TEXT, b"]")].concat()),
        ("a ping in fragments", frame(PING, b"")),
        ("a long ping", long_ping),
    ] {
        let mut socket = Socket::open(&world).await?;
        socket.send(&bytes).await?;
        assert_eq!(socket.closed_with().await?, 1002, "{what}");
    }
    // Lengths that lie: more than is allowed, as one frame or as fragments, or more than comes.
    for announced in [5_000_001_u64, u64::MAX] {
        let mut socket = Socket::open(&world).await?;
        let head = [&[FINAL | TEXT, 0x80 | 127][..], &announced.to_be_bytes(), &[0; 4]].concat();
        socket.send(&head).await?;
        assert_eq!(socket.closed_with().await?, 1009);
    }
    let mut waiting = Socket::open(&world).await?;
    waiting.send(&frame(FINAL | TEXT, HEARTBEAT)[..20]).await?;
    drop(waiting);
    witness.send(&frame(FINAL | TEXT, HEARTBEAT)).await?;
    witness.is_answered().await?;
    world.end().await
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_told_so() -> Result<()> {
    let world = World::new("frames_handshake", "").await?;
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let path = format!("/socket/websocket?apikey={}", Token::anon().sign());
    for headers in [
        vec![],
        vec![upgrade[0], upgrade[1]],
        vec![upgrade[0], upgrade[1], ("Sec-WebSocket-Version", "13")],
        vec![upgrade[0], upgrade[1], ("Sec-WebSocket-Version", "8"), key],
        vec![("Sec-WebSocket-Version", "13"), key],
    ] {
        let answer = http_request(world.walcast.port(), "GET", &path, &headers).await?;
        assert_eq!(answer.status, 400, "{headers:?}");
        assert!(answer.body.contains("WebSocket"), "{}", answer.body);
    }
    world.end().await
}
