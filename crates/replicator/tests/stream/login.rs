//! Ways to log in, and TLS.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use walcast_replicator::{ConnectOptions, Host, SslMode, drop_slot};

use crate::{
    reading::explain,
    server::{Database, Server},
};

/// Logs in; that a slot is dropped which does not exist only needs the connection.
async fn log_in(options: &ConnectOptions) -> Result<(), String> {
    Box::pin(drop_slot(options, "no_such_slot")).await.map_err(|error| explain(&error))
}

async fn check(options: &ConnectOptions, expected: Result<(), &str>) {
    match (log_in(options).await, expected) {
        (Ok(()), Ok(())) => {}
        (Err(error), Err(words)) => {
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        (found, expected) => panic!("{found:?} instead of {expected:?} for {options:?}"),
    }
}

async fn create_roles(database: &Database) {
    database
        .run(
            "set password_encryption = 'md5';
             create role md5_user login replication password 'secret';
             set password_encryption = 'scram-sha-256';
             create role scram_user login replication password 'secret é';
             create role password_user login replication password 'secret';
             create role plain_user login replication;
             create role nobody_special login;",
        )
        .await;
}

#[tokio::test]
async fn every_way_to_log_in_works() {
    let server = Server::start("");
    create_roles(&server.existing_database("postgres").await).await;
    let options = |user: &str, password: &str| server.tcp_options("postgres", user, password);
    check(&server.connect_options("postgres"), Ok(())).await;
    check(&options("postgres", ""), Ok(())).await;
    check(&options("md5_user", "secret"), Ok(())).await;
    check(&options("scram_user", "secret é"), Ok(())).await;
    check(&options("password_user", "secret"), Ok(())).await;
    for user in ["md5_user", "scram_user", "password_user"] {
        check(&options(user, "secret, but wrong"), Err("check the password")).await;
        check(&options(user, ""), Err("asks for a password")).await;
    }
    check(&options("missing", ""), Err("check that the role exists")).await;
    check(&options("nobody_special", ""), Err("with replication")).await;
    let elsewhere = ConnectOptions { database: "nowhere".into(), ..options("postgres", "") };
    check(&elsewhere, Err("check the database's name")).await;
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let options = ConnectOptions { ssl_mode: mode, ..options("postgres", "") };
        check(&options, Err("ssl = on")).await;
        let local = ConnectOptions { ssl_mode: mode, ..server.connect_options("postgres") };
        check(&local, Ok(())).await;
    }
    let zero = ConnectOptions { application_name: "a\0b".into(), ..options("postgres", "") };
    check(&zero, Err("zero byte")).await;
}

