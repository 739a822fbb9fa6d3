//! `add`, `remove`, `replace`: one change of members, without an editor.
//!
//! Each writes in cluster.yaml what an operator would, and does what `up` does about it: so whatever interrupts it, `up`
//! goes on. Nothing is written before it is clear that the change can be made.

mod purge;

use std::path::Path;

use crate::cluster::{self, Cluster, Node, NodeId, Provider, edit};
use crate::error::{Error, Result};
use crate::local::binary;
use crate::local::state_files;
use crate::ops::{Context, facts, target};
use crate::plan::Facts;
use crate::plan::change::{too_few, used_ids};
use crate::plan::membership::Membership;
use crate::providers;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::verbs::provision::{self, Wanted};
use crate::verbs::up;

/// Where a node is to be.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Place {
    /// The host it is to run on (provider ssh)
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The port of the host's SSH server (provider ssh)
    #[arg(long, value_name = "PORT")]
    pub ssh_port: Option<u16>,
    /// The zone of its machine (provider gcp)
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
}

/// What `add` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Add {
    /// Its id [default: the next one that no node has had]
    #[arg(value_name = "ID")]
    pub id: Option<NodeId>,
    #[command(flatten)]
    pub place: Place,
    /// Print the steps and the new line of cluster.yaml, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What `remove` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Remove {
    /// The nodes, by id
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<NodeId>,
    /// Delete their files as well, when they have left; also those of nodes that left before
    #[arg(long)]
    pub purge: bool,
    /// Print the steps and the new line of cluster.yaml, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What `replace` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Replace {
    /// The node that goes
    #[arg(value_name = "ID")]
    pub id: NodeId,
    /// The id of the node that comes [default: the next one that no node has had]
    #[arg(long = "with", value_name = "ID")]
    pub with: Option<NodeId>,
    #[command(flatten)]
    pub place: Place,
    /// Print the steps and the new line of cluster.yaml, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    /// A node comes.
    Add(Add),
    /// Nodes go.
    Remove(Remove),
    /// A node goes, and another comes.
    Replace(Replace),
}

impl Change {
    fn place(&self) -> Option<&Place> {
        match self {
            Change::Add(add) => Some(&add.place),
            Change::Remove(_) => None,
            Change::Replace(replace) => Some(&replace.place),
        }
    }

    fn is_dry(&self) -> bool {
        match self {
            Change::Add(add) => add.dry_run,
            Change::Remove(remove) => remove.dry_run,
            Change::Replace(replace) => replace.dry_run,
        }
    }

    /// The nodes as they are to be.
    fn nodes(&self, cluster: &Cluster, known: &Membership) -> Result<Vec<Node>> {
        let mut nodes = cluster.nodes.clone();
        let there = |id: &NodeId| {
            let found = cluster.nodes.iter().find(|node| node.id == *id);
            found.cloned().ok_or_else(|| {
                let ids = cluster::list(&cluster.ids());
                Error::Usage(format!(
                    "there is no node {id} in cluster.yaml, which has {ids}"
                ))
            })
        };
        let next = || next_id(cluster, known);
        match self {
            Change::Add(add) => {
                let id = add.id.unwrap_or_else(next);
                if there(&id).is_ok() {
                    return Err(Error::Usage(format!(
                        "node {id} is in cluster.yaml already; choose another id, or leave it out"
                    )));
                }
                nodes.push(placed(id, &add.place));
            }
            Change::Remove(remove) => {
                for id in remove.ids.iter().filter(|_| !remove.purge) {
                    there(id)?;
                }
                nodes.retain(|node| !remove.ids.contains(&node.id));
            }
            Change::Replace(replace) => {
                let old = there(&replace.id)?;
                let id = replace.with.unwrap_or_else(next);
                if there(&id).is_ok() {
                    return Err(Error::Usage(format!(
                        "node {id} is in cluster.yaml already; choose another id, or leave `--with` out"
                    )));
                }
                nodes.retain(|node| node.id != replace.id);
                let mut new = placed(id, &replace.place);
                // It takes the other's place, unless it is told another one.
                new.zone = new.zone.or(old.zone);
                nodes.push(new);
            }
        }
        nodes.sort_by_key(|node| node.id);
        Ok(nodes)
    }
}

