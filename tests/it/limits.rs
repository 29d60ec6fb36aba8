//! The bounds of the whole server: what happens at each, and that it passes.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use walcast_tests::{
    Client, DEADLINE, Message, Postgres, Token, Version, Walcast, WalcastBuilder, eventually,
    http_get, http_post, http_request,
};

use crate::world::VERSIONS;

const NO_CONFIG: fn() -> Value = || json!({"config": {}});

async fn start(
    name: &str,
    options: impl FnOnce(WalcastBuilder) -> WalcastBuilder,
) -> Result<Walcast> {
    let database = Postgres::shared().await?.database(name).await?;
    options(Walcast::on(&database)).start().await
}

async fn connect(walcast: &Walcast, version: Version) -> Result<Client> {
    Client::connect(walcast.port(), &Token::anon().sign(), version).await
}

/// The status and the error of a refused handshake.
async fn refused(walcast: &Walcast) -> Result<(u16, Value)> {
    let token = Token::anon().sign();
    let answer = Client::try_connect(walcast.port(), &token, Version::V2).await?;
    let Err(answer) = answer else { anyhow::bail!("the handshake was accepted") };
    Ok((answer.status, serde_json::from_str(&answer.body)?))
}

fn reason(reply: &Message) -> &str {
    reply.payload["response"]["reason"].as_str().unwrap_or_default()
}

async fn metric(walcast: &Walcast, series: &str) -> Result<f64> {
    let metrics = http_get(walcast.port(), "/metrics").await?.body;
    let line = metrics.lines().find(|line| line.starts_with(series));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default())
}

