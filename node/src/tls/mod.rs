//! TLS 1.3 on every connection: who may connect at all, and who it then is.
//!
//! A folder holds `ca.pem` (whom to trust, one or more), `node.pem` and `node.key`. Both ports and the
//! dialing of peers use the same pair. Chains are judged by webpki; on top of that the name in the
//! certificate decides (see [`access`](crate::access)): the port for peers takes nodes of this cluster
//! alone, the port for clients takes roles alone.
//!
//! The files are looked at once a second. A pair that fits is taken at once, for whoever connects from
//! then on; one that does not is told of, and the last good pair stays (`watch`).
//!
//! Deliberately absent: TLS 1.2, tickets and resumption (every connection is judged in full), lists of
//! revoked certificates (they are short-lived, and the authority can be changed).

mod certificate;
mod dial;
mod door;
mod files;
mod refused;
mod verifier;
mod watch;

pub use certificate::{Request, RequestError};
pub use dial::{Dial, Dialed};
pub use door::{Admitted, Door, Stream};

pub use files::LoadError;
pub use refused::Cause;

use crate::access::ClusterNames;
use crate::dump::Dump;
use crate::metrics::HandshakeFailures;
use crate::raft::NodeId;
use arc_swap::ArcSwap;
use files::Loaded;
use refused::Refusals;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch as channel;

/// What a node needs to know to speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where the three files are.
    pub folder: PathBuf,
    /// Whether clear text is spoken as well, while a cluster goes over to TLS.
    pub optional: bool,
}

/// The certificates of this node, as they are now.
#[derive(Debug)]
pub struct Tls {
    id: NodeId,
    cluster: ClusterNames,
    settings: TlsSettings,
    loaded: ArcSwap<Loaded>,
    /// Counts the pairs that were taken.
    generation: channel::Sender<u64>,
    /// Why the newest files are not in use.
    trouble: Mutex<Option<String>>,
    refusals: Refusals,
    dump: Dump,
}

impl Tls {
    /// Loads the files, which must be good at the start.
    pub fn load(
        id: NodeId,
        cluster: ClusterNames,
        settings: &TlsSettings,
        dump: &Dump,
    ) -> Result<Arc<Self>, LoadError> {
        let loaded = Loaded::read(&settings.folder, id, &cluster)?;
        Ok(Arc::new(Tls {
            id,
            cluster,
            settings: settings.clone(),
            loaded: ArcSwap::from_pointee(loaded),
            generation: channel::channel(0).0,
            trouble: Mutex::default(),
            refusals: Refusals::new(dump),
            dump: dump.clone(),
        }))
    }

    /// When the certificate ends that is in use.
    pub fn ends(&self) -> SystemTime {
        self.loaded.load().ends
    }

    /// When the first of the authorities that are trusted ends.
    pub fn trust_ends(&self) -> SystemTime {
        self.loaded.load().trust_ends
    }

    /// Checksum of `ca.pem` and `node.pem`, as they are in use.
    pub fn files_crc32c(&self) -> u32 {
        self.loaded.load().files_crc32c
    }

    /// Why the newest files are not in use; `None`: they are.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether clear text is spoken as well.
    pub fn is_optional(&self) -> bool {
        self.settings.optional
    }

    /// Gets word when another pair is in use.
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Handshakes that failed at this node's ports.
    pub fn failures(&self) -> Arc<HandshakeFailures> {
        self.refusals.failures()
    }

    fn folder(&self) -> &Path {
        &self.settings.folder
    }
}

#[cfg(test)]
mod tests;
