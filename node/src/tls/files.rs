//! The three files: read, and taken only if they fit together and are this node's.

use super::verifier::{Port, Unreadable, Verifier, owner};
use crate::access::{ClusterNames, Subject};
use crate::raft::NodeId;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whom this node trusts.
pub(super) const CA_FILE: &str = "ca.pem";
/// Its certificate, and those between it and a trusted one.
pub(super) const CERTIFICATE_FILE: &str = "node.pem";
/// Its key.
pub(super) const KEY_FILE: &str = "node.key";
/// All of them.
pub(super) const FILES: [&str; 3] = [CA_FILE, CERTIFICATE_FILE, KEY_FILE];

/// A file of this kind is a few KiB long.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Most authorities that are trusted at a time.
const AUTHORITIES_MAX: usize = 16;

/// Why files are not taken. Says what to do, and nothing of what stands in a key.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file can't be read.
    #[error("cannot read {}: {error}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others may read the key.
    #[error(
        "{} may be read by others (mode {mode:03o}); chmod 600 it, and make a new key if others have \
         been there", .path.display()
    )]
    KeyIsOpen {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key is somebody else's.
    #[error("{} belongs to user {owner}, not to the one this node runs as ({own})", .path.display())]
    KeyOfAnother {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// As whom the node runs.
        own: u32,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Key and certificate are not of each other, or the certificate is not of this authority.
    #[error("{}: {what}", .folder.display())]
    NoPair {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The certificate is somebody else's.
    #[error("{} is not of node {id} of this cluster: {what}", .path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
        /// Who this is.
        id: NodeId,
        /// What it says.
        what: String,
    },
}

/// Files that fit together.
#[derive(Debug)]
pub(super) struct Loaded {
    /// For those who dial this node.
    pub(super) peers: Arc<ServerConfig>,
    /// For clients.
    pub(super) clients: Arc<ServerConfig>,
    /// For dialing others.
    pub(super) dial: Arc<ClientConfig>,
    judges: [Arc<Verifier>; 2],
    pub(super) ends: SystemTime,
    pub(super) trust_ends: SystemTime,
    /// Of the texts of the authorities and the certificate.
    pub(super) files_crc32c: u32,
}

impl Loaded {
    /// Reads and judges the files of a folder.
    pub(super) fn read(
        folder: &Path,
        id: NodeId,
        cluster: &ClusterNames,
    ) -> Result<Self, LoadError> {
        let at = |name: &str| folder.join(name);
        let (authorities, trusted) = certificates(&at(CA_FILE))?;
        if authorities.len() > AUTHORITIES_MAX {
            let what = format!("more than {AUTHORITIES_MAX} authorities");
            return Err(content(&at(CA_FILE), what));
        }
        let (chain, own) = certificates(&at(CERTIFICATE_FILE))?;
        let key = private_key(&at(KEY_FILE))?;
        let mut roots = RootCertStore::empty();
        let mut trust_ends = i64::MAX;
        for authority in &authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| content(&at(CA_FILE), error.to_string()))?;
            trust_ends = trust_ends.min(end_of(authority, &at(CA_FILE))?);
        }
        let owner = owner(&chain[0], cluster).map_err(|error| LoadError::NotOurs {
            path: at(CERTIFICATE_FILE),
            id,
            what: match error {
                Unreadable::Malformed => "it can't be read".into(),
                Unreadable::Name(error) => error.to_string(),
            },
        })?;
        if owner.subject != Subject::Node(id) {
            return Err(LoadError::NotOurs {
                path: at(CERTIFICATE_FILE),
                id,
                what: format!("it is of {:?}", owner.subject),
            });
        }
        let no_pair = |error: rustls::Error| LoadError::NoPair {
            folder: folder.to_owned(),
            what: told(&error),
        };
        let configs = Configs {
            provider: Arc::new(ring::default_provider()),
            roots: Arc::new(roots),
            chain,
            key,
            id,
            cluster,
        };
        // First of all whether others will take it: as they judge it, so does this node.
        configs.judge_own().map_err(no_pair)?;
        let judge = |port| configs.judge(port).map_err(no_pair);
        let judges = [judge(Port::Peers)?, judge(Port::Clients)?];
        let [peers, clients] = &judges;
        Ok(Loaded {
            peers: configs.server(peers).map_err(no_pair)?,
            clients: configs.server(clients).map_err(no_pair)?,
            judges,
            dial: configs.client().map_err(no_pair)?,
            ends: time(owner.ends),
            trust_ends: time(trust_ends),
            files_crc32c: crc32c::crc32c_append(crc32c::crc32c(&trusted), &own),
        })
    }

    /// Judges a chain as whoever connects to a port is judged.
    pub(super) fn judge(
        &self,
        port: Port,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let judge = self.judges.iter().find(|judge| judge.port == port);
        let judge = judge.ok_or(rustls::Error::NoCertificatesPresented)?;
        judge
            .verify_client_cert(own, between, UnixTime::now())
            .map(drop)
    }
}

