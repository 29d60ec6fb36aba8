//! Keys that are at URLs: rotation, failures, and what anybody can cause.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::timeout;
use walcast_tests::{
    Answer, Client, IdentityProvider, Postgres, SigningKey, Token, Version, Walcast, eventually,
    http_post,
};

async fn start(name: &str, option: &str, value: &str) -> Result<Walcast> {
    let database = Postgres::shared().await?.database(name).await?;
    Walcast::on(&database).set(option, value).start().await
}

async fn at(name: &str, provider: &IdentityProvider) -> Result<Walcast> {
    start(name, "WALCAST_JWT_JWKS_URL", &provider.url()).await
}

/// The status of the handshake.
async fn connect(walcast: &Walcast, token: &str) -> Result<u16> {
    let connected = Client::try_connect(walcast.port(), token, Version::V2).await?;
    Ok(connected.err().map_or(101, |refused| refused.status))
}

#[tokio::test]
async fn tokens_of_each_family_are_believed_everywhere_and_secrets_stay() -> Result<()> {
    let (edwards, elliptic) = (SigningKey::ed25519("ed")?, SigningKey::p256("ec")?);
    let provider = IdentityProvider::start(Answer::keys(&[&edwards, &elliptic])).await?;
    let walcast = at("keys_families", &provider).await?;
    for key in [&edwards, &elliptic] {
        assert_eq!(connect(&walcast, &Token::anon().sign_by(key)).await?, 101);
    }
    assert_eq!(connect(&walcast, &Token::anon().sign()).await?, 101);
    let stranger = SigningKey::ed25519("ed")?;
    assert_eq!(connect(&walcast, &Token::anon().sign_by(&stranger)).await?, 401);
    assert_eq!(connect(&walcast, &Token::anon().expires_in(-1).sign_by(&edwards)).await?, 401);
    let authorization = format!("Bearer {}", Token::anon().sign_by(&elliptic));
    let headers = [("authorization", authorization.as_str())];
    let address = "/api/broadcast/room/events/e";
    assert_eq!(http_post(walcast.port(), address, &headers, b"{}").await?.status, 202);
    Ok(())
}

#[tokio::test]
async fn a_new_key_counts_at_once_and_one_that_was_taken_back_no_more() -> Result<()> {
    let [old, new] = [SigningKey::ed25519("old")?, SigningKey::ed25519("new")?];
    let provider = IdentityProvider::start(Answer::keys(&[&old])).await?;
    let walcast = at("keys_rotation", &provider).await?;
    let of_old = Token::anon().sign_by(&old);
    assert_eq!(connect(&walcast, &of_old).await?, 101);
    provider.answer(Answer::keys(&[&new]));
    // In a join and as a new token, too: each waits for the keys.
    let mut client = Client::connect(walcast.port(), &of_old, Version::V2).await?;
    let payload = json!({"config": {}, "access_token": Token::anon().sign_by(&new)});
    let reply = client.join("realtime:room", &payload).await?;
    assert_eq!(reply.payload["status"], "ok", "{}", reply.payload_text);
    assert_eq!(connect(&walcast, &of_old).await?, 401);
    assert_eq!(connect(&walcast, &Token::anon().sign_by(&new)).await?, 101);
    // What is open stays until its token expires.
    client.heartbeat().await
}

#[tokio::test]
async fn keys_stay_when_they_cannot_be_fetched() -> Result<()> {
    let (known, later) = (SigningKey::p256("known")?, SigningKey::p256("later")?);
    let provider = IdentityProvider::start(Answer::keys(&[&known])).await?;
    let elsewhere = IdentityProvider::start(Answer::keys(&[&later])).await?;
    for (number, answer) in [
        Answer::Body("500 Internal Server Error", String::new()),
        Answer::Body("200 OK", "hunter2".to_owned()),
        Answer::Body("200 OK", "{}".to_owned()),
        Answer::Endless,
        Answer::Silence,
        Answer::Redirect(elsewhere.url()),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{answer:?}");
        provider.answer(Answer::keys(&[&known]));
        let walcast = at(&format!("keys_failures_{number}"), &provider).await?;
        let of_known = Token::anon().sign_by(&known);
        eventually("the first fetch", || async {
            Ok((connect(&walcast, &of_known).await? == 101).then_some(()))
        })
        .await?;
        provider.answer(answer);
        let status = connect(&walcast, &Token::anon().sign_by(&later)).await?;
        assert_eq!(status, 401, "{what}");
        assert_eq!(connect(&walcast, &of_known).await?, 101, "{what}");
        let log = walcast.log_tail();
        assert!(log.contains("failed to fetch the key set"), "{what}: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
    assert_eq!(elsewhere.n_requests(), 0, "a redirect is not followed");
    Ok(())
}

#[tokio::test]
async fn made_up_key_ids_cause_few_fetches_and_hold_up_nobody() -> Result<()> {
    let key = SigningKey::ed25519("known")?;
    let provider = IdentityProvider::start(Answer::keys(&[&key])).await?;
    let walcast = at("keys_storm", &provider).await?;
    let good = Token::anon().sign_by(&key);
    assert_eq!(connect(&walcast, &good).await?, 101);
    let before = provider.n_requests();
    for n in 0..50 {
        let made_up = SigningKey::ed25519(&format!("made up {n}"))?;
        assert_eq!(connect(&walcast, &Token::anon().sign_by(&made_up)).await?, 401);
    }
    let n_fetches = provider.n_requests() - before;
    assert!((1..=10).contains(&n_fetches), "{n_fetches}");
    // One that waits for an answer which does not come is not in the way of others.
    provider.answer(Answer::Silence);
    let made_up = Token::anon().sign_by(&SigningKey::ed25519("one more")?);
    let waiting = connect(&walcast, &made_up);
    let others = async {
        for _ in 0..10 {
            assert_eq!(connect(&walcast, &good).await?, 101);
        }
        anyhow::Ok(())
    };
    let (waited, others) = tokio::join!(timeout(Duration::from_secs(15), waiting), others);
    others?;
    assert_eq!(waited??, 401);
    Ok(())
}

#[tokio::test]
async fn the_keys_of_an_issuer_are_for_its_own_tokens() -> Result<()> {
    let [first, second] = [SigningKey::ed25519("key")?, SigningKey::ed25519("key")?];
    let providers = [
        IdentityProvider::start(Answer::keys(&[&first])).await?,
        IdentityProvider::start(Answer::keys(&[&second])).await?,
    ];
    let issuers = json!([
        {"issuer": "https://first", "jwks_url": providers[0].url()},
        {"issuer": "https://second", "jwks_url": providers[1].url()},
    ]);
    let walcast = start("keys_issuers", "WALCAST_JWT_ISSUERS", &issuers.to_string()).await?;
    let token = |issuer: Value, key| Token::anon().claim("iss", issuer).sign_by(key);
    for (issuer, key, expected) in [
        (json!("https://first"), &first, 101),
        (json!("https://second"), &second, 101),
        (json!("https://second"), &first, 401),
        (json!("https://first"), &second, 401),
        (json!("https://first/"), &first, 401),
        (json!(["https://first"]), &first, 401),
        (Value::Null, &first, 401),
    ] {
        assert_eq!(connect(&walcast, &token(issuer.clone(), key)).await?, expected, "{issuer}");
    }
    Ok(())
}
