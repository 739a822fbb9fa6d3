//! What the verbs do to a cluster, as a library: nothing here prints, asks or exits.

use std::sync::Arc;

use crate::cluster::Cluster;

/// A cluster to work on.
#[derive(Clone)]
pub struct Context {
    /// What it is to be.
    pub cluster: Arc<Cluster>,
}