fn told(error: &rustls::Error) -> String {
    match super::Cause::of(error) {
        Some(super::Cause::UnknownAuthority) => {
            "node.pem was signed by nobody in ca.pem".to_owned()
        }
        Some(super::Cause::Expired) => "node.pem has ended".to_owned(),
        Some(super::Cause::NotYetValid) => {
            "node.pem is not valid yet: is this machine's clock wrong?".to_owned()
        }
        Some(super::Cause::WrongName) => {
            format!("node.pem can't be used by a node: {error}")
        }
        _ => match error {
            rustls::Error::InconsistentKeys(_) => "node.key is not the key of node.pem".to_owned(),
            other => other.to_string(),
        },
    }
}

/// What the three configurations have in common.
struct Configs<'a> {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    id: NodeId,
    cluster: &'a ClusterNames,
}

impl Configs<'_> {
    fn for_servers(&self) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(&self.provider));
        WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    /// Whether those who dial this node would take its certificate, and those whom it dials.
    fn judge_own(&self) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(self.cluster.dns_of(self.id))
            .map_err(|_| rustls::Error::General(NO_NAME.into()))?;
        let (own, between) = (&self.chain[0], &self.chain[1..]);
        let now = UnixTime::now();
        let for_servers = self.for_servers()?;
        for_servers.verify_server_cert(own, between, &name, &[], now)?;
        let for_clients = self.for_clients()?;
        for_clients.verify_client_cert(own, between, now).map(drop)
    }

    fn for_clients(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(&self.provider));
        WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn judge(&self, port: Port) -> Result<Arc<Verifier>, rustls::Error> {
        Ok(Arc::new(Verifier {
            chains: self.for_clients()?,
            port,
            own: self.id,
            cluster: self.cluster.clone(),
        }))
    }

    fn server(&self, judge: &Arc<Verifier>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let verifier = Arc::clone(judge);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Who comes back is judged again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn client(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_webpki_verifier(self.for_servers()?)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// HTTP/2.
const ALPN: &[u8] = b"h2";

/// The cluster's name is part of a node's.
pub(super) const NO_NAME: &str = "the cluster's name can't stand in a certificate: with TLS it begins \
    and ends with a letter or digit, and each '.' stands between two of them";

fn content(path: &Path, what: impl Into<String>) -> LoadError {
    LoadError::Content {
        path: path.to_owned(),
        what: what.into(),
    }
}

/// Those that a file holds, and its text.
fn certificates(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), LoadError> {
    let (text, _) = read(path)?;
    let mut certificates = Vec::new();
    for item in CertificateDer::pem_slice_iter(&text) {
        let item = item.map_err(|error| content(path, format!("it is no PEM: {error:?}")))?;
        certificates.push(item);
    }
    match certificates.is_empty() {
        true => Err(content(path, "it holds no certificate")),
        false => Ok((certificates, text)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    let (text, metadata) = read(path)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(LoadError::KeyIsOpen { path, mode });
    }
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != own && owner != 0 {
        let path = path.to_owned();
        return Err(LoadError::KeyOfAnother { path, owner, own });
    }
    // Nothing of what stands there may be told.
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| content(path, "it holds no private key (PKCS #8)"))
}

/// The whole of a file, which is looked at after it was opened: nobody can put another in its place.
fn read(path: &Path) -> Result<(Vec<u8>, Metadata), LoadError> {
    let failed = |error| LoadError::Read {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut text = Vec::new();
    let mut bounded = file.take(FILE_BYTES_MAX + 1);
    bounded.read_to_end(&mut text).map_err(failed)?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(content(path, "it is too long")),
        false => Ok((text, metadata)),
    }
}

fn end_of(certificate: &CertificateDer<'_>, path: &Path) -> Result<i64, LoadError> {
    let read = X509Certificate::from_der(certificate);
    let (_, read) = read.map_err(|_| content(path, "a certificate can't be read"))?;
    Ok(read.validity().not_after.timestamp())
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What tells one state of the files from another, without reading them.
pub(super) fn look(folder: &Path) -> Vec<Option<(u64, i64, i64, u64)>> {
    let one = |name: &&str| {
        let metadata = fs::metadata(folder.join(name)).ok()?;
        Some((
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.size(),
        ))
    };
    FILES.iter().map(one).collect()
}
