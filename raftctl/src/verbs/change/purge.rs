//! `remove --purge`: nodes leave, and their files with them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Change, Remove, make};
use crate::cluster::{self, Cluster, Node, NodeId, Provider, list};
use crate::error::{Error, Result};
use crate::local::known_nodes;
use crate::ops::Context;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::confirm;

/// Has nodes leave that are in cluster.yaml, and deletes their files and those of nodes that left before. What is
/// interrupted goes on when it is run again.
///
/// # Errors
/// One of them is nobody that is known here. The operator did not confirm. A node can't leave, or is a member after all. Files
/// are still there: each is named.
pub async fn run(
    config: &Path,
    cluster: Cluster,
    options: &Options,
    remove: &Remove,
) -> Result<()> {
    let places = places(&cluster, &remove.ids)?;
    let own = cluster.ids();
    let leaving = remove.ids.iter().copied().filter(|id| own.contains(id));
    let leaving: Vec<NodeId> = leaving.collect();
    let files = format!("the files of {}", list(&remove.ids));
    if !remove.dry_run {
        let (name, what) = (
            &cluster.name,
            format!("{files} of cluster {}", cluster.name),
        );
        let question =
            format!("This deletes {what}, for good. Write the cluster's name to go on: ");
        confirm::ask("remove", name, options, &what, &question).await?;
    }
    let after = match leaving.is_empty() {
        true => cluster,
        false => {
            let change = Change::Remove(Remove {
                ids: leaving,
                purge: false,
                dry_run: remove.dry_run,
            });
            make(config, cluster.clone(), options, &change).await?;
            match remove.dry_run {
                true => cluster,
                false => cluster::from_text(&cluster::read_text(config)?, config)?,
            }
        }
    };
    if remove.dry_run {
        out::say(&format!("then {files} would be deleted"));
        return Ok(());
    }
    delete(after, options, places, &files).await
}

/// Where the nodes are, or were: as cluster.yaml says, or as was remembered when they left.
fn places(cluster: &Cluster, ids: &[NodeId]) -> Result<BTreeMap<NodeId, Node>> {
    let state_dir = cluster.state_dir();
    let mut known = known_nodes::left(&state_dir);
    known.extend(known_nodes::load(&state_dir));
    if cluster.provider == Provider::Local {
        for id in known_nodes::with_files_here(&state_dir) {
            known.entry(id).or_insert(Node {
                id,
                ..Node::default()
            });
        }
    }
    known.extend(cluster.nodes.iter().map(|node| (node.id, node.clone())));
    let place = |id: &NodeId| {
        let found = known.remove(id).map(|node| (*id, node));
        found.ok_or_else(|| {
            Error::Usage(format!(
                "there is no node {id} in cluster.yaml, and none that left from here: where its files are is not known. \
                 On its host they are in the folder of the cluster, logs_node_{id}"
            ))
        })
    };
    ids.iter().map(place).collect()
}

async fn delete(
    cluster: Cluster,
    options: &Options,
    places: BTreeMap<NodeId, Node>,
    files: &str,
) -> Result<()> {
    // Where raftctl makes the hosts, they went with all that was on them.
    if cluster.provider.makes_hosts() {
        return Ok(());
    }
    let progress = Progress::new();
    let ids: Vec<NodeId> = places.keys().copied().collect();
    let context = Context::look(cluster, false).await?;
    let own = context.cluster.ids();
    let others = places.into_values().filter(|node| !own.contains(&node.id));
    let all = context.with_nodes(others.collect()).await?;
    let step = progress.begin(&format!("delete {files}"));
    all.locked("remove", &progress, all.purge_left(&ids))
        .await?;
    step.done();
    if options.output == Output::Text {
        out::say(&format!("{files} are deleted"));
    }
    Ok(())
}
