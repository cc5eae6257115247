//! TLS before a store, with certificates of an authority that is made for the test.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use colvault_benches::s3::Listening;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tunnel::{join, on_this_thread};

/// Who issues certificates. No system trusts it.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server shows, and the key that goes with it.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate, as a file of certificates has it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues one for a host, by name or address.
    pub fn issue(&self, host: &str) -> Certificate {
        self.sign(CertificateParams::new(vec![host.to_owned()]).unwrap())
    }

    /// Issues one that was good some years ago.
    pub fn issue_expired(&self, host: &str) -> Certificate {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.0).unwrap();
        Certificate { chain: vec![own.der().clone()], key }
    }
}

/// A server on a free port of loopback that takes TLS off and passes on. Ends when it is dropped.
pub struct Tls(Listening);

impl Tls {
    /// Begins before the server at `http://HOST:PORT`.
    pub fn before(endpoint: &str, certificate: Certificate) -> Tls {
        let upstream = endpoint.strip_prefix("http://").expect("a server without TLS").to_owned();
        let Certificate { chain, key } = certificate;
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Tls(Listening::start(move |client| serve(client, &acceptor, &upstream)))
    }

    /// Returns `https://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address())
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.0.endpoint().replace("http://", "")
    }
}

fn serve(client: TcpStream, acceptor: &TlsAcceptor, upstream: &str) -> io::Result<()> {
    on_this_thread(client, async |client| {
        let client = acceptor.accept(client).await?;
        join(client, upstream).await
    })
}
