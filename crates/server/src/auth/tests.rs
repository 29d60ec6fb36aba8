//! Tokens of every algorithm, and what is wrong with others.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Map, Value, json};

use super::*;

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "a secret of more than thirty-two characters";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn good_claims() -> Value {
    json!({"role": "authenticated", "sub": "user-1", "exp": NOW + 3600})
}

/// A token with this header and claims, signed by `sign`.
fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn shared(algorithm: Algorithm, secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    move |message| URL_SAFE_NO_PAD.decode(crypto::sign(message, &key, algorithm).unwrap()).unwrap()
}

fn hs256(claims: &Value) -> String {
    token(&json!({"alg": "HS256"}), claims, shared(Algorithm::HS256, SECRET))
}

fn verifier_for(config: &JwtConfig) -> TokenVerifier {
    TokenVerifier::new(config, &Arc::new(Metrics::new())).unwrap()
}

fn verifier(keys: &Value) -> TokenVerifier {
    verifier_for(&JwtConfig {
        secret: Some(Secret::new(SECRET)),
        keys: Some(KeySet::parse(&keys.to_string()).unwrap()),
        ..JwtConfig::default()
    })
}

fn secret_only() -> TokenVerifier {
    verifier(&json!({"keys": []}))
}

fn outcome(verifier: &TokenVerifier, token: &str) -> Result<String, TokenError> {
    verifier.verify(token, NOW).map(|verified| verified.role.to_string())
}

fn accepted() -> Result<String, TokenError> {
    Ok("authenticated".to_owned())
}

/// Checks a good token, and that no other byte string passes with its signature.
fn check_algorithm(verifier: &TokenVerifier, header: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) {
    let good = token(header, &good_claims(), &sign);
    assert_eq!(outcome(verifier, &good), accepted(), "{header}");

    let mut claims = good_claims();
    claims["role"] = json!("service_role");
    let forged = token(header, &claims, |_| sign(b"something else"));
    assert_eq!(outcome(verifier, &forged), Err(TokenError::Signature), "{header}");

    let (message, signature) = good.rsplit_once('.').unwrap();
    for signature in ["", "AAAA", "!", &signature[4..]] {
        let cut = format!("{message}.{signature}");
        assert_eq!(outcome(verifier, &cut), Err(TokenError::Signature), "{header} {signature}");
    }
}

#[test]
fn shared_secrets_sign_with_every_length() {
    let verifier = secret_only();
    for (name, algorithm) in
        [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)]
    {
        check_algorithm(&verifier, &json!({"alg": name}), shared(algorithm, SECRET));
        // A kid that is not in the key set is no fault of an HMAC token.
        check_algorithm(&verifier, &json!({"alg": name, "kid": "x"}), shared(algorithm, SECRET));
    }
}

#[test]
fn shared_secrets_of_the_key_set_go_first() {
    let other = "another secret of more than thirty-two characters";
    let verifier = verifier(&json!({"keys": [{"kty": "oct", "kid": "a", "k": encode(other)}]}));
    let header = json!({"alg": "HS256", "kid": "a"});
    check_algorithm(&verifier, &header, shared(Algorithm::HS256, other));
    let with_secret = token(&header, &good_claims(), shared(Algorithm::HS256, SECRET));
    assert_eq!(outcome(&verifier, &with_secret), Err(TokenError::Signature));
}

#[test]
fn rsa_keys_sign_with_every_length() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = encode(pair.public_key().modulus().big_endian_without_leading_zero());
    let e = encode(pair.public_key().exponent().big_endian_without_leading_zero());
    let verifier = verifier(&json!({"keys": [{"kty": "RSA", "kid": "r", "n": n, "e": e}]}));
    let encodings: [(&str, &'static dyn RsaEncoding); 3] =
        [("RS256", &RSA_PKCS1_SHA256), ("RS384", &RSA_PKCS1_SHA384), ("RS512", &RSA_PKCS1_SHA512)];
    for (name, encoding) in encodings {
        let sign = |message: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        check_algorithm(&verifier, &json!({"alg": name, "kid": "r"}), sign);
    }

    // The classic confusion: the public key used as a shared secret, in whichever form.
    for public_key in [pair.public_key().as_ref(), n.as_bytes()] {
        let key = EncodingKey::from_secret(public_key);
        let forged = token(&json!({"alg": "HS256", "kid": "r"}), &good_claims(), |message| {
            let signature = crypto::sign(message, &key, Algorithm::HS256).unwrap();
            URL_SAFE_NO_PAD.decode(signature).unwrap()
        });
        assert_eq!(outcome(&verifier, &forged), Err(TokenError::Signature));
    }
}

fn elliptic(
    algorithm: &'static EcdsaSigningAlgorithm,
    curve: &str,
) -> (Value, impl Fn(&[u8]) -> Vec<u8> + use<>) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let key = json!({"kty": "EC", "kid": curve, "crv": curve, "x": encode(x), "y": encode(y)});
    let sign =
        move |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    (key, sign)
}