fn placed(id: NodeId, place: &Place) -> Node {
    Node {
        id,
        host: place.host.clone(),
        ssh_port: place.ssh_port,
        zone: place.zone.clone(),
        ..Node::default()
    }
}

/// The next id that no node has had.
fn next_id(cluster: &Cluster, known: &Membership) -> NodeId {
    let used = known.retired.iter().chain(known.members.keys());
    let ids = cluster.ids();
    used.chain(&ids).max().map_or(1, |id| id + 1)
}

/// Makes one change, in cluster.yaml and in the cluster; and deletes what whoever left has left, if that was asked for.
///
/// # Errors
/// The change can't be made: then nothing has changed. Else as of `up`.
pub async fn run(
    config: &Path,
    cluster: Cluster,
    options: &Options,
    change: &Change,
) -> Result<()> {
    match change {
        Change::Remove(remove) if remove.purge => {
            Box::pin(purge::run(config, cluster, options, remove)).await
        }
        _ => make(config, cluster, options, change).await,
    }
}

async fn make(config: &Path, cluster: Cluster, options: &Options, change: &Change) -> Result<()> {
    let place = change.place();
    if place.is_some_and(|place| place.zone.is_some()) && cluster.provider != Provider::Gcp {
        return Err(Error::Usage("--zone is for provider gcp".into()));
    }
    let context = Context::look(cluster, false).await?;
    let facts = facts::gather(&context).await?;
    let known = leading(&facts)?;
    let nodes = change.nodes(&context.cluster, known)?;
    // Whoever leaves was in the file, even if nobody has run `up` in this folder.
    context.remember_nodes()?;
    refuse(&facts, known, &nodes)?;
    let (text, changed) = edited(config, &context.cluster, &nodes)?;
    let binary = binary::locate(&changed)?;
    if !changed.provider.makes_hosts() {
        let then = Context::look(changed.clone(), false).await?;
        let facts = facts::gather_workable(&then, false).await?;
        target::steps(&then, &binary, &facts)?;
    }
    if change.is_dry() {
        say_new(config, options, "would have", &nodes, "");
        if let Some(cluster) = provision::provision(changed, options, Wanted::Plan).await? {
            let context = Context::look(cluster, false).await?;
            return up::plan(&context, options).await;
        }
        return Ok(());
    }
    write(config, &text)?;
    say_new(config, options, "has", &nodes, " now");
    match provision::provision(changed, options, Wanted::Up).await? {
        Some(cluster) => {
            let context = Context::look(cluster, true).await?;
            up::up(&context, options, false).await
        }
        None => Ok(()),
    }
}

/// Who belongs to the cluster, as its leader says.
fn leading(facts: &Facts) -> Result<&Membership> {
    facts.membership.as_ref().ok_or_else(|| {
        Error::NoLeader(
            "there is no leader, and without one the members of a cluster can't change; look at \
             `raftctl status` and `raftctl doctor`"
                .into(),
        )
    })
}

fn say_new(config: &Path, options: &Options, has: &str, nodes: &[Node], end: &str) {
    if options.output == Output::Text {
        let line = edit::line_of(nodes);
        out::say(&format!("{} {has} {line}{end}", config.display()));
    }
}

