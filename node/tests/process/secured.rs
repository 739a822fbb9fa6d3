//! The certificates of a cluster, and connections with one of them.

use crate::authority::{Authority, Pair, write_folder};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::http::Uri;
use tonic::codegen::{BoxFuture, Service};

/// As the tests' clusters are called.
pub const CLUSTER: &str = "test";

pub struct Secured {
    pub authority: Authority,
    directory: PathBuf,
    admin: Through,
}

impl Secured {
    /// An authority, and a folder for each of these nodes.
    pub fn new(directory: &Path, ids: &[u64]) -> Self {
        let authority = Authority::new("authority of a test");
        let admin = authority.role(CLUSTER, "the test", "admin");
        let secured = Secured {
            admin: Through::new(&authority.pem, Some(&admin)),
            authority,
            directory: directory.to_owned(),
        };
        for id in ids {
            let pair = secured.authority.node(CLUSTER, *id);
            write_folder(&secured.folder(*id), &secured.authority.pem, &pair);
        }
        secured
    }

    pub fn folder(&self, id: u64) -> PathBuf {
        self.directory.join(format!("tls_node_{id}"))
    }

    /// From now on the test comes in this way.
    pub fn come_as(&mut self, admin: Through) {
        self.admin = admin;
    }

    pub fn admin(&self) -> Through {
        self.admin.clone()
    }

    /// To come with a certificate of a role.
    pub fn role(&self, who: &str, role: &str) -> Through {
        let pair = self.authority.role(CLUSTER, who, role);
        Through::new(&self.authority.pem, Some(&pair))
    }
}

/// Connects with TLS.
#[derive(Clone)]
pub struct Through(Arc<ClientConfig>);

impl Through {
    pub fn new(authorities: &str, pair: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
                let chain = chain.map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Through(Arc::new(config))
    }

    /// A connection on which nothing was said yet but for TLS.
    pub async fn stream(&self, address: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(format!("{CLUSTER}.raftkv"));
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector
            .connect(name.map_err(std::io::Error::other)?, stream)
            .await
    }
}

impl Service<Uri> for Through {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let through = self.clone();
        Box::pin(async move {
            let authority = uri.authority().expect("an address").as_str();
            Ok(TokioIo::new(through.stream(authority).await?))
        })
    }
}
