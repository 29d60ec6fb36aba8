//! Which source wins, and what is refused.

use super::*;

const JWT: (&str, &str) = ("JWT_SECRET", "hunter2-hunter2-hunter2-hunter2");

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flags(flags: &[(&'static str, &str)]) -> Flags {
    flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Loads what the flags, the variables and the file say, with a secret to satisfy `Serve`.
fn load(
    flag: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    file: &str,
) -> Result<Config, String> {
    let path = std::env::temp_dir().join(format!(
        "walcast-config-{}-{:?}.toml",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, file).unwrap();
    let mut all = vec![("WALCAST_CONFIG", path.to_str().unwrap())];
    all.extend(variables);
    if !variables.iter().any(|(name, _)| name.contains("JWT_SECRET") || name.contains("JWKS")) {
        all.push(JWT);
    }
    let result = Config::load(&flags(flag), &environment(&all), Purpose::Serve)
        .map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"));
    std::fs::remove_file(&path).unwrap();
    result
}

fn refused(flag: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str, error: &str) {
    match load(flag, variables, file) {
        Ok(_) => panic!("{variables:?} {file} was accepted"),
        Err(found) => assert_eq!(found, error),
    }
}

#[test]
fn the_defaults_are_those_of_the_table() {
    let config = load(&[], &[], "").unwrap();
    assert_eq!(config.database.host, Host::Tcp("127.0.0.1".to_owned()));
    assert_eq!(config.database.port, 5432);
    assert_eq!(config.database.ssl_mode, SslMode::Prefer);
    assert_eq!(config.replication.options.slot, "walcast");
    assert_eq!(config.replication.options.publications, ["supabase_realtime"]);
    assert_eq!(config.replication.options.wal_budget_bytes, Some(1 << 30));
    assert_eq!(config.replication.max_record_bytes, 1_048_576);
    assert_eq!(config.replication.deletes_unverifiable, DeletesUnverifiable::SendKey);
    assert_eq!((config.http.host.as_str(), config.http.port), ("0.0.0.0", 4000));
    assert_eq!(config.authorization.statement_timeout, Duration::from_secs(1));
    assert_eq!(config.authorization.connections, 4);
    assert_eq!(config.limits.frame_bytes, 5_000_000);
    assert_eq!(config.log.format, LogFormat::Text);
    assert!(config.notices.is_empty());
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let port = |flag: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str| {
        load(flag, variables, file).unwrap().http.port
    };
    assert_eq!(port(&[], &[], ""), 4000);
    assert_eq!(port(&[], &[], "port = 1"), 1);
    assert_eq!(port(&[], &[("PORT", "2")], "port = 1"), 2);
    assert_eq!(port(&[], &[("WALCAST_PORT", "2")], "port = 1"), 2);
    assert_eq!(port(&[("port", "3")], &[("PORT", "2")], "port = 1"), 3);
    assert_eq!(port(&[], &[("PORT", "")], "port = 1"), 1);
}

#[test]
fn the_file_has_types() {
    let config = load(
        &[],
        &[],
        r#"
        publication = ["one", "two"]
        slot-temporary = true
        wal-budget = "64MiB"
        max-record-bytes = 2000
        authorization-timeout = "250ms"
        log-format = "json"
        jwt-claim-validators = { iss = "https://issuer" }
        "#,
    )
    .unwrap();
    assert_eq!(config.replication.options.publications, ["one", "two"]);
    assert!(config.replication.options.temporary);
    assert_eq!(config.replication.options.wal_budget_bytes, Some(64 << 20));
    assert_eq!(config.replication.max_record_bytes, 2000);
    assert_eq!(config.authorization.statement_timeout, Duration::from_millis(250));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_ne!(config.jwt.validators, ClaimValidators::default());
}

#[test]
fn the_container_of_the_reference_can_be_swapped() {
    let config = load(
        &[],
        &[
            ("PORT", "4000"),
            ("DB_HOST", "db"),
            ("DB_PORT", "5433"),
            ("DB_USER", "supabase_admin"),
            ("DB_PASSWORD", "hunter2"),
            ("DB_NAME", "app"),
            ("DB_AFTER_CONNECT_QUERY", "SET search_path TO _realtime"),
            ("DB_ENC_KEY", "supabaserealtime"),
            ("API_JWT_SECRET", "hunter2-hunter2-hunter2-hunter2"),
            ("SECRET_KEY_BASE", "x"),
            ("METRICS_JWT_SECRET", "y"),
            ("ERL_AFLAGS", "-proto_dist inet_tcp"),
            ("DNS_NODES", "''"),
            ("RLIMIT_NOFILE", "10000"),
            ("APP_NAME", "realtime"),
            ("SEED_SELF_HOST", "true"),
            ("RUN_JANITOR", "true"),
            ("JANITOR_CHUNK_SIZE", "10"),
            ("DISABLE_HEALTHCHECK_LOGGING", "true"),
            ("SLOT_NAME_SUFFIX", "blue"),
            ("LOG_LEVEL", "warning"),
            ("TENANT_MAX_CHANNELS_PER_CLIENT", "7"),
            ("TENANT_MAX_JOINS_PER_SECOND", "8"),
            ("TENANT_MAX_EVENTS_PER_SECOND", "11"),
            ("TENANT_MAX_CONCURRENT_USERS", "9"),
            ("MAX_CONNECTIONS", "10"),
        ],
        "",
    )
    .unwrap();
    assert_eq!(config.database.host, Host::Tcp("db".to_owned()));
    assert_eq!(config.database.port, 5433);
    assert_eq!(config.database.user, "supabase_admin");
    assert_eq!(config.database.password, Some(Secret::new("hunter2")));
    assert_eq!(config.database.database, "app");
    assert_eq!(config.jwt.secret, Some(Secret::new(JWT.1)));
    assert_eq!(config.http.metrics_secret, Some(Secret::new("y")));
    assert_eq!(config.replication.options.slot, "walcast_blue");
    assert_eq!(config.log.filter, "warn");
    assert_eq!(config.limits.channels_per_connection, 7);
    assert_eq!(config.limits.server_joins_per_second, 8);
    assert_eq!(config.limits.events_per_second, 11);
    assert_eq!(config.limits.concurrent_users, 9);
    assert_eq!(config.limits.connections, 10);
    assert_eq!(
        config.notices,
        ["accepted without effect: APP_NAME, DB_AFTER_CONNECT_QUERY, DB_ENC_KEY, \
          DISABLE_HEALTHCHECK_LOGGING, DNS_NODES, ERL_AFLAGS, JANITOR_CHUNK_SIZE, RLIMIT_NOFILE, \
          RUN_JANITOR, SECRET_KEY_BASE, SEED_SELF_HOST"]
    );
}

#[test]
fn a_database_url_sets_the_parts_it_has() {
    let config = load(
        &[],
        &[
            ("DATABASE_URL", "postgres://me@/app?host=/run/pg&sslmode=disable&connect_timeout=3"),
            ("DB_PASSWORD", "hunter2"),
        ],
        "",
    )
    .unwrap();
    assert_eq!(config.database.host, Host::Unix("/run/pg".into()));
    assert_eq!(config.database.user, "me");
    assert_eq!(config.database.password, Some(Secret::new("hunter2")));
    assert_eq!(config.database.database, "app");
    assert_eq!(config.database.ssl_mode, SslMode::Disable);
    assert_eq!(config.database.connect_timeout, Duration::from_secs(3));
    let same = load(&[], &[("DATABASE_URL", "postgres://db"), ("DB_HOST", "db")], "").unwrap();
    assert_eq!(same.database.host, Host::Tcp("db".to_owned()));
}

#[test]
fn a_certificate_to_check_against_is_checked() {
    let mode = |variables: &[(&str, &str)]| load(&[], variables, "").unwrap().database.ssl_mode;
    assert_eq!(mode(&[("DB_SSL", "false")]), SslMode::Disable);
    assert_eq!(mode(&[("DB_SSL", "true")]), SslMode::Require);
    let certificate = ("DB_SSL_CA_CERT", "/ca.pem");
    assert_eq!(mode(&[certificate]), SslMode::VerifyFull);
    assert_eq!(mode(&[("DB_SSL", "true"), certificate]), SslMode::VerifyFull);
    assert_eq!(mode(&[("WALCAST_DATABASE_SSL_MODE", "verify-ca"), certificate]), SslMode::VerifyCa);
    assert_eq!(mode(&[("WALCAST_DATABASE_SSL_MODE", "require"), certificate]), SslMode::Require);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_one() {
    refused(
        &[],
        &[("WALCAST_PRT", "1")],
        "",
        "WALCAST_PRT is not an option; did you mean WALCAST_PORT?",
    );
    refused(&[], &[("WALCAST_FLUX_CAPACITOR", "1")], "", "WALCAST_FLUX_CAPACITOR is not an option");
    refused(
        &[],
        &[],
        "jwt_secret = \"hunter2\"",
        "jwt_secret in FILE is not an option; did you mean jwt-secret?",
    );
    refused(&[], &[], "[database]\nurl = \"x\"", "database in FILE is not an option");
    refused(&[], &[], "config = \"x\"", "config in FILE is not an option");
}

#[test]
fn values_that_do_not_fit_are_refused_with_their_origin() {
    refused(&[("port", "x")], &[], "", "--port = x: must be a whole number from 0 to 65535");
    refused(&[], &[("PORT", "70000")], "", "PORT = 70000: must be a whole number from 0 to 65535");
    refused(&[], &[], "port = true", "port in FILE: must be a number");
    refused(&[], &[], "idle-timeout = 5", "idle-timeout in FILE: must be a string such as \"10s\"");
    refused(
        &[],
        &[],
        "idle-timeout = \"5\"",
        "idle-timeout in FILE = 5: must be a duration with its unit, such as 500ms, 10s, 5m or 1h",
    );
    refused(&[], &[("DB_SSL", "maybe")], "", "DB_SSL = maybe: must be true or false");
    refused(
        &[],
        &[],
        "deletes-unverifiable = \"guess\"",
        "deletes-unverifiable in FILE = guess: must be one of send-key, withhold",
    );
    refused(
        &[],
        &[("SLOT_NAME_SUFFIX", "Blue-1")],
        "",
        "SLOT_NAME_SUFFIX = walcast_Blue-1: a slot name has 1 to 63 lower-case letters, digits and \
         underscores",
    );
    refused(
        &[],
        &[("WALCAST_PUBLICATION", ",")],
        "",
        "WALCAST_PUBLICATION = ,: name at least one publication",
    );
}

#[test]
fn contradictions_are_refused_with_both_names() {
    refused(
        &[],
        &[("DATABASE_URL", "postgres://one"), ("DB_HOST", "two")],
        "",
        "DB_HOST and the host in DATABASE_URL contradict each other; set one of them, or both the same",
    );
    refused(
        &[("database-port", "1")],
        &[("DATABASE_URL", "postgres://one:2")],
        "",
        "--database-port and the port in DATABASE_URL contradict each other; set one of them, or \
         both the same",
    );
    refused(
        &[],
        &[("JWT_SECRET", "one"), ("API_JWT_SECRET", "two")],
        "",
        "JWT_SECRET and API_JWT_SECRET contradict each other; set one of them, or both the same",
    );
    refused(
        &[("jwt-jwks-file", "/keys.json")],
        &[("API_JWT_JWKS", "{\"keys\":[]}")],
        "",
        "API_JWT_JWKS and --jwt-jwks-file contradict each other; set one of them, or both the same",
    );
}

#[test]
fn serving_needs_a_way_to_verify_tokens() {
    let none = Environment::default();
    let error = Config::load(&Flags::default(), &none, Purpose::Serve).map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("jwt-secret") && text.contains("jwt-jwks"), "{text}");
    assert!(Config::load(&Flags::default(), &none, Purpose::Inspect).is_ok());
    let keys = load(&[], &[("API_JWT_JWKS", "{\"keys\":[]}")], "").unwrap();
    assert!(keys.jwt.secret.is_none() && keys.jwt.keys.is_some());
}

#[test]
fn faults_of_secrets_do_not_show_them() {
    for (variables, file) in [
        (vec![("DATABASE_URL", "hunter2")], ""),
        (vec![("DATABASE_URL", "postgres://me:hunter2@db:x/")], ""),
        (vec![("DATABASE_URL", "postgres://me:hunter2@db?x=hunter2")], ""),
        (vec![("DATABASE_URL", "postgres://a:hunter2@b"), ("DB_PASSWORD", "hunter2!")], ""),
        (vec![("API_JWT_JWKS", "hunter2")], ""),
        (vec![("JWT_CLAIM_VALIDATORS", "hunter2")], ""),
        (vec![], "jwt-secret = hunter2"),
        (vec![], "jwt-secret = [\"hunter2\"]"),
        (vec![], "database-password = \"hunter2"),
    ] {
        let error = load(&[], &variables, file).map(drop).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
    refused(&[], &[], "\n\nport = = 1", "FILE, line 3: extra `=`, expected nothing");
}

#[test]
fn debug_output_has_no_secret() {
    let variables = [
        ("DATABASE_URL", "postgres://me:hunter2@db"),
        ("JWT_SECRET", "hunter2"),
        ("METRICS_JWT_SECRET", "hunter2"),
    ];
    let config = load(&[], &variables, "").unwrap();
    let flags = flags(&[("jwt-secret", "hunter2")]);
    let shown = format!("{config:?} {:?} {flags:?}", environment(&variables));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_kubernetes_says_about_a_service_named_walcast_is_no_option() {
    let config = load(
        &[],
        &[
            ("WALCAST_SERVICE_HOST", "10.0.0.1"),
            ("WALCAST_SERVICE_PORT", "4000"),
            ("WALCAST_PORT", "tcp://10.0.0.1:4000"),
            ("WALCAST_PORT_4000_TCP_ADDR", "10.0.0.1"),
        ],
        "port = 5000",
    );
    assert_eq!(config.unwrap().http.port, 5000);
}

#[test]
fn dev_listens_on_this_machine_only() {
    let database = load(&[], &[], "").unwrap().database;
    let config = Config::for_dev(database, Secret::new("hunter2"), 7);
    assert_eq!((config.http.host.as_str(), config.http.port), ("127.0.0.1", 7));
    assert_eq!(config.jwt.secret, Some(Secret::new("hunter2")));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(
        &flags(&[("config", "/nowhere/walcast.toml")]),
        &Environment::default(),
        Purpose::Inspect,
    )
    .map(drop)
    .unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/walcast.toml cannot be read: "), "{error}");
}
