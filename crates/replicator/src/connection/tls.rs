//! TLS as libpq's `sslmode` means it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use crate::SslMode;

/// Why the connection cannot be secured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The root certificate file cannot be read.
    #[error("read the root certificate file {}: check that it is a PEM file with certificates", .path.display())]
    RootCert {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::pki_types::pem::Error,
    },
    /// The root certificate file holds none, or one that cannot be used.
    #[error("use the root certificate file {}: it holds no usable certificate", .0.display())]
    NoRootCert(PathBuf),
    /// The platform's trust store or the verifier over the roots cannot be used.
    #[error("use the trusted certificates: name a root certificate file")]
    TrustStore(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The host cannot stand in a certificate.
    #[error("check a certificate for the host \"{0}\": it is neither a DNS name nor an address")]
    HostName(String),
    /// The server speaks no TLS.
    #[error(
        "agree on TLS: the server does not offer it; set ssl = on there, or use sslmode=disable"
    )]
    NotOffered,
    /// The server answered to the request for TLS with something else.
    #[error("agree on TLS: the server's answer is not PostgreSQL's; check host and port")]
    Answer,
    /// The handshake failed.
    #[error("agree on TLS: {advice}")]
    Handshake {
        /// What to do.
        advice: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl TlsError {
    pub(crate) fn handshake(source: io::Error) -> Self {
        let cause = source.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        let advice = match cause {
            Some(Error::InvalidCertificate(certificate)) => certificate_advice(certificate),
            _ => "check the server's ssl settings and log",
        };
        Self::Handshake { advice, source }
    }
}

fn certificate_advice(error: &CertificateError) -> &'static str {
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add kinds at any time")]
    match error {
        CertificateError::UnknownIssuer => {
            "no trusted authority signed the server's certificate; give the right root certificate \
             file"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate does not name the host among its subjectAltNames; use the \
             name it was made for, or sslmode=verify-ca"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it"
        }
        // A certificate of an authority, used as a server's own.
        CertificateError::Other(_) => {
            "the server's certificate is self-signed; put it into the root certificate file"
        }
        _ => "the server's certificate is not valid",
    }
}

/// The TLS settings for connections to PostgreSQL.
///
/// As in libpq, `require` checks the certificate's chain only when there is a root certificate
/// file, and `verify-ca` does not look at the host's name. Without a file the platform's trust
/// store counts.
///
/// # Errors
/// When the file or the trust store cannot be used.
pub fn tls_client_config(
    mode: SslMode,
    root_cert: Option<&Path>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(mode, root_cert, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::TrustStore(error.into()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn verifier(
    mode: SslMode,
    root_cert: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let name_counts = match (mode, root_cert) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => {
            return Ok(Arc::new(AnyCertificate(Arc::clone(provider))));
        }
        (SslMode::Require | SslMode::VerifyCa, _) => false,
        (SslMode::VerifyFull, _) => true,
    };
    let Some(path) = root_cert else {
        let chain = Verifier::new(Arc::clone(provider))
            .map_err(|error| TlsError::TrustStore(error.into()))?;
        return Ok(Arc::new(Trusted { chain: Arc::new(chain), roots: Vec::new(), name_counts }));
    };
    let roots = read_certificates(path)?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    if store.is_empty() {
        return Err(TlsError::NoRootCert(path.to_owned()));
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::TrustStore(error.into()))?;
    Ok(Arc::new(Trusted { chain, roots, name_counts }))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::RootCert { path: path.to_owned(), source })
}

/// Accepts every certificate, but checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts what the chain's verifier accepts, with libpq's leniencies.
#[derive(Debug)]
struct Trusted {
    chain: Arc<dyn ServerCertVerifier>,
    roots: Vec<CertificateDer<'static>>,
    name_counts: bool,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            // The chain is judged before the name, so that it is good when only the name is not.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name_counts => Ok(ServerCertVerified::assertion()),
            // A self-signed certificate that is itself in the root file is an authority and
            // therefore refused as a server's one, after its dates were checked; OpenSSL takes it.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.roots.iter().any(|root| root == end_entity) =>
            {
                if self.name_counts {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
