//! The keys and certificates of the nodes of one host.

use std::time::Duration;

use super::control::run;
use super::inventory::Host;
use crate::cluster::NodeId;
use crate::error::Result;
use crate::scripts::certificates::{self, Ask, Install};
use crate::transport::Request;

/// What a node asks for, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// A request for a certificate, as PEM.
    pub request: String,
    /// Its certificate; empty where it has none.
    pub certificate: String,
    /// Whom it trusts; empty where it has nothing yet.
    pub trusted: String,
}

/// Has nodes ask for certificates; each makes its key, unless it has one.
///
/// # Errors
/// The host can't be reached, or its raft-node can't do that.
pub async fn request(
    host: &Host,
    ids: &[NodeId],
    ask: &Ask<'_>,
    deadline: Duration,
) -> Result<Vec<(NodeId, Asked)>> {
    let script = certificates::request(&host.layouts(ids), ask);
    let request = Request::new("make the keys of nodes", &script, deadline);
    let answer = run(host, request).await?;
    let one = |id: &NodeId| {
        let name = id.to_string();
        let text = |key: &str| answer.text(&name, key);
        // Without it nothing can be signed: the script has said why.
        answer.one(&name, "request")?;
        let asked = Asked {
            request: text("request"),
            certificate: text("certificate"),
            trusted: text("trusted"),
        };
        Ok((*id, asked))
    };
    ids.iter().map(one).collect()
}

/// Gives nodes their certificates.
///
/// # Errors
/// The host can't be reached, or a file can't be written.
pub async fn install(host: &Host, nodes: &[Install], deadline: Duration) -> Result<()> {
    let script = certificates::install(nodes);
    let request = Request::new("give nodes their certificates", &script, deadline);
    run(host, request).await.map(drop)
}
