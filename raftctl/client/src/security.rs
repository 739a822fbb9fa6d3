//! Which addresses are spoken to with TLS, and with which certificate.
//!
//! Connections are made in many places, by address alone. Whoever opens a cluster notes here what its
//! addresses need; the certificate is read when a connection is made, so that one that was renewed
//! meanwhile counts at once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// The files of a client, in one folder.
pub const TRUST_FILE: &str = "trust.pem";
/// Its key and its certificate, in one file: both are replaced at once.
pub const OWN_FILE: &str = "admin.pem";

/// How the nodes of a cluster are spoken to.
#[derive(Clone, PartialEq, Eq)]
pub struct Security {
    /// Where the certificate lies.
    pub folder: PathBuf,
    /// The name that every node has in its certificate.
    pub name: String,
    /// Whether nodes may speak clear text as well, because the cluster goes over to TLS.
    pub clear_too: bool,
}

impl fmt::Debug for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Security({})", self.name)
    }
}

static BY_ADDRESS: RwLock<BTreeMap<String, Arc<Security>>> = RwLock::new(BTreeMap::new());

/// Notes what addresses need.
pub fn secure<'a>(addresses: impl Iterator<Item = &'a str>, security: &Arc<Security>) {
    let mut noted = BY_ADDRESS.write().unwrap_or_else(PoisonError::into_inner);
    for address in addresses {
        noted.insert(address.to_owned(), Arc::clone(security));
    }
}

/// What an address needs; `None`: clear text.
#[must_use]
pub fn of(address: &str) -> Option<Arc<Security>> {
    let noted = BY_ADDRESS.read().unwrap_or_else(PoisonError::into_inner);
    noted.get(address).cloned()
}

impl Security {
    /// Reads the certificate.
    ///
    /// # Errors
    /// It is not there, or of no use; in words that say what to do.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let at = |name: &str| self.folder.join(name);
        let mut roots = RootCertStore::empty();
        for root in certificates(&at(TRUST_FILE))? {
            let added = roots.add(root);
            added.map_err(|error| unfit(&at(TRUST_FILE), &error))?;
        }
        let path = at(OWN_FILE);
        let chain = certificates(&path)?;
        // Nothing of what stands there may be told.
        let key = std::fs::read(&path).map_err(|error| missing(&path, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| format!("{} holds no private key", path.display()))?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unfit(&path, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| missing(path, &error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{} holds no certificate", path.display())),
    }
}

fn missing(path: &Path, error: &std::io::Error) -> String {
    format!(
        "the cluster speaks TLS, and {} can't be read ({error}); `raftctl up` makes it where the \
         cluster's authority is, or copy the folder from there",
        path.display()
    )
}

fn unfit(path: &Path, error: &rustls::Error) -> String {
    format!("{} is of no use: {error}", path.display())
}

/// Why a handshake failed, in words that lead on; `None`: TLS has nothing to do with it.
#[must_use]
pub fn why(error: &std::io::Error) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let words = match tls {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the node's certificate has ended; `raftctl certs renew` makes another"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the node's certificate is not valid yet: is the clock of this machine, or of the \
                 one that made it, wrong?"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the node's certificate is of an authority that is not in trust.pem: another \
                 cluster answers there, or another folder has this one's authority"
            }
            _ => "the node's certificate is not that of a node of this cluster",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                "the node says that this certificate has ended, or is not valid yet; where the \
                 cluster's authority is, raftctl makes another by itself"
            }
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "the node does not trust the authority of this certificate: another folder has this \
                 cluster's"
            }
            _ => "the node does not take this certificate",
        },
        rustls::Error::InvalidMessage(_) => {
            "no TLS is spoken there: the node runs without (`tls: off` in cluster.yaml says so), or something else \
             answers"
        }
        _ => "the TLS handshake failed",
    };
    Some(format!("{words} ({tls})"))
}
