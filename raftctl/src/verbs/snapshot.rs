//! `snapshot`: nodes write their state down, cut their logs behind it, and tell its hash.

use std::collections::BTreeMap;

use raftkv::admin::TakeSnapshotReply;
use serde_json::json;

use crate::cluster::NodeId;
use crate::cluster::outcomes::{Outcomes, all_or_partial};
use crate::error::{Error, Result};
use crate::ops::Context;
use crate::plan::leader_last;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::select;

/// What `snapshot` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which nodes [default: all]
    #[arg(value_name = "NODES", default_value = "all", hide_default_value = true)]
    selector: String,
}

/// Has nodes take a snapshot, and compares those that are of the same entry.
///
/// # Errors
/// A node takes none; two have different states after the same entry.
pub async fn run(context: &Context, options: &Options, arguments: &Arguments) -> Result<()> {
    let mut ids = select(context, &arguments.selector).await?;
    leader_last(&mut ids, context.leader().await);
    let step = Progress::new().begin("take snapshots");
    let taken = context.take_snapshots(&ids, options.timeout).await;
    step.done();
    tell(options, &taken)?;
    let taken = all_or_partial(taken, "written down")?;
    compare(&taken)
}

/// After the same entry all nodes have the same state.
fn compare(taken: &BTreeMap<NodeId, TakeSnapshotReply>) -> Result<()> {
    let mut first: BTreeMap<u64, (NodeId, u32)> = BTreeMap::new();
    for (id, snapshot) in taken {
        let (other, hash) = *first.entry(snapshot.index).or_insert((*id, snapshot.hash));
        if hash != snapshot.hash {
            let (index, own) = (snapshot.index, snapshot.hash);
            return Err(Error::CheckFailed(format!(
                "nodes {other} and {id} have different states after entry {index}: {hash:08x} and \
                 {own:08x}; one of them is wrong: compare their snapshot.txt, and \
                 make the wrong one anew"
            )));
        }
    }
    Ok(())
}

fn tell(options: &Options, taken: &Outcomes<TakeSnapshotReply>) -> Result<()> {
    let done = taken
        .iter()
        .filter_map(|(id, one)| Some((id, one.as_ref().ok()?)));
    match options.output {
        Output::Json => {
            let one = |(id, one): (&NodeId, &TakeSnapshotReply)| {
                json!({
                    "id": id,
                    "index": one.index,
                    "term": one.term,
                    "hash": format!("{:08x}", one.hash),
                    "bytes": one.bytes,
                })
            };
            out::json(&json!({ "snapshots": done.map(one).collect::<Vec<_>>() }))
        }
        Output::Text => {
            let row = |(id, one): (&NodeId, &TakeSnapshotReply)| {
                vec![
                    id.to_string(),
                    one.index.to_string(),
                    one.term.to_string(),
                    format!("{:08x}", one.hash),
                    one.bytes.to_string(),
                ]
            };
            let rows: Vec<Vec<String>> = done.map(row).collect();
            match rows.is_empty() {
                true => Ok(()),
                false => out::print(&out::table(
                    &["NODE", "ENTRY", "TERM", "HASH", "BYTES"],
                    &rows,
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Nodes that were asked after different entries can't be compared; those with the same must agree.
    #[test]
    fn states_after_the_same_entry_are_compared() {
        let taken = |all: &[(NodeId, u64, u32)]| {
            let one = |(id, index, hash): &(NodeId, u64, u32)| {
                let (index, hash) = (*index, *hash);
                let reply = TakeSnapshotReply {
                    index,
                    hash,
                    ..TakeSnapshotReply::default()
                };
                (*id, reply)
            };
            compare(&all.iter().map(one).collect())
        };
        assert!(taken(&[(1, 7, 1), (2, 8, 2), (3, 7, 1)]).is_ok());
        let wrong = taken(&[(1, 7, 1), (2, 8, 2), (3, 7, 3)]).unwrap_err();
        assert_eq!(wrong.exit_code(), 40);
        assert!(wrong.to_string().contains("nodes 1 and 3"), "{wrong}");
    }
}
