//! Hosts as containers on this machine: made by raftctl, reached through SSH like any others. The
//! rehearsal of a cloud on a laptop.
//!
//! The `docker` command makes them, not a client of the engine's API: it brings the operator's own
//! contexts, remote engines and credentials, it is what an operator can try by hand when something
//! fails, Podman has one of the same name, and no code of ours has to follow the API's versions.
//!
//! Containers, network and image carry labels; whatever does not carry this cluster's is never
//! touched. Containers are reached at their own addresses, which Linux routes to. Their nodes know
//! each other by the containers' names, which stay as they are when addresses change; so the
//! address in a leader hint means something in the cluster's network only.
//!
//! Deliberately absent: ports published on this machine, volumes. Data lives in the containers and
//! goes with them.

mod engine;
mod inventory;

pub use inventory::{open, reach};

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::gcp::key;
use super::ssh::{login, place};
use crate::cluster::{Cluster, NodeId, state_dir};
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::keep;
use engine::Engine;

const DOCKERFILE: &str = include_str!("Dockerfile");
/// What the image is built on, where cluster.yaml names nothing else.
const BASE_DEFAULT: &str = "debian:bookworm-slim";

/// The label that names the cluster.
const CLUSTER: &str = "raftctl.cluster";
/// The label that names the folder of its cluster.yaml: two clusters of a name stay apart.
const FOLDER: &str = "raftctl.folder";
/// The label that names the node.
const NODE: &str = "raftctl.node";

/// How long a container may take to let someone log in.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A container of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub is_running: bool,
    /// Its address in the cluster's network, while it runs.
    pub address: Option<String>,
}

/// Something that has to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Build the image of this name on a base image.
    Build {
        /// The image.
        image: String,
        /// The base image.
        base: String,
    },
    /// Make the network of this name.
    Network(String),
    /// Make and start the container of a node.
    Create(NodeId),
    /// Start the container of a node, which is there.
    Start(NodeId),
}

impl std::fmt::Display for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Build { image, base } => write!(formatter, "build image {image} on {base}"),
            Change::Network(name) => write!(formatter, "make network {name}"),
            Change::Create(id) => write!(formatter, "make a container for node {id}"),
            Change::Start(id) => write!(formatter, "start the container of node {id}"),
        }
    }
}

/// What is missing so that every node has a container that runs. Nothing is ever removed here: a
/// container holds a member's log.
///
/// # Errors
/// The engine does not answer; there are containers of nodes that cluster.yaml does not have; or a
/// name is taken by a container that is not the cluster's.
pub fn plan(cluster: &Cluster) -> Result<Vec<Change>> {
    let engine = Engine::find()?;
    let containers = containers(cluster, &engine)?;
    refuse_strays(cluster, &containers)?;
    let mut changes = Vec::new();
    let is_missing = |id: &NodeId| !containers.iter().any(|container| container.node == *id);
    let missing: Vec<NodeId> = cluster.ids().into_iter().filter(is_missing).collect();
    let image = image(cluster);
    if !missing.is_empty() {
        refuse_taken_names(cluster, &engine, &missing)?;
        if !engine.has("image", &image)? {
            let base = base(cluster).to_owned();
            changes.push(Change::Build { image, base });
        }
        let network = network(cluster);
        if !engine.has("network", &network)? {
            changes.push(Change::Network(network));
        }
    }
    changes.extend(missing.into_iter().map(Change::Create));
    let stopped = containers.iter().filter(|container| !container.is_running);
    changes.extend(stopped.map(|container| Change::Start(container.node)));
    Ok(changes)
}

/// A member can't leave a cluster by leaving cluster.yaml.
fn refuse_strays(cluster: &Cluster, containers: &[Container]) -> Result<()> {
    let ids = cluster.ids();
    let strays = containers
        .iter()
        .filter(|container| !ids.contains(&container.node));
    let strays: Vec<&str> = strays.map(|container| container.name.as_str()).collect();
    if strays.is_empty() {
        return Ok(());
    }
    let name = &cluster.name;
    Err(Error::Usage(format!(
        "cluster {name} has containers of nodes that are not in cluster.yaml: {}; entries that were \
         acknowledged could be lost without them: write the nodes as they were, or delete the whole \
         cluster with `raftctl down` and make another",
        strays.join(", ")
    )))
}