/// The cluster with another node in the place of each that can't stay what it is with cluster.yaml as it is: with
/// provider gcp one whose zone is another, because its disk can't follow. That is written there, unless `is_dry`;
/// most often there is none.
///
/// # Errors
/// The change can't be made: then nothing has changed.
pub async fn with_moves(
    config: &Path,
    cluster: Cluster,
    options: &Options,
    is_dry: bool,
) -> Result<Cluster> {
    let moved = providers::moved(&cluster)?;
    if moved.is_empty() {
        return Ok(cluster);
    }
    let led = |error: Error| {
        error.advise(format!(
            "{} can't stay with cluster.yaml as it is (another zone, say), and without a leader no other node can come: \
             put that back, run `raftctl up`, then change it",
            cluster::list(&moved)
        ))
    };
    let context = Context::look(cluster, false).await.map_err(led)?;
    let facts = facts::gather(&context).await.map_err(led)?;
    let known = leading(&facts).map_err(led)?;
    let mut nodes = context.cluster.nodes.clone();
    let free = next_id(&context.cluster, known)..;
    let moving = nodes.iter_mut().filter(|node| moved.contains(&node.id));
    for (node, id) in moving.zip(free) {
        out::say(&format!(
            "node {} is to be in another zone, and a disk can't move: node {id} comes in its place",
            node.id
        ));
        node.id = id;
    }
    nodes.sort_by_key(|node| node.id);
    context.remember_nodes()?;
    refuse(&facts, known, &nodes)?;
    let (text, changed) = edited(config, &context.cluster, &nodes)?;
    if is_dry {
        say_new(config, options, "would have", &nodes, "");
        return Ok(changed);
    }
    write(config, &text)?;
    say_new(config, options, "has", &nodes, " now");
    Ok(changed)
}

/// What would be wrong with the change, as the cluster is now: what is dead is not started for it.
fn refuse(facts: &Facts, known: &Membership, nodes: &[Node]) -> Result<()> {
    if nodes.is_empty() {
        return Err(Error::Usage(
            "no node would be left; `raftctl down` ends a cluster".into(),
        ));
    }
    let wanted: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let comes = |id: &NodeId| !known.members.contains_key(id);
    let lives = |id: NodeId| facts.runs(id) || comes(&id);
    let refused = used_ids(known, &wanted).or_else(|| too_few(known, &wanted, lives));
    refused.map_or(Ok(()), |text| Err(Error::Usage(text)))
}

/// The text of cluster.yaml with these nodes, and what it means: nothing but the nodes may differ.
fn edited(config: &Path, before: &Cluster, nodes: &[Node]) -> Result<(String, Cluster)> {
    let by_hand = |why: &str| {
        Error::Usage(format!(
            "{why}: write `{}` there yourself, then run `raftctl up`",
            edit::line_of(nodes)
        ))
    };
    if config == Path::new("-") {
        return Err(by_hand(
            "cluster.yaml comes from standard input, and can't be changed there",
        ));
    }
    let text = cluster::read_text(config)?;
    let edited = edit::with_nodes(&text, nodes);
    let name = config.display();
    let edited = edited.ok_or_else(|| {
        by_hand(&format!(
            "the nodes in {name} are written in a way that raftctl does not change"
        ))
    })?;
    let changed = cluster::from_text(&edited, config)?;
    let same = |cluster: &Cluster| (cluster.name.clone(), cluster.provider, cluster.ports.peer);
    if without_defaults(&changed, before) != nodes || same(&changed) != same(before) {
        return Err(by_hand(&format!("{name} can't be changed without damage")));
    }
    Ok((edited, changed))
}

/// The nodes of a cluster, without what `ports` says of all of them.
fn without_defaults(changed: &Cluster, before: &Cluster) -> Vec<Node> {
    let known = |id: NodeId| before.nodes.iter().find(|node| node.id == id);
    let nodes = changed.nodes.iter().cloned();
    let own = |node: Node| Node {
        listen: node.listen.filter(|_| known(node.id).is_some()),
        ..node
    };
    nodes.map(own).collect()
}

/// Through a link to the file itself.
fn write(config: &Path, text: &str) -> Result<()> {
    let path =
        std::fs::canonicalize(config).map_err(|error| Error::file("write", config, &error))?;
    let mode = std::fs::metadata(&path).map(|file| file.permissions());
    state_files::replace(&path, text)?;
    if let Ok(mode) = mode {
        // It is as whoever made it wanted it; a mode that can't be kept hinders nobody.
        drop(std::fs::set_permissions(&path, mode));
    }
    Ok(())
}
