//! TLS as checks speak it: certificates are verified against those that the machine trusts, unless a
//! definition says that any will do.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::connect::Tls;

/// Speaks TLS over `stream` as `tls` says.
pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(stream: S, tls: &Tls) -> io::Result<TlsStream<S>> {
    let mut config = config(tls.any_certificate).await?;
    if let Some(protocol) = tls.protocol {
        Arc::make_mut(&mut config).alpn_protocols = vec![protocol.to_vec()];
    }
    let name = ServerName::try_from(tls.name.clone()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// The two ways in which certificates are looked at, each made once.
async fn config(any_certificate: bool) -> io::Result<Arc<ClientConfig>> {
    static VERIFYING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static TRUSTING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let (kept, make): (_, fn() -> Result<ClientConfig, Error>) = match any_certificate {
        true => (&TRUSTING, trusting),
        false => (&VERIFYING, verifying),
    };
    if let Some(config) = kept.get() {
        return Ok(config.clone());
    }
    // Reading the machine's certificates takes a while.
    let made = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
    Ok(kept.get_or_init(|| Arc::new(made)).clone())
}

fn verifying() -> Result<ClientConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
    for fault in &found.errors {
        tracing::warn!("a certificate that this machine trusts can't be read: {fault}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn trusting() -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider()))).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes every certificate; the handshake must still be signed with its key.
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