fn refuse_taken_names(cluster: &Cluster, engine: &Engine, missing: &[NodeId]) -> Result<()> {
    for id in missing {
        let name = container_name(cluster, *id);
        if engine.has("container", &name)? {
            return Err(Error::Usage(format!(
                "there is a container {name} already, which is not of this cluster.yaml (`docker \
                 inspect {name}` tells more): give the cluster another `name`, or remove that"
            )));
        }
    }
    Ok(())
}

/// Makes what a plan says is missing, and waits until every container lets raftctl log in. Their
/// host keys are asked of the engine, so that the first login is verified, too.
///
/// # Errors
/// The engine refuses; what was made stays, and the next plan goes on from there.
pub async fn make(cluster: &Cluster, changes: &[Change], say: impl Fn(&str)) -> Result<()> {
    let engine = Engine::find()?;
    let key = key::ensure(&cluster.state_dir(), &cluster.name).await?;
    for change in changes {
        say(&change.to_string());
        apply(cluster, &engine, &key.public, change)?;
    }
    let containers = containers(cluster, &engine)?;
    let mut known = String::new();
    for container in &containers {
        // The others come up without one that does not: whoever needs it is told again.
        let Some(address) = container.address.as_deref() else {
            say(&not_in_network(cluster, container));
            continue;
        };
        if let Err(error) = wait_until_up(&engine, container) {
            say(&error.to_string());
            continue;
        }
        let file = "/etc/ssh/ssh_host_ed25519_key.pub";
        let key = engine.run(&["exec", &container.name, "cat", file])?;
        let words: Vec<&str> = key.split_whitespace().take(2).collect();
        known.push_str(&format!("{address} {}\n", words.join(" ")));
    }
    let path = login::known_hosts(&cluster.state_dir());
    if std::fs::read_to_string(&path).is_ok_and(|old| old == known) {
        return Ok(());
    }
    std::fs::write(&path, known).map_err(|error| Error::file("write", &path, &error))
}

fn apply(cluster: &Cluster, engine: &Engine, public_key: &str, change: &Change) -> Result<()> {
    let labels = labels(cluster);
    match change {
        Change::Build { image, base } => {
            let base = format!("BASE={base}");
            let mut flags = vec!["--tag", image, "--build-arg", &base];
            flags.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
            engine.build(&flags, DOCKERFILE, cluster.limits.total)
        }
        Change::Network(name) => {
            let mut words = vec!["network", "create"];
            words.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
            words.push(name);
            engine.run(&words).map(drop)
        }
        Change::Create(id) => {
            let (name, host) = (container_name(cluster, *id), format!("n{id}"));
            let (network, image) = (network(cluster), image(cluster));
            let (key, node) = (format!("RAFTCTL_KEY={public_key}"), format!("{NODE}={id}"));
            let mut words = vec![
                "run",
                "--detach",
                "--init",
                "--name",
                &name,
                "--hostname",
                &host,
            ];
            words.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
            words.extend(["--label", &node, "--network", &network, "--env", &key]);
            // For the packet filter, inside the container's own network namespace.
            words.extend(["--cap-add", "NET_ADMIN", &image]);
            engine.run(&words).map(drop)
        }
        Change::Start(id) => {
            let name = container_name(cluster, *id);
            match engine.run(&["start", &name]) {
                Err(Error::Cloud(text)) if text.contains("paused") => {
                    engine.run(&["unpause", &name]).map(drop)
                }
                other => other.map(drop),
            }
        }
    }
}

/// Removes the containers and the network of a cluster, and with `all` the image, if this cluster
/// had it built; what was removed.
///
/// # Errors
/// The engine refuses.
pub fn remove(cluster: &Cluster, all: bool) -> Result<Vec<String>> {
    let engine = Engine::find()?;
    let mut removed = Vec::new();
    for container in containers(cluster, &engine)? {
        engine.run(&["rm", "--force", "--volumes", &container.name])?;
        removed.push(format!("container {}", container.name));
    }
    let network = network(cluster);
    if engine.is_labelled("network", &network, &labels(cluster))? {
        engine.run(&["network", "rm", &network])?;
        removed.push(format!("network {network}"));
    }
    let image = image(cluster);
    if all && engine.is_labelled("image", &image, &labels(cluster))? {
        // Another cluster may use it: then the engine refuses, and it stays.
        if engine.run(&["image", "rm", &image]).is_ok() {
            removed.push(format!("image {image}"));
        }
    }
    Ok(removed)
}

