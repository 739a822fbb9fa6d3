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
mod hosts;

pub use hosts::Docker;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, NodeId, state_dir};
use crate::error::{Error, Result};
use crate::local::{known_nodes, state_files};
use crate::providers::ssh::login_facts;
use crate::text::hex::hex;
use crate::transport::ssh::{key_pair, login};
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

/// How long one that listens may take to answer: on one machine that is next to nothing.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

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
    /// The network that it knows by the name of the cluster's.
    pub network_id: Option<String>,
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
    /// Put the container of a node, which is there, into the cluster's network.
    Connect(NodeId),
    /// Start the container of a node, which is there.
    Start(NodeId),
}

impl std::fmt::Display for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Change::Build { image, base } => write!(formatter, "build image {image} on {base}"),
            Change::Network(name) => write!(formatter, "make network {name}"),
            Change::Create(id) => write!(formatter, "make a container for node {id}"),
            Change::Connect(id) => {
                write!(formatter, "put the container of node {id} into the network")
            }
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
    }
    let network = network(cluster);
    let network_id = engine.id("network", &network)?;
    if network_id.is_none() {
        changes.push(Change::Network(network));
    }
    changes.extend(missing.into_iter().map(Change::Create));
    changes.extend(to_run(&containers, network_id.as_deref()));
    Ok(changes)
}

/// What it takes that containers run that are there. One that was left out of the network, or knows
/// another one of the same name that was removed since, would not start or could not be reached.
fn to_run(containers: &[Container], network_id: Option<&str>) -> Vec<Change> {
    // One that has an address there is in it, whatever the engine calls the network.
    let is_outside = |container: &&Container| {
        let is_another = network_id.is_none() || container.network_id.as_deref() != network_id;
        container.address.is_none() && is_another
    };
    let outside = containers.iter().filter(is_outside);
    let stopped = containers.iter().filter(|container| !container.is_running);
    let connect = outside.map(|container| Change::Connect(container.node));
    let start = stopped.map(|container| Change::Start(container.node));
    connect.chain(start).collect()
}