#[test]
fn elliptic_curve_keys_sign_each_with_the_algorithm_of_their_curve() {
    let (p256, sign256) = elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let (p384, sign384) = elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384");
    let (p521, sign521) = elliptic(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521");
    let verifier = verifier(&json!({"keys": [p256, p384, p521]}));
    check_algorithm(&verifier, &json!({"alg": "ES256", "kid": "P-256"}), &sign256);
    check_algorithm(&verifier, &json!({"alg": "ES384", "kid": "P-384"}), sign384);
    check_algorithm(&verifier, &json!({"alg": "ES512", "kid": "P-521"}), sign521);
    let crossed = token(&json!({"alg": "ES256", "kid": "P-384"}), &good_claims(), sign256);
    assert_eq!(outcome(&verifier, &crossed), Err(TokenError::Signature));
}

#[test]
fn coordinates_without_their_leading_zeros_are_filled_up() {
    let (key, sign) = loop {
        let (key, sign) = elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
        let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
        if let [0, rest @ ..] = x.as_slice() {
            let mut key = key;
            key["x"] = json!(encode(rest));
            break (key, sign);
        }
    };
    let verifier = verifier(&json!({"keys": [key]}));
    check_algorithm(&verifier, &json!({"alg": "ES256", "kid": "P-256"}), sign);
}

#[test]
fn edwards_keys_sign_under_both_names() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = encode(pair.public_key());
    let verifier = verifier(&json!({"keys": [
        {"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": x},
        {"kty": "OKP", "kid": "448", "crv": "Ed448", "x": x},
    ]}));
    for name in ["EdDSA", "Ed25519"] {
        let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
        check_algorithm(&verifier, &json!({"alg": name, "kid": "e"}), sign);
    }
    let other_curve = token(&json!({"alg": "EdDSA", "kid": "448"}), &good_claims(), |message| {
        pair.sign(message).as_ref().to_vec()
    });
    assert_eq!(outcome(&verifier, &other_curve), Err(TokenError::Signature));
    let ed448 = token(&json!({"alg": "Ed448", "kid": "448"}), &good_claims(), |_| vec![0; 114]);
    assert_eq!(outcome(&verifier, &ed448), Err(TokenError::Signer { kid: None }));
}

#[test]
fn algorithms_without_a_key_are_refused() {
    let verifier = secret_only();
    let check = |header: Value, kid: Option<&str>| {
        let token = token(&header, &good_claims(), shared(Algorithm::HS256, SECRET));
        let expected = Err(TokenError::Signer { kid: kid.map(str::to_owned) });
        assert_eq!(outcome(&verifier, &token), expected, "{header}");
    };
    for name in ["none", "None", "NONE", "nOnE", "PS256", "ES256K", "hs256", "HS1", ""] {
        check(json!({"alg": name}), None);
    }
    check(json!({}), None);
    check(json!({"alg": null}), None);
    check(json!({"alg": ["HS256"]}), None);
    check(json!({"alg": "RS256"}), None);
    check(json!({"alg": "RS256", "kid": 7}), None);
    check(json!({"alg": "RS256", "kid": "missing"}), Some("missing"));
    check(json!({"alg": "ES256", "kid": "missing"}), Some("missing"));
    check(json!({"alg": "EdDSA", "kid": "missing"}), Some("missing"));
    let unsigned = token(&json!({"alg": "none"}), &good_claims(), |_| Vec::new());
    assert_eq!(outcome(&verifier, &unsigned), Err(TokenError::Signer { kid: None }));

    let without_secret = verifier_for(&JwtConfig::default());
    let token = hs256(&good_claims());
    assert_eq!(outcome(&without_secret, &token), Err(TokenError::Signer { kid: None }));
}