#[tokio::test]
async fn too_many_sockets_are_refused_until_one_goes() -> Result<()> {
    let walcast = start("limits_sockets", |with| with.set("WALCAST_MAX_CONNECTIONS", "2")).await?;
    let [first, mut second] =
        [connect(&walcast, Version::V1).await?, connect(&walcast, Version::V2).await?];
    let expected = (429, json!({"error": "Too many connected users"}));
    assert_eq!(refused(&walcast).await?, expected);
    second.heartbeat().await?;
    assert!(metric(&walcast, "walcast_connections_refused_total").await? > 0.0);
    first.close().await?;
    eventually("room for another socket", || async {
        Ok(connect(&walcast, Version::V2).await.ok())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn too_many_users_are_refused_at_connect_and_at_join_until_one_leaves() -> Result<()> {
    for version in VERSIONS {
        let name = format!("limits_users_{}", version.text().replace('.', "_"));
        let walcast = start(&name, |with| with.set("WALCAST_MAX_CONCURRENT_USERS", "1")).await?;
        let [mut first, mut second] =
            [connect(&walcast, version).await?, connect(&walcast, version).await?];
        first.join("realtime:a", &NO_CONFIG()).await?;
        let reply = second.join("realtime:a", &NO_CONFIG()).await?;
        assert_eq!(reason(&reply), "ConnectionRateLimitReached: Too many connected users");
        let expected = (429, json!({"error": "Too many connected users"}));
        assert_eq!(refused(&walcast).await?, expected);
        // Who has a channel may have more.
        let reply = first.join("realtime:b", &NO_CONFIG()).await?;
        assert_eq!(reply.payload["status"], "ok");
        first.push("realtime:a", "phx_leave", &json!({})).await?;
        let leaving = first.push("realtime:b", "phx_leave", &json!({})).await?;
        first.reply(&leaving).await?;
        let reply = second.join("realtime:a", &NO_CONFIG()).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    }
    Ok(())
}

#[tokio::test]
async fn too_many_joins_of_all_close_the_connection_that_is_one_too_many() -> Result<()> {
    let walcast = start("limits_joins", |with| {
        with.set("TENANT_MAX_JOINS_PER_SECOND", "1").set("WALCAST_MAX_CONCURRENT_USERS", "1000")
    })
    .await?;
    let mut others = connect(&walcast, Version::V1).await?;
    let mut last = connect(&walcast, Version::V2).await?;
    // A minute's worth passes at once.
    for n in 0..30 {
        let reply = others.join(&format!("realtime:{n}"), &NO_CONFIG()).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    }
    let mut n_joined = 0;
    let refused = loop {
        let reply = last.join(&format!("realtime:{n_joined}"), &NO_CONFIG()).await?;
        if reply.payload["status"] != "ok" {
            break reply;
        }
        n_joined += 1;
    };
    assert!((30..=40).contains(&n_joined), "{n_joined}");
    assert_eq!(reason(&refused), "ClientJoinRateLimitReached: Too many joins per second");
    assert_eq!(last.closed().await?, Some(1001));
    others.heartbeat().await?;
    // Who comes now waits until there is room for a join.
    eventually("room for a join", || async {
        let Ok(mut client) = connect(&walcast, Version::V2).await else { return Ok(None) };
        let reply = client.join("realtime:a", &NO_CONFIG()).await?;
        Ok((reply.payload["status"] == "ok").then_some(()))
    })
    .await?;
    assert!(
        metric(&walcast, "realtime_channel_error{code=\"ClientJoinRateLimitReached\"}").await?
            >= 1.0
    );
    Ok(())
}

#[tokio::test]
async fn connecting_is_refused_while_there_are_too_many_joins() -> Result<()> {
    let walcast =
        start("limits_connects", |with| with.set("TENANT_MAX_JOINS_PER_SECOND", "1")).await?;
    // The joins are used up faster than they come back, whatever the machine does.
    let answer = eventually("a refused handshake", || async {
        let Ok(mut client) = connect(&walcast, Version::V2).await else {
            return Ok(Some(refused(&walcast).await?));
        };
        for n in 0..90 {
            if client.join(&format!("realtime:{n}"), &NO_CONFIG()).await.is_err() {
                break;
            }
        }
        Ok(None)
    })
    .await?;
    assert_eq!(answer, (429, json!({"error": "Too many joins per second"})));
    Ok(())
}

#[tokio::test]
async fn too_many_broadcasts_of_all_close_the_senders_channel_and_no_message_of_sql_is_lost()
-> Result<()> {
    let database = Postgres::shared().await?.database("limits_events").await?;
    crate::world::allow_messages(&database).await?;
    let walcast =
        Walcast::on(&database).set("WALCAST_MAX_SERVER_EVENTS_PER_SECOND", "1").start().await?;
    let [mut sender, mut listener] =
        [connect(&walcast, Version::V1).await?, connect(&walcast, Version::V2).await?];
    for client in [&mut sender, &mut listener] {
        client.join("realtime:room", &NO_CONFIG()).await?;
    }
    let message = json!({"type": "broadcast", "event": "e", "payload": {}});
    for _ in 0..70 {
        sender.push("realtime:room", "broadcast", &message).await?;
    }
    sender
        .next_where("the end of its channel", |message| {
            message.is_system("Too many messages per second")
        })
        .await?;
    let address = "/api/broadcast/room/events/e";
    let token = Token::anon().sign();
    let headers = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, &**value)).collect();
    assert_eq!(http_post(walcast.port(), address, &headers, b"{}").await?.status, 429);
    database.run("select realtime.send('{}', 'from sql', 'room', false)").await?;
    listener
        .next_where("the message from SQL", |message| message.payload["event"] == "from sql")
        .await?;
    drop(walcast);
    database.remove().await
}

#[tokio::test]
async fn who_has_left_all_channels_is_closed_and_who_has_some_is_not() -> Result<()> {
    let walcast =
        start("limits_no_channel", |with| with.set("NO_CHANNEL_TIMEOUT_IN_MS", "200")).await?;
    let [mut leaver, mut stayer, mut newcomer] = [
        connect(&walcast, Version::V1).await?,
        connect(&walcast, Version::V2).await?,
        connect(&walcast, Version::V2).await?,
    ];
    for client in [&mut leaver, &mut stayer] {
        client.join("realtime:room", &NO_CONFIG()).await?;
    }
    leaver.push("realtime:room", "phx_leave", &json!({})).await?;
    assert_eq!(leaver.closed().await?, Some(1000));
    stayer.heartbeat().await?;
    newcomer.heartbeat().await
}

#[tokio::test]
async fn sockets_that_say_nothing_keep_nobody_out() -> Result<()> {
    let walcast =
        start("limits_silent", |with| with.set("WALCAST_MAX_SILENT_SOCKETS", "20")).await?;
    let mut joined = connect(&walcast, Version::V2).await?;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(("127.0.0.1", walcast.port())).await?;
        // Some begin a request and never end it.
        if silent.len() % 2 == 0 {
            socket.write_all(b"GET /socket/websocket HTTP/1.1\r\nhost: a\r\n").await?;
        }
        silent.push(socket);
    }
    // The first were closed to make room; the last are still there.
    for socket in silent.iter_mut().take(150) {
        let read = timeout(DEADLINE, socket.read(&mut [0; 64])).await?;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    let last = silent.last_mut().map(|socket| socket.try_read(&mut [0; 64]));
    assert!(
        matches!(&last, Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock),
        "{last:?}"
    );
    joined.join("realtime:room", &NO_CONFIG()).await?;
    let mut other = connect(&walcast, Version::V1).await?;
    other.join("realtime:room", &NO_CONFIG()).await?;
    assert_eq!(http_get(walcast.port(), "/healthcheck").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn headers_that_are_too_long_are_answered_with_431() -> Result<()> {
    let walcast = start("limits_headers", |with| with).await?;
    for (length, expected) in [(4_096, 200), (4_097, 431)] {
        let long = "x".repeat(length);
        let headers = [("x-long", long.as_str())];
        let answer = http_request(walcast.port(), "GET", "/healthcheck", &headers).await?;
        assert_eq!(answer.status, expected, "{}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn a_topic_that_is_too_long_is_refused_and_others_are_joined() -> Result<()> {
    let walcast = start("limits_topics", |with| with.set("WALCAST_MAX_TOPIC_BYTES", "40")).await?;
    for version in VERSIONS {
        let mut client = connect(&walcast, version).await?;
        let reply = client.join(&format!("realtime:{}", "t".repeat(32)), &NO_CONFIG()).await?;
        assert_eq!(reason(&reply), "TopicNameTooLong: Topic names must not exceed 40 bytes");
        let reply = client.join(&format!("realtime:{}", "t".repeat(31)), &NO_CONFIG()).await?;
        assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    }
    Ok(())
}
