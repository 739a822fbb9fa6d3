//! A channel with TLS: tls HOST:PORT demo.raftkv certs/bob (bob.pem and bob.key, with ca.pem beside them)
//!
//! Certificates name the cluster, not an address, so the name that is looked for is given. This needs the
//! crates `tokio-rustls` and `hyper-util` beside tonic; tonic's own feature `tls-ring` does the same with
//! `ClientTlsConfig` and its `domain_name`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use raftkv::kv::GetRequest;
use raftkv::kv::kv_client::KvClient;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http::Uri;
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::{Channel, Endpoint};

type Failed = Box<dyn Error + Send + Sync>;

/// Connects with a certificate, to nodes that have this name.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Connector {
    /// `certificate` is the files' name without its end.
    pub fn new(server_name: &str, certificate: &Path) -> Result<Self, Failed> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(certificate.with_file_name("ca.pem"))? {
            roots.add(root?)?;
        }
        let chain = CertificateDer::pem_file_iter(certificate.with_extension("pem"))?;
        let chain = chain.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(certificate.with_extension("key"))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Connector {
            config: Arc::new(config),
            name: ServerName::try_from(server_name.to_owned())?,
        })
    }

    /// A channel to one node.
    pub fn channel(&self, address: &str) -> Result<Channel, Failed> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(endpoint.connect_with_connector_lazy(self.clone()))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = Failed;
    type Future = BoxFuture<Self::Response, Failed>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connector, name) = (
            TlsConnector::from(Arc::clone(&self.config)),
            self.name.clone(),
        );
        Box::pin(async move {
            let address = uri.authority().ok_or("an address without a host")?;
            let stream = TcpStream::connect(address.as_str()).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(connector.connect(name, stream).await?))
        })
    }
}

/// Reads a key.
pub async fn get(channel: Channel, key: &str) -> Result<String, tonic::Status> {
    let request = GetRequest {
        key: key.into(),
        ..GetRequest::default()
    };
    Ok(KvClient::new(channel)
        .get(request)
        .await?
        .into_inner()
        .value)
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, certificate] = &arguments[..] else {
        return Err("tls HOST:PORT SERVER_NAME CERTIFICATE".into());
    };
    let channel = Connector::new(name, Path::new(certificate))?.channel(address)?;
    println!("{}", get(channel, "name1").await?);
    Ok(())
}
