//! What the verbs print and ask, and how they end. What they do is in [`crate::ops`].

pub mod backup;
pub mod certs;
pub mod change;
pub mod check;
mod confirm;
mod docker;
pub mod doctor;
pub mod down;
mod gcp;
pub mod hosts;
pub mod init;
pub mod keys;
pub mod links;
pub mod logs;
mod membership;
mod node_report;
pub mod nodes;
pub mod provision;
pub mod recover;
pub mod restore;
pub mod shell;
pub mod snapshot;
pub mod status;
pub mod timeline;
pub mod top;
pub mod up;
pub mod upgrade;

use crate::cluster::NodeId;
use crate::cluster::select::{self, SelectError};
use crate::error::{Error, Result};
use crate::ops::Context;

/// The nodes that a selector names now.
///
/// # Errors
/// It names none, or it needs a leader and there is none.
pub async fn select(context: &Context, selector: &str) -> Result<Vec<NodeId>> {
    let ids = context.cluster.ids();
    let leader = if select::asks_for_leader(selector) {
        context.leader().await
    } else {
        None
    };
    select::select(selector, &ids, leader).map_err(|error| match error {
        // Nothing is wrong with the words: another time they name a node.
        SelectError::NoLeader(_) => Error::NoLeader(error.to_string()),
        wrong => Error::Usage(wrong.to_string()),
    })
}