/// Certificates: an authority, a server's one for "localhost" by it, and a self-signed one.
fn make_certificates(server: &Server) -> Option<PathBuf> {
    let folder = server.folder.join("certificates");
    fs::create_dir(&folder).unwrap();
    // The server's keeper, who removes everything, may be another role than the tests' one.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let script = "set -e
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority \
            -keyout authority.key -out authority.crt -sha384
        openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost\n' >extensions
        openssl x509 -req -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial \
            -days 2 -sha384 -extfile extensions -out server.crt
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=self -addext subjectAltName=DNS:localhost -keyout self.key -out self.crt
        openssl req -x509 -newkey ed25519 -nodes -days 2 -subj /CN=edwards \
            -addext subjectAltName=DNS:localhost -keyout edwards.key -out edwards.crt";
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.code() == Some(127) {
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(folder)
}

/// Makes the server use a certificate, and waits until it does.
async fn use_certificate(server: &Server, database: &Database, folder: &Path, name: &str) {
    for kind in ["crt", "key"] {
        let content = fs::read_to_string(folder.join(format!("{name}.{kind}"))).unwrap();
        // Written by the server, so that it owns the file.
        let target = server.folder.join(format!("data/{name}.{kind}"));
        let sql = format!(
            "copy (select unnest(string_to_array($content${content}$content$, E'\\n'))) \
             to program 'umask 077; cat >{}'",
            target.display()
        );
        database.run(&sql).await;
    }
    for (setting, value) in [
        ("ssl_cert_file", format!("{name}.crt")),
        ("ssl_key_file", format!("{name}.key")),
        ("ssl", "on".to_owned()),
    ] {
        database.run(&format!("alter system set {setting} = '{value}'")).await;
    }
    database.run("select pg_reload_conf()").await;
    database.await_true(&format!("select current_setting('ssl_cert_file') = '{name}.crt'")).await;
}

/// Whether a login with these options is encrypted.
async fn is_encrypted(database: &Database, options: &ConnectOptions) -> bool {
    let mut database_options = database.replication.clone();
    database_options.slot = "encrypted".to_owned();
    database_options.temporary = true;
    let start = walcast_replicator::ReplicationStream::start(options, &database_options, None);
    let (stream, _) = Box::pin(start).await.unwrap_or_else(|error| panic!("{}", explain(&error)));
    let sql = "select ssl from pg_stat_ssl join pg_replication_slots on pid = active_pid \
               where slot_name = 'encrypted'";
    let encrypted = database.value(sql).await;
    stream.finish().await.unwrap();
    database.await_true("select count(*) = 0 from pg_replication_slots").await;
    encrypted.as_deref() == Some("t")
}

#[tokio::test]
async fn every_sslmode_means_what_libpq_means() {
    let server = Server::start("");
    let Some(folder) = make_certificates(&server) else {
        // Without openssl there are no certificates to test with.
        return;
    };
    let database = server.existing_database("postgres").await;
    create_roles(&database).await;
    database.run("create publication supabase_realtime").await;
    use_certificate(&server, &database, &folder, "server").await;
    let options = |host: &str, mode: SslMode, root: Option<&str>| ConnectOptions {
        host: Host::Tcp(host.to_owned()),
        ssl_mode: mode,
        ssl_root_cert: root.map(|root| folder.join(root)),
        ..server.tcp_options("postgres", "scram_user", "secret é")
    };
    let authority = Some("authority.crt");
    let (name, address) = ("localhost", "127.0.0.1");
    check(&options(name, SslMode::VerifyFull, authority), Ok(())).await;
    check(&options(address, SslMode::VerifyFull, authority), Err("subjectAltName")).await;
    check(&options(address, SslMode::VerifyCa, authority), Ok(())).await;
    check(&options(address, SslMode::VerifyCa, Some("self.crt")), Err("trusted authority")).await;
    check(&options(address, SslMode::Require, Some("self.crt")), Err("trusted authority")).await;
    check(&options(address, SslMode::VerifyCa, Some("none.crt")), Err("none.crt")).await;
    check(&options(address, SslMode::VerifyCa, Some("server.key")), Err("server.key")).await;
    check(&options(address, SslMode::Require, None), Ok(())).await;
    check(&options(address, SslMode::Prefer, Some("self.crt")), Ok(())).await;
    check(&options(address, SslMode::Disable, None), Ok(())).await;
    let plain = server.tcp_options("postgres", "plain_user", "");
    check(&plain, Ok(())).await;
    check(&ConnectOptions { ssl_mode: SslMode::Require, ..plain }, Err("pg_hba.conf")).await;
    let superuser = |mode| ConnectOptions {
        user: "postgres".to_owned(),
        password: None,
        ..options(address, mode, None)
    };
    assert!(is_encrypted(&database, &superuser(SslMode::Require)).await);
    assert!(is_encrypted(&database, &superuser(SslMode::Prefer)).await);
    assert!(!is_encrypted(&database, &superuser(SslMode::Disable)).await);
    // A self-signed certificate is its own authority, as for OpenSSL.
    use_certificate(&server, &database, &folder, "self").await;
    check(&options(name, SslMode::VerifyFull, Some("self.crt")), Ok(())).await;
    check(&options(address, SslMode::VerifyFull, Some("self.crt")), Err("subjectAltName")).await;
    check(&options(address, SslMode::VerifyCa, Some("self.crt")), Ok(())).await;
    check(&options(address, SslMode::VerifyCa, authority), Err("self-signed")).await;
    // No hash function for channel binding: the login goes without it.
    use_certificate(&server, &database, &folder, "edwards").await;
    check(&options(address, SslMode::Require, None), Ok(())).await;
}
