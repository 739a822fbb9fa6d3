//! cluster.yaml -> hosts and members, with the provider `ssh`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::login::{self, Login};
use super::place::{self, Place};
use super::transport::SshTransport;
use super::tunnel;
use crate::cluster::ssh::IDENTITY_KEY;
use crate::cluster::{Cluster, Node, NodeId};
use crate::error::{Error, Result};
use crate::hosts::absent::Absent;
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::hosts::layout::HostLayout;
use crate::hosts::{Transport, TransportError};

/// What is assumed of a host that has never been reached. No script runs there before that.
const UNKNOWN_BASE: &str = "/opt/raftkv";

/// What a login takes after the connection is made.
pub const LOGIN_TIME: Duration = Duration::from_secs(5);

/// How raftctl reaches the client ports of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPorts {
    /// As the hosts: where ssh goes through another host, the ports are reached through ssh.
    AsHosts,
    /// Always through ssh: they are closed to this machine.
    Closed,
}

/// A host on its way into the inventory.
struct Found {
    node: Node,
    transport: Arc<SshTransport>,
    place: Option<Place>,
    /// What ssh's configuration makes of its name, where that was asked. No login is needed for it.
    asked: Option<Configured>,
    client_ports: ClientPorts,
    /// Why a look at it failed.
    trouble: Option<TransportError>,
}

impl Found {
    /// Its address, as far as it is known.
    fn address(&self) -> Option<&String> {
        let seen = self.place.as_ref().and_then(|place| place.address.as_ref());
        self.asked.as_ref().map(|asked| &asked.address).or(seen)
    }

    /// Whether its client port is reached through ssh.
    fn needs_tunnel(&self) -> bool {
        let is_behind = || match (&self.asked, &self.place) {
            (Some(asked), _) => asked.is_behind,
            (None, place) => place.as_ref().is_some_and(|place| place.is_behind),
        };
        self.client_ports == ClientPorts::Closed
            || self.transport.login().jump.is_some()
            || is_behind()
    }
}

/// The hosts as they were found last. Connects to none.
///
/// # Errors
/// A file of raftctl's own can't be written; no port of this machine is free for a tunnel.
pub async fn open(cluster: &Cluster) -> Result<Inventory> {
    let logins = cluster
        .nodes
        .iter()
        .map(|node| Ok((node.id, login(cluster, node)?)));
    let logins = logins.collect::<Result<_>>()?;
    let mut found = find(cluster, &logins, ClientPorts::AsHosts);
    ask_addresses(&mut found, |host| host.address().is_none()).await;
    inventory(cluster, &found)
}

/// The same for hosts that a provider made, whose addresses it gave. Needs a runtime.
///
/// # Errors
/// As [`open`].
pub fn from_logins(
    cluster: &Cluster,
    logins: &BTreeMap<NodeId, Login>,
    client_ports: ClientPorts,
) -> Result<Inventory> {
    inventory(cluster, &find(cluster, logins, client_ports))
}

/// The hosts as they are: logs in where it is not known yet what a login finds there; with `again`
/// also where that was found a while ago. Hosts that can't be reached within `deadline` stay in the
/// inventory; whoever runs a script there learns why. Hosts whose client ports are reached through ssh
/// are connected to, and given the time that takes: else nodes that are well would not answer in time.
///
/// # Errors
/// As [`open`].
pub async fn reach(
    cluster: &Cluster,
    logins: &BTreeMap<NodeId, Login>,
    client_ports: ClientPorts,
    again: bool,
    deadline: Duration,
) -> Result<Inventory> {
    let mut found = find(cluster, logins, client_ports);
    let is_known = |place: &Place| !again || place.is_fresh();
    let is_new = |host: &Found| !host.place.as_ref().is_some_and(is_known);
    ask_addresses(&mut found, |host| is_new(host) || host.address().is_none()).await;
    let (mut looking, mut connecting) = (JoinSet::new(), JoinSet::new());
    for (at, host) in found.iter().enumerate() {
        let (transport, name) = (Arc::clone(&host.transport), cluster.name.clone());
        let seen = (host.address().cloned(), host.needs_tunnel());
        let (is_new, needs_tunnel) = (is_new(host), seen.1);
        let deadline = match needs_tunnel {
            true => deadline.max(cluster.limits.connect + LOGIN_TIME),
            false => deadline,
        };
        if is_new {
            looking.spawn(async move {
                let place = place::look(&transport, &name, seen, deadline).await;
                (at, place)
            });
        } else if needs_tunnel {
            // Whoever talks to it learns why that failed.
            connecting.spawn(async move { transport.control_socket().await.is_ok() });
        }
    }
    let limit = cluster.limits.connect + LOGIN_TIME;
    let (looked, ()) = tokio::join!(looking.join_all(), connected(connecting, limit));
    let mut is_news = false;
    for (at, place) in looked {
        match place {
            Ok(place) => {
                is_news |= found[at].place.as_ref() != Some(&place);
                found[at].place = Some(place);
            }
            Err(trouble) => found[at].trouble = Some(trouble),
        }
    }
    if is_news {
        let mut places = place::load(&cluster.state_dir());
        let new = found
            .iter()
            .filter_map(|host| Some((host.transport.login().fingerprint(), host.place.clone()?)));
        places.extend(new);
        place::save(&cluster.state_dir(), &places)?;
    }
    inventory(cluster, &found)
}

