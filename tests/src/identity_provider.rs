//! A stand-in for an identity provider: keys, tokens signed with them, and the URL of the key set.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A private key with an id.
pub struct SigningKey {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    jwk: Value,
}

impl SigningKey {
    /// A key for EdDSA.
    pub fn ed25519(id: &str) -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        Ok(Self {
            id: id.to_owned(),
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(pkcs8.as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x}),
        })
    }

    /// A key for ES256.
    pub fn p256(id: &str) -> Result<Self> {
        let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &SystemRandom::new())?;
        let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref())?;
        // 0x04, then both coordinates.
        let (x, y) = pair.public_key().as_ref().get(1..).context("a point")?.split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        Ok(Self {
            id: id.to_owned(),
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(pkcs8.as_ref()),
            jwk: json!({"kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y}),
        })
    }
}

/// How the key set's URL answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this status and body.
    Body(&'static str, String),
    /// By leading elsewhere.
    Redirect(String),
    /// With a body that does not end.
    Endless,
    /// Not at all.
    Silence,
}

impl Answer {
    /// The set of these keys.
    #[must_use]
    pub fn keys(keys: &[&SigningKey]) -> Self {
        let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
        Self::Body("200 OK", json!({ "keys": keys }).to_string())
    }
}

/// A server on loopback that answers each request alike.
#[derive(Debug)]
pub struct IdentityProvider {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    n_requests: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl IdentityProvider {
    /// Starts it.
    pub async fn start(answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let answer = Arc::new(Mutex::new(answer));
        let n_requests = Arc::new(AtomicU32::new(0));
        let (answers, requests) = (Arc::clone(&answer), Arc::clone(&n_requests));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                requests.fetch_add(1, Ordering::Relaxed);
                let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A client that goes away in the middle is what some tests are about.
                tokio::spawn(async move { drop(give(socket, answer).await) });
            }
        });
        Ok(Self { port, answer, n_requests, task })
    }

    /// Where its keys are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/.well-known/jwks.json", self.port)
    }

    /// Answers differently from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often it was asked.
    #[must_use]
    pub fn n_requests(&self) -> u32 {
        self.n_requests.load(Ordering::Relaxed)
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn give(mut socket: TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    match answer {
        Answer::Body(status, body) => {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(body.as_bytes()).await
        }
        Answer::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(head.as_bytes()).await
        }
        Answer::Endless => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await?;
            loop {
                socket.write_all(&[b' '; 8_192]).await?;
            }
        }
        Answer::Silence => {
            let _ = socket.read(&mut [0; 1]).await?;
            Ok(())
        }
    }
}
