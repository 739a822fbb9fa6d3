//! `raft-node certificate-request`: a node's key is made where the node runs, and stays there.

use super::files::{KEY_FILE, NO_NAME};
use crate::access::{ClusterNames, node_uri};
use crate::raft::NodeId;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::ServerName;

/// Longest key that is read, in bytes of PEM.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// A request for a certificate.
#[derive(Debug)]
pub struct Request {
    /// As PEM, for whoever signs it.
    pub pem: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The folder or the key can't be read or made.
    #[error("cannot {what} {}: {error}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The key that is there is of no use.
    #[error("{}: it holds no private key that can be used; move it away, and a new one is made", .0.display())]
    Key(PathBuf),
    /// The cluster's name can't be part of one.
    #[error("{NO_NAME}")]
    Name,
    /// The key can't be used to ask with.
    #[error("cannot make the request: {0}")]
    Encode(rcgen::Error),
}

impl Request {
    /// Takes the key of a folder, or makes one where there is none (mode 0600), and asks for a
    /// certificate for it.
    pub fn make(folder: &Path, id: NodeId, cluster: &ClusterNames) -> Result<Self, RequestError> {
        let dns = [cluster.dns_of(id), cluster.dns_of_any()];
        if dns
            .iter()
            .any(|name| ServerName::try_from(&**name).is_err())
        {
            return Err(RequestError::Name);
        }
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |error| RequestError::File { what, path, error }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(file("make", folder))?;
        let path = folder.join(KEY_FILE);
        let key = match read_key(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|_| RequestError::Key(path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(RequestError::Encode)?;
                let written = write_key(folder, &path, &key.serialize_pem());
                written.map_err(file("write", &path))?;
                key
            }
            Err(error) => return Err(file("read", &path)(error)),
        };
        let mut params = CertificateParams::default();
        let name = match &*cluster.id {
            "" => &cluster.name,
            id => id,
        };
        let who = format!("node {id} of {}", cluster.name);
        params.distinguished_name.push(DnType::CommonName, who);
        let text = |text: String| text.try_into().map_err(RequestError::Encode);
        params.subject_alt_names = vec![SanType::URI(text(node_uri(name, id))?)];
        for name in dns {
            params.subject_alt_names.push(SanType::DnsName(text(name)?));
        }
        let request = params.serialize_request(&key);
        let pem = request.and_then(|request| request.pem());
        Ok(Request {
            pem: pem.map_err(RequestError::Encode)?,
        })
    }
}

fn read_key(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(KEY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The key appears whole or not at all, and nobody else may read it at any moment.
fn write_key(folder: &Path, path: &Path, pem: &str) -> io::Result<()> {
    let partial = folder.join(format!("{KEY_FILE}.{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&partial, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(opened);
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)
}