/// Waits until hosts are connected to, within `limit`. Once one is, the others are not waited for much
/// longer: they may be dead, and go on in the background.
async fn connected(mut connecting: JoinSet<bool>, limit: Duration) {
    const GRACE: Duration = Duration::from_secs(2);
    let mut deadline = Instant::now() + limit;
    while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, connecting.join_next()).await {
        if ended.is_ok_and(|is_connected| is_connected) {
            deadline = deadline.min(Instant::now() + GRACE);
        }
    }
    connecting.detach_all();
}

/// The login of every node of a cluster with the provider `ssh`.
///
/// # Errors
/// The key that cluster.yaml names is not there; a file of raftctl's own can't be written.
pub fn logins(cluster: &Cluster) -> Result<BTreeMap<NodeId, Login>> {
    // ssh would go on without it, and be refused by every host.
    let mut files = cluster.named_files.iter();
    if let Some(key) = files.find(|file| file.key == IDENTITY_KEY && !file.is_there()) {
        let problem = key.missing();
        return Err(Error::Usage(format!(
            "{}; {}",
            problem.message, problem.hint
        )));
    }
    let nodes = cluster.nodes.iter();
    nodes
        .map(|node| Ok((node.id, login(cluster, node)?)))
        .collect()
}

fn login(cluster: &Cluster, node: &Node) -> Result<Login> {
    // Checked with the file: with provider ssh every node has a host.
    let host = node.host.clone().unwrap_or_default();
    let settings = &cluster.ssh;
    let identity_file = settings.identity_path(&cluster.directory);
    let config_file = login::write_config(&absolute(cluster), identity_file.as_deref())?;
    Ok(Login {
        destination: host.trim_matches(['[', ']']).to_owned(),
        host,
        user: node.ssh_user.clone().or_else(|| settings.user.clone()),
        port: node.ssh_port.or(settings.port),
        identity_file,
        jump: settings.jump.clone(),
        config_file,
    })
}

/// ssh looks for relative paths in places of its own.
fn absolute(cluster: &Cluster) -> std::path::PathBuf {
    let folder = cluster.state_dir();
    std::path::absolute(&folder).unwrap_or(folder)
}

fn find(
    cluster: &Cluster,
    logins: &BTreeMap<NodeId, Login>,
    client_ports: ClientPorts,
) -> Vec<Found> {
    let mut places = place::load(&cluster.state_dir());
    let host = |node: &Node| {
        let login = logins.get(&node.id)?;
        Some(Found {
            node: node.clone(),
            place: places.remove(&login.fingerprint()),
            transport: Arc::new(SshTransport::new(login.clone(), cluster.limits.connect)),
            asked: None,
            client_ports,
            trouble: None,
        })
    };
    cluster.nodes.iter().filter_map(host).collect()
}

fn inventory(cluster: &Cluster, found: &[Found]) -> Result<Inventory> {
    let mut inventory = Inventory {
        hosts: Vec::new(),
        members: Vec::new(),
    };
    for host in found {
        inventory.members.push(member(cluster, host)?);
        inventory.hosts.push(Host {
            layout: layout(cluster, host.place.as_ref()),
            nodes: vec![host.node.id],
            transport: transport(host),
        });
    }
    Ok(inventory)
}