/// The folders whose cluster.yaml made containers for a cluster of the same name.
///
/// # Errors
/// The engine does not answer.
pub fn namesakes(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let [name, own] = labels(cluster);
    let all = Engine::find()?.inspect(&[format!("label={name}")])?;
    let folders = all
        .into_iter()
        .filter_map(|mut container| container.labels.remove(FOLDER));
    Ok(folders
        .filter(|folder| own != format!("{FOLDER}={folder}"))
        .collect())
}

/// Containers of raftctl that no folder knows of any more: neither is there a cluster.yaml in the one
/// that made them (it may have another name), nor what is kept of their cluster.
///
/// # Errors
/// The engine does not answer.
pub fn orphans() -> Result<Vec<String>> {
    let engine = Engine::find()?;
    // Whatever is made from an image has the image's labels, but this one.
    let all = engine.inspect(&[format!("label={NODE}")])?;
    let is_orphan = |container: &&engine::Inspected| {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let (Some(folder), Some(cluster)) = (label(FOLDER), label(CLUSTER)) else {
            return true;
        };
        let folder = Path::new(folder);
        !folder.join("cluster.yaml").exists() && !state_dir(folder, cluster).exists()
    };
    Ok(all
        .iter()
        .filter(is_orphan)
        .map(|container| container.name.clone())
        .collect())
}

/// Forgets what belongs to containers that are gone: their keys, and the key to them.
///
/// # Errors
/// A file can't be deleted.
pub fn forget(cluster: &Cluster) -> Result<()> {
    let folder = cluster.state_dir();
    let key = format!("{}.pub", key::FILE);
    for name in [key::FILE, &key, "known_hosts", "ssh_config"] {
        keep::forget(&folder.join(name))?;
    }
    place::forget(&folder)
}

fn containers(cluster: &Cluster, engine: &Engine) -> Result<Vec<Container>> {
    let filters: Vec<String> = labels(cluster)
        .iter()
        .map(|label| format!("label={label}"))
        .collect();
    let network = network(cluster);
    let found = engine
        .inspect(&filters)?
        .into_iter()
        .filter_map(|inspected| {
            Some(Container {
                node: inspected.labels.get(NODE)?.parse().ok()?,
                address: inspected
                    .addresses
                    .get(&network)
                    .filter(|text| !text.is_empty())
                    .cloned(),
                name: inspected.name,
                is_running: inspected.is_running,
            })
        });
    let mut found: Vec<Container> = found.collect();
    found.sort_by_key(|container| container.node);
    Ok(found)
}

/// What to do about a container that was taken out of the cluster's network.
fn not_in_network(cluster: &Cluster, container: &Container) -> String {
    let (network, name) = (network(cluster), &container.name);
    format!(
        "container {name} runs, but is not in the network {network}; `docker network connect {network} \
         {name}` puts it back"
    )
}

fn labels(cluster: &Cluster) -> [String; 2] {
    let folder = std::path::absolute(&cluster.directory).unwrap_or(cluster.directory.clone());
    [
        format!("{CLUSTER}={}", cluster.name),
        format!("{FOLDER}={}", folder.display()),
    ]
}

fn base(cluster: &Cluster) -> &str {
    cluster.docker.image.as_deref().unwrap_or(BASE_DEFAULT)
}

/// Named after all that goes into it, so that it is built again only when that changes.
fn image(cluster: &Cluster) -> String {
    let digest = Sha256::digest(format!("{}\n{DOCKERFILE}", base(cluster)));
    format!("raftctl-host:{}", hex(&digest[..6]))
}

fn network(cluster: &Cluster) -> String {
    format!("raftctl-{}", cluster.name)
}

fn container_name(cluster: &Cluster, id: NodeId) -> String {
    format!("raftctl-{}-{id}", cluster.name)
}

fn wait_until_up(engine: &Engine, container: &Container) -> Result<()> {
    let give_up = Instant::now() + UP_WITHIN;
    let address = container
        .address
        .as_deref()
        .and_then(|text| text.parse().ok());
    let is_up = || {
        let address = SocketAddr::new(address?, 22);
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
    };
    while is_up().is_none() {
        if Instant::now() > give_up {
            let said = engine
                .run(&["logs", "--tail", "5", &container.name])
                .unwrap_or_default();
            return Err(Error::Cloud(format!(
                "container {} does not let anyone log in: {said}; look at `docker logs {0}`",
                container.name
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