#[test]
fn what_is_no_token_is_malformed() {
    let verifier = secret_only();
    let object = encode("{}");
    for text in [
        "",
        ".",
        "..",
        "...",
        "sb_publishable_123",
        "%",
        "%ff.%ff.%ff",
        &format!("{}.{object}.x", encode("[]")),
        &format!("{}.{object}.x", encode("no json")),
        &format!("{}.{}.x", encode(r#"{"alg":"HS256"}"#), encode("[]")),
        &format!("{}.{}.x", encode(r#"{"alg":"HS256"}"#), encode("\"text\"")),
        &format!("{}.{object}.x.y", encode(r#"{"alg":"HS256"}"#)),
        &format!("{}=.{object}.x", encode(r#"{"alg":"HS256"}"#)),
        &"a".repeat(1 << 20),
        &format!("{}.{object}.x", encode("[".repeat(10_000))),
    ] {
        let shown = text.get(..40).unwrap_or(text);
        assert_eq!(outcome(&verifier, text), Err(TokenError::Malformed), "{shown}");
    }
}

#[test]
fn no_prefix_of_a_token_passes() {
    let verifier = secret_only();
    let good = hs256(&good_claims());
    for end in 0..good.len() {
        assert!(verifier.verify(&good[..end], NOW).is_err(), "{end}");
    }
}

#[test]
fn tokens_are_cleaned_of_what_query_strings_add() {
    let verifier = secret_only();
    let good = hs256(&good_claims());
    for text in [
        good.replace('.', "%2E"),
        format!(" {good}\n"),
        good.replace('.', ".\r\n"),
        format!("{good}%0A"),
    ] {
        assert_eq!(outcome(&verifier, &text), accepted(), "{text}");
    }
}

#[test]
fn the_signature_is_checked_before_the_claims() {
    let verifier = secret_only();
    let expired = json!({"role": "anon", "exp": NOW - 5});
    let forged = token(&json!({"alg": "HS256"}), &expired, |_| vec![0; 32]);
    assert_eq!(outcome(&verifier, &forged), Err(TokenError::Signature));
    assert_eq!(outcome(&verifier, &hs256(&expired)), Err(TokenError::Expired { seconds_ago: 5 }));
    assert_eq!(
        outcome(&verifier, &hs256(&json!({"exp": NOW + 5}))),
        Err(TokenError::MissingClaims)
    );
}

#[test]
fn a_token_that_was_verified_before_expires_all_the_same() {
    let verifier = secret_only();
    let good = hs256(&good_claims());
    let first = verifier.verify(&good, NOW).unwrap();
    assert_eq!(first.expires_in.as_secs(), 3600);
    let text: Value = serde_json::from_str(first.claims.as_str()).unwrap();
    assert_eq!(text, good_claims());
    assert_eq!(verifier.verify(&good, NOW + 3599).unwrap().expires_in.as_secs(), 1);
    let late = verifier.verify(&good, NOW + 3605).map(drop);
    assert_eq!(late, Err(TokenError::Expired { seconds_ago: 5 }));
}

#[test]
fn policies_get_the_claims_as_they_were_sent() {
    let text = format!(
        r#"{{"id": 12345678901234567890123, "role":"anon", "exp":{}, "x":1.10}}"#,
        NOW + 60
    );
    let message = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&text));
    let signature = encode(shared(Algorithm::HS256, SECRET)(message.as_bytes()));
    let verified = secret_only().verify(&format!("{message}.{signature}"), NOW).unwrap();
    assert_eq!(verified.claims.as_str(), text);
}

#[test]
fn minted_tokens_are_accepted() {
    let mut claims = Map::new();
    claims.insert("team".to_owned(), json!("blue"));
    let request = TokenRequest {
        role: "authenticated".to_owned(),
        subject: Some("user-1".to_owned()),
        claims,
        expires_in: std::time::Duration::from_secs(60),
    };
    let token = mint(&Secret::new(SECRET), &request, NOW).unwrap();
    let verified = secret_only().verify(&token, NOW).unwrap();
    assert_eq!(verified.role.as_str(), "authenticated");
    assert_eq!(verified.expires_in.as_secs(), 60);
    let text: Value = serde_json::from_str(verified.claims.as_str()).unwrap();
    let expected = json!({
        "role": "authenticated", "sub": "user-1", "team": "blue", "iat": NOW, "exp": NOW + 60,
    });
    assert_eq!(text, expected);

    let mut twice = request;
    twice.claims.insert("role".to_owned(), json!("service_role"));
    assert!(matches!(mint(&Secret::new(SECRET), &twice, NOW), Err(MintError::Reserved("role"))));
}

#[test]
fn bearer_tokens_need_a_signature_and_no_role() {
    let secret = Secret::new(SECRET);
    let check = |token: &str, expected| {
        assert_eq!(is_signed_with(&secret, token, NOW), expected, "{token}");
    };
    check(&hs256(&json!({})), true);
    check(&hs256(&json!({"exp": NOW + 1})), true);
    check(&hs256(&json!({"exp": NOW - 1})), false);
    check(&token(&json!({"alg": "none"}), &json!({}), |_| Vec::new()), false);
    check(&token(&json!({"alg": "HS256"}), &json!({}), |_| vec![0; 32]), false);
    check("", false);
}

#[test]
fn key_sets_name_what_they_lack_and_no_value() {
    let check = |text: &str, expected: KeySetError| {
        assert_eq!(KeySet::parse(text).map(drop), Err(expected), "{text}");
    };
    check("", KeySetError::Json { line: 1, column: 0 });
    check("[]", KeySetError::Shape);
    check("{\"keys\": {}}", KeySetError::Shape);
    check("{\"keys\": [1]}", KeySetError::Shape);
    let member = |kty, member| KeySetError::Member { kid: "a".to_owned(), kty, member };
    check(r#"{"keys":[{"kid":"a","kty":"oct"}]}"#, member("oct", "k"));
    check(r#"{"keys":[{"kid":"a","kty":"oct","k":"se cret"}]}"#, member("oct", "k"));
    check(r#"{"keys":[{"kid":"a","kty":"RSA","n":"AQAB"}]}"#, member("RSA", "e"));
    let long = encode([1; 33]);
    let key = json!({"keys": [{"kid": "a", "kty": "EC", "crv": "P-256", "x": long, "y": "AA"}]});
    check(&key.to_string(), member("EC", "x"));
    check(r#"{"keys":[{"kid":"a","kty":"OKP","crv":"Ed25519"}]}"#, member("OKP", "x"));
    // Keys that no token can choose do no harm.
    assert!(KeySet::parse(r#"{"keys":[{"kty":"RSA"},{"kid":"a","kty":"new"}]}"#).is_ok());
}

#[test]
fn secrets_do_not_show() {
    let keys = json!({"keys": [{"kty": "oct", "kid": "a", "k": encode("hunter2")}]});
    let config = JwtConfig {
        secret: Some(Secret::new("hunter2")),
        keys: Some(KeySet::parse(&keys.to_string()).unwrap()),
        ..JwtConfig::default()
    };
    let shown = format!("{config:?} {:?}", verifier_for(&config));
    assert!(!shown.contains("hunter2") && !shown.contains(&encode("hunter2")), "{shown}");
}

#[test]
fn refused_handshakes_have_the_texts_clients_know() {
    let check = |error: TokenError, expected: &str| {
        assert_eq!(connect_error(&error), (StatusCode::UNAUTHORIZED, expected.to_owned()));
    };
    check(TokenError::Expired { seconds_ago: 5 }, "Token has expired");
    check(TokenError::MissingClaims, "Fields `role` and `exp` are required in JWT");
    check(TokenError::Malformed, "The token provided is not a valid JWT");
    check(TokenError::ExpirationInvalid, "The token provided is not a valid JWT");
    check(TokenError::ClaimMismatch, "The token provided is not a valid JWT");
    check(TokenError::Signature, "Failed to validate JWT signature");
    check(
        TokenError::Signer { kid: None },
        "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
    );
    check(
        TokenError::Signer { kid: Some("a\"b".to_owned()) },
        "Failed to generate JWT signer for key ID (kid) \"a\\\"b\", \
         check your JWT secret or JWKS configuration",
    );
}

#[test]
fn shared_secrets_and_broken_keys_of_a_published_set_are_left_out() {
    let secret = encode("hunter2");
    let set = KeySet::parse_published(
        &json!({"keys": [
            {"kty": "oct", "kid": "shared", "k": secret},
            {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "?"},
            {"kty": "OKP", "kid": "good", "crv": "Ed25519", "x": encode([7; 32])},
        ]})
        .to_string(),
    )
    .unwrap();
    assert_eq!(format!("{set:?}"), "{\"good\"}");
    for (text, expected) in [("", true), ("[]", true), ("{\"keys\": []}", false)] {
        assert_eq!(KeySet::parse_published(text).is_err(), expected, "{text}");
    }
    let many: Vec<Value> = (0..1_000)
        .map(
            |n| json!({"kty": "OKP", "kid": n.to_string(), "crv": "Ed25519", "x": encode([7; 32])}),
        )
        .collect();
    assert_eq!(KeySet::parse_published(&json!({ "keys": many }).to_string()).unwrap().len(), 100);
}
