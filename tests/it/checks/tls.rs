//! HTTPS targets: whose certificate is good, whose has expired, who signed his own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// An authority, and the file that tells the agent to trust it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the test");
        let certificate = params.self_signed(&key).unwrap();
        let file = folder.join("authority.pem");
        fs::write(&file, certificate.pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    fn sign(&self, years: (i32, i32)) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = server(years).signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key)
    }
}

fn server((from, until): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    params
}

/// Answers every request with 200 behind this certificate.
async fn serve((certificate, key): (CertificateDer<'static>, KeyPair)) -> SocketAddr {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_or_signed_itself_is_named() {
    let setup = Setup::dev();
    let authority = Authority::new(setup.home());
    let node = setup.env("SSL_CERT_FILE", &authority.file).start();
    let own_key = KeyPair::generate().unwrap();
    let own = server((2000, 2100)).self_signed(&own_key).unwrap().der().clone();
    let targets = [
        ("good", serve(authority.sign((2000, 2100))).await, false, "passing", "200 OK"),
        ("expired", serve(authority.sign((2000, 2001))).await, false, "critical", "expired"),
        ("self-signed", serve((own.clone(), own_key)).await, false, "critical", "UnknownIssuer"),
        ("any-will-do", serve(authority.sign((2000, 2001))).await, true, "passing", "200 OK"),
    ];
    for (name, address, skip, ..) in &targets {
        let url = format!("https://localhost:{}/", address.port());
        let check = json!({"Name": name, "HTTP": url, "Interval": "1s", "TLSSkipVerify": skip});
        node.put("/v1/agent/check/register", check.to_string()).expect(200);
    }
    for (name, _, _, status, text) in targets {
        let check = eventually!(PATIENCE, {
            let check = node.get("/v1/agent/checks").json()[name].clone();
            (check["Output"] != "").then_some(check)
        });
        let output = check["Output"].as_str().unwrap();
        assert_eq!(check["Status"], status, "{name}: {output}");
        assert!(output.contains(text), "{name}: {output}");
    }
}
