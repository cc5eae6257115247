//! Connections: which certificates are taken, which proxies are used.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::options::S3Options;
use crate::error::{Error, ErrorKind, Result};

/// Idle connections are closed after this long: before servers and what stands between do it.
const IDLE: std::time::Duration = std::time::Duration::from_secs(15);

/// Makes connections that take certificates the system trusts, and those of `ca_file`.
pub(super) fn checked(options: &S3Options) -> Result<SharedHttpClient> {
    let mut roots = TrustStore::empty().with_native_roots(true);
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        check_certificates(&pem).map_err(|problem| {
            Error::new(ErrorKind::Invalid, path.display().to_string(), problem)
        })?;
        roots.add_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(roots).build();
    let context = context.map_err(|error| {
        Error::new(ErrorKind::Invalid, "certificates", "cannot be used").caused_by(error)
    })?;
    Ok(SharedHttpClient::new(PastProxies {
        usual: client(&context, ProxyConfig::from_env()),
        direct: client(&context, ProxyConfig::disabled()),
    }))
}

fn client(context: &TlsContext, proxies: ProxyConfig) -> SharedHttpClient {
    let context = context.clone();
    // One connector for each set of timeouts is kept by the builder.
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector
            .pool_idle_timeout(IDLE)
            .proxy_config(proxies.clone())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.clone())
            .build()
    })
}

/// Asks who hands out an instance's keys without proxies: such an address means another host to each
/// host, and a proxy would give its own keys, or see ours.
#[derive(Debug)]
struct PastProxies<C> {
    usual: C,
    direct: C,
}

impl HttpClient for PastProxies<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(PastProxies {
            usual: self.usual.http_connector(settings, components),
            direct: self.direct.http_connector(settings, components),
        })
    }
}

impl HttpConnector for PastProxies<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match is_link_local(request.uri()) {
            true => self.direct.call(request),
            false => self.usual.call(request),
        }
    }
}

/// Whether the host in `http://host:port/path` is an address that no router passes on: where instances
/// and containers find their metadata.
fn is_link_local(uri: &str) -> bool {
    let Some((_, rest)) = uri.split_once("://") else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        // The second is where the metadata of AWS is, `fd00:ec2::254`.
        Ok(IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
        Err(_) => false,
    }
}

/// The HTTP client would panic on what it cannot use.
fn check_certificates(pem: &[u8]) -> std::result::Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| format!("certificates in PEM expected: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("certificates of authorities expected: {error}"))?;
    }
    if roots.is_empty() {
        return Err("certificates in PEM expected, found none".to_owned());
    }
    Ok(())
}

/// A client over connections that `$lower` makes; a macro since the bounds of a function would name
/// crates that are used nowhere else.
macro_rules! under_tls {
    ($tls:expr, $lower:expr) => {{
        let https = HttpsConnectorBuilder::new()
            .with_tls_config($tls.clone())
            .https_only()
            .enable_http1()
            .wrap_connector($lower);
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(https)
    }};
}

/// Makes connections under TLS that take any certificate.
pub(super) fn unchecked(options: &S3Options) -> SharedHttpClient {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions of TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(options.patience.connect));
    let connector = SharedHttpConnector::new(Unchecked {
        direct: under_tls!(tls, tcp.clone()),
        tunnelled: OnceLock::new(),
        proxies: Matcher::from_env(),
        tls,
        tcp,
    });
    http_client_fn(move |_, _| connector.clone())
}

/// Says yes to every certificate. Signatures of the handshake are still checked: who presents a
/// certificate has its key.
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
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

type SdkBody = aws_sdk_s3::primitives::SdkBody;

#[derive(Debug)]
struct Unchecked {
    direct: Client<HttpsConnector<Tcp>, SdkBody>,
    /// Made when the first request is to go through the proxy; there is one for all that is under TLS.
    tunnelled: OnceLock<Client<HttpsConnector<Tunnel<Tcp>>, SdkBody>>,
    proxies: Matcher,
    tls: ClientConfig,
    tcp: Tcp,
}

impl Unchecked {
    fn through(&self, proxy: &Intercept) -> &Client<HttpsConnector<Tunnel<Tcp>>, SdkBody> {
        self.tunnelled.get_or_init(|| {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            under_tls!(self.tls, tunnel)
        })
    }
}

impl HttpConnector for Unchecked {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let refused = |error| HttpConnectorFuture::ready(Err(ConnectorError::user(error)));
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return refused(error.into()),
        };
        let answer = match self.proxies.intercept(request.uri()) {
            None => self.direct.request(request),
            Some(proxy) if proxy.uri().scheme_str() == Some("http") => {
                self.through(&proxy).request(request)
            }
            Some(proxy) => {
                let problem = format!(
                    "{}: with s3.insecure_tls a proxy at http:// expected",
                    proxy.uri().host().unwrap_or_default()
                );
                return refused(problem.into());
            }
        };
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Returns the proxy of the environment between here and a URL, without name and password.
pub(super) fn proxy_before(url: &str) -> Option<String> {
    let found = Matcher::from_env().intercept(&url.parse().ok()?)?;
    let (scheme, host) = (found.uri().scheme_str()?, found.uri().host()?);
    let port = found.uri().port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error_and_no_panic() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "hello", broken, "-----BEGIN CERTIFICATE-----\n"] {
            assert!(check_certificates(pem.as_bytes()).is_err(), "{pem:?}");
        }
    }

    #[test]
    fn addresses_of_this_host_alone_are_told_from_others() {
        for (uri, is_link_local) in [
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.2:80?x", true),
            ("http://[fd00:ec2::254]/latest", true),
            ("http://[fe80::1]:8080/", true),
            ("http://127.0.0.1:9000/bucket/169.254.169.254", false),
            ("https://169.254.169.254.example.com/", false),
            ("https://[2001:db8::1]/", false),
            ("https://bucket.s3.amazonaws.com/key", false),
            ("/latest", false),
            ("http://[", false),
        ] {
            assert_eq!(super::is_link_local(uri), is_link_local, "{uri}");
            let fails = |name: &str| SharedHttpConnector::new(Fails(name.to_owned()));
            let both = PastProxies { usual: fails("proxy"), direct: fails("direct") };
            let mut request = HttpRequest::new(SdkBody::empty());
            if request.set_uri(uri).is_err() {
                continue;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let told = format!("{:?}", runtime.block_on(both.call(request)));
            assert!(told.contains(if is_link_local { "direct" } else { "proxy" }), "{uri}: {told}");
        }
    }

    #[derive(Debug)]
    struct Fails(String);

    impl HttpConnector for Fails {
        fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::ready(Err(ConnectorError::user(self.0.clone().into())))
        }
    }
}
