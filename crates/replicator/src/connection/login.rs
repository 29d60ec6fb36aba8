//! Start-up and login.

use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::{
        backend::{AuthenticationSaslBody, Message},
        frontend,
    },
};

use super::{Connection, channel_binding::tls_server_end_point, read_server_error};
use crate::{
    ConnectOptions, Definite, ReplicationError, Secret, ServerError, Transient, wire::WireError,
};

/// Logs in for logical replication; afterwards the connection takes queries.
pub(super) async fn log_in(
    connection: &mut Connection,
    options: &ConnectOptions,
) -> Result<(), ReplicationError> {
    let parameters = [
        ("user", options.user.as_str()),
        ("database", &options.database),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
        ("application_name", &options.application_name),
    ];
    connection.put(|buffer| frontend::startup_message(parameters, buffer))?;
    connection.flush().await?;
    authenticate(connection, options).await?;
    loop {
        #[expect(clippy::wildcard_enum_match_arm, reason = "postgres-protocol may add messages")]
        match connection.message().await? {
            Message::ReadyForQuery(_) => return Ok(()),
            Message::BackendKeyData(_)
            | Message::ParameterStatus(_)
            | Message::NoticeResponse(_) => {}
            Message::ErrorResponse(body) => {
                return Err(refused(options, read_server_error(&body)));
            }
            _ => return Err(unexpected().into()),
        }
    }
}

async fn authenticate(
    connection: &mut Connection,
    options: &ConnectOptions,
) -> Result<(), ReplicationError> {
    loop {
        #[expect(clippy::wildcard_enum_match_arm, reason = "postgres-protocol may add messages")]
        match connection.message().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                let password = password(options)?.expose().as_bytes();
                connection.put(|buffer| frontend::password_message(password, buffer))?;
            }
            Message::AuthenticationMd5Password(body) => {
                let password = password(options)?.expose().as_bytes();
                let hash = md5_hash(options.user.as_bytes(), password, body.salt());
                connection.put(|buffer| frontend::password_message(hash.as_bytes(), buffer))?;
            }
            Message::AuthenticationSasl(body) => scram(connection, options, &body).await?,
            Message::AuthenticationGss => return Err(method(options, "GSSAPI").into()),
            Message::AuthenticationKerberosV5 => return Err(method(options, "Kerberos").into()),
            Message::AuthenticationSspi => return Err(method(options, "SSPI").into()),
            Message::AuthenticationScmCredential => {
                return Err(method(options, "credentials of the process").into());
            }
            Message::NoticeResponse(_) => continue,
            Message::ErrorResponse(body) => {
                return Err(refused(options, read_server_error(&body)));
            }
            _ => return Err(unexpected().into()),
        }
        connection.flush().await?;
    }
}

async fn scram(
    connection: &mut Connection,
    options: &ConnectOptions,
    body: &AuthenticationSaslBody,
) -> Result<(), ReplicationError> {
    let (mut plain, mut plus) = (false, false);
    let mut mechanisms = body.mechanisms();
    while let Some(mechanism) = mechanisms.next().map_err(|_| unexpected())? {
        plain |= mechanism == SCRAM_SHA_256;
        plus |= mechanism == SCRAM_SHA_256_PLUS;
    }
    let certificate = connection.peer_certificate.as_deref();
    let (mechanism, binding) = match certificate.and_then(tls_server_end_point) {
        Some(hash) if plus => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
        // "We could, but you do not offer it": the server notices when somebody in between
        // removed its offer.
        Some(_) if plain => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if plain => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => return Err(method(options, "a SASL mechanism other than SCRAM-SHA-256").into()),
    };
    let mut scram = ScramSha256::new(password(options)?.expose().as_bytes(), binding);
    connection.put(|buffer| frontend::sasl_initial_response(mechanism, scram.message(), buffer))?;
    connection.flush().await?;
    loop {
        let proof = |source| Definite::LoginProof { user: options.user.clone(), source };
        #[expect(clippy::wildcard_enum_match_arm, reason = "postgres-protocol may add messages")]
        match connection.message().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(proof)?;
                connection.put(|buffer| frontend::sasl_response(scram.message(), buffer))?;
                connection.flush().await?;
            }
            Message::AuthenticationSaslFinal(body) => {
                return Ok(scram.finish(body.data()).map_err(proof)?);
            }
            Message::NoticeResponse(_) => {}
            Message::ErrorResponse(body) => {
                return Err(refused(options, read_server_error(&body)));
            }
            _ => return Err(unexpected().into()),
        }
    }
}

fn password(options: &ConnectOptions) -> Result<&Secret, Definite> {
    let needed = || Definite::PasswordNeeded { user: options.user.clone() };
    options.password.as_ref().ok_or_else(needed)
}

fn method(options: &ConnectOptions, method: &'static str) -> Definite {
    Definite::LoginMethod { user: options.user.clone(), method }
}

fn refused(options: &ConnectOptions, error: ServerError) -> ReplicationError {
    let source = Box::new(error);
    if source.is_transient() {
        return Transient::Server { action: "log in to PostgreSQL", source }.into();
    }
    let advice = match source.code.as_str() {
        "28P01" => "check the password",
        "28000" => "check that the role exists and may log in, and what pg_hba.conf allows it",
        "42501" => "give the role the right to replicate: alter role … with replication",
        "3D000" => "check the database's name",
        _ => "see what PostgreSQL says",
    };
    Definite::Login { user: options.user.clone(), advice, source }.into()
}

fn unexpected() -> WireError {
    WireError::Answer("the login")
}