/// What raftctl does not remember may be a member, and nobody could say where: it is not made to leave.
fn refuse_strays(cluster: &Cluster, containers: &[Container]) -> Result<()> {
    let ids = cluster.ids();
    let known = known_nodes::load(&cluster.state_dir());
    let strays = containers
        .iter()
        .filter(|container| !ids.contains(&container.node) && !known.contains_key(&container.node));
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
    let key = key_pair::ensure(&cluster.state_dir(), &cluster.name).await?;
    for change in changes {
        say(&change.to_string());
        apply(cluster, &engine, &key.public, change)?;
    }
    let containers = containers(cluster, &engine)?;
    let mut known = String::new();
    for (container, up) in containers.iter().zip(wait_for_all(&engine, &containers)?) {
        // The others come up without one that does not: whoever needs it is told again.
        let Some(address) = container.address.as_deref() else {
            say(&not_in_network(cluster, container));
            continue;
        };
        if let Err(error) = up {
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
        Change::Connect(id) => {
            let (network, name) = (network(cluster), container_name(cluster, *id));
            // What it knows by that name may be gone: then there is nothing to leave.
            let _ = engine.run(&["network", "disconnect", "--force", &network, &name]);
            engine
                .run(&["network", "connect", &network, &name])
                .map(drop)
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

/// Removes the containers of nodes that left the cluster.
///
/// # Errors
/// The engine refuses.
pub fn remove_nodes(cluster: &Cluster, ids: &[NodeId]) -> Result<()> {
    let engine = Engine::find()?;
    for container in containers(cluster, &engine)? {
        if ids.contains(&container.node) {
            engine.run(&["rm", "--force", "--volumes", &container.name])?;
        }
    }
    Ok(())
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
    let key = format!("{}.pub", key_pair::FILE);
    for name in [key_pair::FILE, &key, "known_hosts", "ssh_config"] {
        state_files::forget(&folder.join(name))?;
    }
    login_facts::forget(&folder)
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
                network_id: inspected.network_ids.get(&network).cloned(),
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

/// Waits for all containers at once. Where none of those that run can be reached from here, it is the
/// engine that is out of reach, and nothing can be done with any of them.
fn wait_for_all(engine: &Engine, containers: &[Container]) -> Result<Vec<Result<()>>> {
    let outcomes: Vec<Result<(), NotUp>> = std::thread::scope(|scope| {
        let wait = |container| scope.spawn(move || wait_until_up(engine, container));
        let waiting: Vec<_> = containers.iter().map(wait).collect();
        let joined = waiting.into_iter().map(|waiting| match waiting.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    let is_out_of_reach =
        |outcome: &Result<(), NotUp>| matches!(outcome, Err(NotUp::OutOfReach(_)));
    if !outcomes.is_empty() && outcomes.iter().all(is_out_of_reach) {
        let first = outcomes.into_iter().find_map(Result::err);
        return Err(first.map_or_else(|| Error::Other("no container".into()), Error::from));
    }
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.map_err(Error::from))
        .collect())
}

/// Why a container can't be logged in to.
enum NotUp {
    /// Its SSH server listens, and nothing from here gets there.
    OutOfReach(String),
    /// Anything else.
    Silent(String),
}

impl From<NotUp> for Error {
    fn from(why: NotUp) -> Self {
        match why {
            NotUp::OutOfReach(text) | NotUp::Silent(text) => Error::Cloud(text),
        }
    }
}

/// Whether a container is out of reach for good: a packet to it is lost or has no way, while its SSH
/// server says that it listens. One that refuses is there, and may listen in a moment.
fn is_out_of_reach(error: std::io::ErrorKind, log: &str) -> bool {
    error != std::io::ErrorKind::ConnectionRefused && log.contains("Server listening on")
}

fn wait_until_up(engine: &Engine, container: &Container) -> Result<(), NotUp> {
    let Some(address) = container.address.as_deref() else {
        return Ok(()); // Told by whoever asks.
    };
    let name = &container.name;
    let parsed = address.parse().map(|address| SocketAddr::new(address, 22));
    let Ok(target) = parsed else {
        return Err(NotUp::Silent(format!(
            "container {name} has the address {address:?}, which makes no sense; look at `docker \
             inspect {name}`"
        )));
    };
    let give_up = Instant::now() + UP_WITHIN;
    loop {
        let Err(error) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
            return Ok(());
        };
        let log = || engine.log(name);
        if error.kind() != std::io::ErrorKind::ConnectionRefused
            && is_out_of_reach(error.kind(), &log())
            // It may have begun to listen just now.
            && let Err(error) = TcpStream::connect_timeout(&target, REACHED_WITHIN)
            && is_out_of_reach(error.kind(), &log())
        {
            return Err(NotUp::OutOfReach(format!(
                "container {name} runs and lets one log in, but {address} can't be reached from here \
                 ({error}): raftctl goes to containers at their own addresses, so the engine has to be \
                 on this machine and run as root; see `docker context ls` and `docker info` (rootless, \
                 Docker Desktop and remote engines have a network of their own), take another engine \
                 (`docker context use default`), or run raftctl where the engine is"
            )));
        }
        if Instant::now() > give_up {
            let said = match log().trim() {
                "" => String::new(),
                said => format!(": {said}"),
            };
            return Err(NotUp::Silent(format!(
                "container {name} does not let anyone log in ({error}){said}; look at `docker logs {name}`"
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    // A container that runs outside of the network, or knows one of that name that is gone, is put into
    // the one of now before it is started; the others are left alone.
    #[test]
    fn containers_are_put_back_into_the_network() {
        let container = |node, is_running, network: Option<&str>| Container {
            node,
            name: format!("raftctl-demo-{node}"),
            is_running,
            address: None,
            network_id: network.map(str::to_owned),
        };
        let containers = [
            container(1, true, Some("new")),
            container(2, false, Some("old")),
            container(3, true, None),
            container(4, false, Some("new")),
        ];
        assert_eq!(
            to_run(&containers, Some("new")),
            [
                Change::Connect(2),
                Change::Connect(3),
                Change::Start(2),
                Change::Start(4)
            ]
        );
        let all = to_run(&containers[..1], None);
        assert_eq!(all, [Change::Connect(1)]);
    }

    // What does not answer though it listens is out of reach; what refuses is about to come up.
    #[test]
    fn an_engine_out_of_reach_is_known() {
        let log = "Server listening on 0.0.0.0 port 22.";
        for kind in [
            ErrorKind::TimedOut,
            ErrorKind::HostUnreachable,
            ErrorKind::NetworkUnreachable,
        ] {
            assert!(is_out_of_reach(kind, log), "{kind}");
            assert!(!is_out_of_reach(kind, ""), "{kind}");
        }
        assert!(!is_out_of_reach(ErrorKind::ConnectionRefused, log));
    }
}
