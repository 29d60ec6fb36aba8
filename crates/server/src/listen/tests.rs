//! Listening to a server that says what the test wants it to say.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        handshake::server::{Request, Response},
        protocol::frame::coding::CloseCode,
    },
};

use super::*;

const TOPIC: &str = "realtime:walcast-listen";

struct Heard {
    code: ExitCode,
    output: String,
    status: String,
}

/// Runs `listen` against `serve`, which gets the one connection.
async fn listen(count: Option<u64>, serve: impl AsyncFnOnce(TcpStream)) -> Heard {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = ListenOptions {
        address: format!("ws://127.0.0.1:{port}").parse().unwrap(),
        token: "a+token".to_owned(),
        bindings: vec![Binding {
            event: "*".to_owned(),
            schema: "public".to_owned(),
            table: "messages".to_owned(),
            ..Binding::default()
        }],
        count,
    };
    let (mut output, mut status) = (Vec::new(), Vec::new());
    let served = async { serve(listener.accept().await.unwrap().0).await };
    let (code, ()) = tokio::join!(run(&options, &mut output, &mut status), served);
    let status = String::from_utf8(status).unwrap();
    Heard {
        code: code.unwrap(),
        output: String::from_utf8(output).unwrap(),
        status: status.replace(&format!("127.0.0.1:{port}"), "SERVER"),
    }
}

/// Accepts the WebSocket and the join.
async fn accept(stream: TcpStream) -> WebSocketStream<TcpStream> {
    #[expect(clippy::result_large_err, reason = "the library asks for this type")]
    let check = |request: &Request, response: Response| {
        let uri = request.uri().to_string();
        assert_eq!(uri, "/socket/websocket?apikey=a%2Btoken&vsn=2.0.0");
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, check).await.unwrap();
    let join = socket.next().await.unwrap().unwrap();
    let join: Value = serde_json::from_str(join.to_text().unwrap()).unwrap();
    assert_eq!(join[3], "phx_join");
    assert_eq!(join[4]["access_token"], "a+token");
    socket
}

async fn push(
    socket: &mut WebSocketStream<TcpStream>,
    reference: Value,
    event: &str,
    payload: Value,
) {
    let frame = json!(["1", reference, TOPIC, event, payload]);
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

async fn reply_ok(socket: &mut WebSocketStream<TcpStream>) {
    let response = json!({"status": "ok", "response": {"postgres_changes": []}});
    push(socket, json!("1"), "phx_reply", response).await;
}

#[tokio::test]
async fn changes_go_to_the_output_and_the_rest_to_the_status() {
    let heard = listen(Some(2), async |stream| {
        let mut socket = accept(stream).await;
        reply_ok(&mut socket).await;
        let subscribed = json!({"status": "ok", "message": "Subscribed to PostgreSQL"});
        push(&mut socket, json!(null), "system", subscribed).await;
        for id in [1, 2] {
            let change = json!({"ids": [7], "data": {"type": "INSERT", "record": {"id": id}}});
            push(&mut socket, json!(null), "postgres_changes", change).await;
        }
    })
    .await;
    assert_eq!(heard.code, ExitCode::SUCCESS, "{}", heard.status);
    assert_eq!(
        heard.output,
        "{\"type\":\"INSERT\",\"record\":{\"id\":1}}\n{\"type\":\"INSERT\",\"record\":{\"id\":2}}\n"
    );
    assert_eq!(
        heard.status,
        "connected to ws://SERVER/socket/websocket\njoined\nSubscribed to PostgreSQL\n"
    );
}

async fn check_refusal(expected: &str, serve: impl AsyncFnOnce(TcpStream)) {
    let heard = listen(None, serve).await;
    assert_eq!(heard.code, ExitCode::FAILURE, "{}", heard.status);
    assert_eq!(heard.output, "");
    assert_eq!(heard.status.lines().last(), Some(expected));
    assert!(!heard.status.contains("token"), "{}", heard.status);
}

#[tokio::test]
async fn a_refused_handshake_says_why() {
    check_refusal(
        "connection refused with status 401: The API key has expired",
        async |mut stream| {
            let mut request = [0; 1024];
            stream.read(&mut request).await.map(drop).unwrap();
            let body = r#"{"error":"The API key has expired"}"#;
            let answer = format!(
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn a_refused_join_says_why() {
    check_refusal("join refused: Unauthorized: no", async |stream| {
        let mut socket = accept(stream).await;
        let response = json!({"status": "error", "response": {"reason": "Unauthorized: no"}});
        push(&mut socket, json!("1"), "phx_reply", response).await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_subscription_says_why() {
    check_refusal("refused: no such table", async |stream| {
        let mut socket = accept(stream).await;
        reply_ok(&mut socket).await;
        let refusal = json!({"status": "error", "message": "no such table"});
        push(&mut socket, json!(null), "system", refusal).await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_connection_is_not_opened_again() {
    check_refusal(
        "the connection ended: code 1012, service restart; changes from here on are missed, start \
         again",
        async |stream| {
            let mut socket = accept(stream).await;
            reply_ok(&mut socket).await;
            let frame = CloseFrame { code: CloseCode::Restart, reason: "service restart".into() };
            socket.close(Some(frame)).await.unwrap();
        },
    )
    .await;
}