fn transport(host: &Found) -> Arc<dyn Transport> {
    // Its place is not known, or may be another by now: no script may run there.
    if let Some(trouble) = host.trouble.clone() {
        let login = host.transport.login();
        let shell = Some(login.command_words());
        return Arc::new(Absent::new(login.host.clone(), shell, trouble));
    }
    if let Some(place) = &host.place {
        host.transport.set_rights(place.rights());
    }
    Arc::clone(&host.transport) as _
}

/// What an operator may not expect of hosts, as it was found last, behind the hosts of which it
/// holds.
#[must_use]
pub fn remarks(cluster: &Cluster) -> Vec<String> {
    let Ok(logins) = logins(cluster) else {
        return Vec::new(); // Whoever reaches the hosts is told.
    };
    let mut remarks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in find(cluster, &logins, ClientPorts::AsHosts) {
        if let Some(remark) = host.place.as_ref().and_then(Place::remark) {
            let name = host.transport.login().host.clone();
            remarks.entry(remark).or_default().push(name);
        }
    }
    let text = |(remark, hosts): (String, Vec<String>)| format!("{}: {remark}", hosts.join(", "));
    remarks.into_iter().map(text).collect()
}

fn layout(cluster: &Cluster, place: Option<&Place>) -> HostLayout {
    let name = &cluster.name;
    match place {
        Some(place) if place.has_systemd => HostLayout::remote(&place.base).with_units(name),
        Some(place) => HostLayout::remote(&place.base),
        None => HostLayout::remote(&format!("{UNKNOWN_BASE}/{name}")),
    }
}

fn member(cluster: &Cluster, host: &Found) -> Result<Member> {
    let destination = &host.transport.login().destination;
    let address = host.address().unwrap_or(destination);
    // Brackets keep the colons of an IPv6 address apart from the port's.
    let (name, any) = match address.parse() {
        Ok(IpAddr::V6(address)) => (format!("[{address}]"), "[::]"),
        _ => (address.clone(), "0.0.0.0"),
    };
    let (peer, client) = (cluster.ports.peer, cluster.ports.client);
    let node = &host.node;
    let is_given = node.peer_address.is_some() && node.client_address.is_some();
    let client_address = node.client_address.clone();
    let client_address = client_address.unwrap_or_else(|| format!("{name}:{client}"));
    let admin_address = match host.needs_tunnel() {
        // What clients are told may lead through a translation of addresses that the host is behind.
        true => tunnel::open(&host.transport, &format!("localhost:{client}"))?.to_string(),
        false => client_address.clone(),
    };
    Ok(Member {
        id: node.id,
        listen_peers: format!("{any}:{peer}"),
        listen_clients: format!("{any}:{client}"),
        peer_address: node
            .peer_address
            .clone()
            .unwrap_or_else(|| format!("{name}:{peer}")),
        admin_address,
        client_address,
        is_address_known: is_given || host.address().is_some(),
    })
}

/// Asks for the addresses of those hosts that `is_asked` names, all at once.
async fn ask_addresses(found: &mut [Found], is_asked: impl Fn(&Found) -> bool) {
    let mut asking = JoinSet::new();
    for (at, host) in found.iter().enumerate().filter(|(_, host)| is_asked(host)) {
        let transport = Arc::clone(&host.transport);
        asking.spawn(async move { (at, ask(transport.login()).await) });
    }
    for (at, asked) in asking.join_all().await {
        found[at].asked = asked;
    }
}

/// What ssh's configuration makes of a host's name.
struct Configured {
    address: String,
    /// Whether the way there leads through another host or program.
    is_behind: bool,
}

/// Asks ssh; `None` where it does not tell.
async fn ask(login: &Login) -> Option<Configured> {
    /// It only reads files.
    const DEADLINE: Duration = Duration::from_secs(5);
    let words = login.command_words();
    let asking = tokio::process::Command::new(&words[0])
        .arg("-G")
        .args(&words[1..])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, asking).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let is_set = |key: &str| value(key).is_some_and(|value| value != "none");
    Some(Configured {
        address: value("hostname ")?.to_owned(),
        is_behind: is_set("proxyjump ") || is_set("proxycommand "),
    })
}
