//! Provider `ssh`: hosts that exist, which cluster.yaml lists. Other providers come by hosts of their
//! own, and reach them as these are reached.

pub mod login_facts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Hosting;
use crate::cluster::ssh::IDENTITY_KEY;
use crate::cluster::{Cluster, Node, NodeId};
use crate::error::{Error, Result, TransportError};
use crate::hosts::inventory::{Host, Inventory, Member};
use crate::scripts::layout::HostLayout;
use crate::transport::BoxFuture;
use crate::transport::Transport;
use crate::transport::ssh::login::{self, Login};
use crate::transport::ssh::transport::SshTransport;
use crate::transport::ssh::tunnel;
use crate::transport::unreachable::Unreachable;
use login_facts::LoginFacts;

/// Hosts that cluster.yaml lists.
pub struct Ssh;

impl Hosting for Ssh {
    fn open<'a>(&self, cluster: &'a Cluster) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(open(cluster))
    }

    fn look<'a>(
        &self,
        cluster: &'a Cluster,
        again: bool,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Inventory>> {
        Box::pin(async move {
            let logins = logins(cluster)?;
            look(cluster, &logins, client_ports(cluster), again, deadline).await
        })
    }

    fn remarks(&self, cluster: &Cluster) -> Vec<(String, &'static str)> {
        remarks(cluster)
    }
}

/// How raftctl reaches the client ports of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPorts {
    /// As the hosts: where ssh goes through another host, the ports are reached through ssh.
    AsHosts,
    /// Always through ssh: they are closed to this machine.
    Closed,
}

/// How raftctl reaches the client ports of hosts that cluster.yaml lists. Whoever goes to them through another host may find the
/// ports of that one closed as well, where it has a node.
fn client_ports(cluster: &Cluster) -> ClientPorts {
    match cluster.ssh.jump {
        Some(_) => ClientPorts::Closed,
        None => ClientPorts::AsHosts,
    }
}

/// A host on its way into the inventory.
struct FoundHost {
    node: Node,
    transport: Arc<SshTransport>,
    facts: Option<LoginFacts>,
    /// What ssh's configuration makes of its name, where that was asked. No login is needed for it.
    asked: Option<Configured>,
    client_ports: ClientPorts,
    /// Why a look at it failed.
    trouble: Option<TransportError>,
}

impl FoundHost {
    /// Its address, as far as it is known.
    fn address(&self) -> Option<&String> {
        let seen = self.facts.as_ref().and_then(|facts| facts.address.as_ref());
        self.asked.as_ref().map(|asked| &asked.address).or(seen)
    }

    /// Whether its client port is reached through ssh.
    fn needs_tunnel(&self) -> bool {
        self.client_ports == ClientPorts::Closed
            || self.transport.login().jump.is_some()
            || self.behind().is_some()
    }

    /// Through what ssh's configuration leads there.
    fn behind(&self) -> Option<&String> {
        match (&self.asked, &self.facts) {
            (Some(asked), _) => asked.behind.as_ref(),
            (None, facts) => facts.as_ref()?.behind.as_ref(),
        }
    }
}

/// The hosts as they were found last. Connects to none.
///
/// # Errors
/// A file of raftctl's own can't be written; no port of this machine is free for a tunnel.
async fn open(cluster: &Cluster) -> Result<Inventory> {
    let logins = cluster
        .nodes
        .iter()
        .map(|node| Ok((node.id, login(cluster, node)?)));
    let logins = logins.collect::<Result<_>>()?;
    let mut found = find(cluster, &logins, client_ports(cluster));
    ask_addresses(&mut found, |host| host.address().is_none()).await;
    inventory(cluster, &found)
}

/// Hosts that another provider made, whose addresses it gave. Connects to none. Needs a runtime.
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
pub async fn look(
    cluster: &Cluster,
    logins: &BTreeMap<NodeId, Login>,
    client_ports: ClientPorts,
    again: bool,
    deadline: Duration,
) -> Result<Inventory> {
    let mut found = find(cluster, logins, client_ports);
    let is_known = |facts: &LoginFacts| !again || facts.is_fresh();
    let is_new = |host: &FoundHost| !host.facts.as_ref().is_some_and(is_known);
    ask_addresses(&mut found, |host| is_new(host) || host.address().is_none()).await;
    let (mut looking, mut connecting) = (JoinSet::new(), JoinSet::new());
    for (at, host) in found.iter().enumerate() {
        let (transport, name) = (Arc::clone(&host.transport), cluster.name.clone());
        let seen = (host.address().cloned(), host.behind().cloned());
        if let Some(jump_host) = &seen.1 {
            transport.leads_through(jump_host);
        }
        let (is_new, needs_tunnel) = (is_new(host), host.needs_tunnel());
        let deadline = match needs_tunnel {
            true => deadline.max(cluster.limits.login()),
            false => deadline,
        };
        if is_new {
            looking.spawn(async move {
                let facts = login_facts::look(&transport, &name, seen, deadline).await;
                (at, facts)
            });
        } else if needs_tunnel {
            // Whoever talks to it learns why that failed.
            connecting.spawn(async move { transport.session().await.is_ok() });
        }
    }
    let limit = cluster.limits.login();
    let (looked, ()) = tokio::join!(looking.join_all(), connected(connecting, limit));
    let mut is_news = false;
    for (at, facts) in looked {
        match facts {
            Ok(facts) => {
                is_news |= found[at].facts.as_ref() != Some(&facts);
                found[at].facts = Some(facts);
            }
            Err(trouble) => found[at].trouble = Some(trouble),
        }
    }
    if is_news {
        let mut known = login_facts::load(&cluster.state_dir());
        let new = found
            .iter()
            .filter_map(|host| Some((host.transport.login().fingerprint(), host.facts.clone()?)));
        known.extend(new);
        login_facts::save(&cluster.state_dir(), &known)?;
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
fn logins(cluster: &Cluster) -> Result<BTreeMap<NodeId, Login>> {
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
    let destination = host.trim_matches(['[', ']']).to_owned();
    let port = node.ssh_port.or(settings.port);
    let jump = settings.jump.as_deref();
    let identity_file = settings.identity_path(&cluster.directory);
    let config_file = login::write_config(&absolute(cluster), identity_file.as_deref())?;
    Ok(Login {
        jump: jump.and_then(|jump| login::jumps_to(&destination, port, jump)),
        destination,
        host,
        user: node.ssh_user.clone().or_else(|| settings.user.clone()),
        port,
        identity_file,
        config_file,
        key_checked_by: None,
    })
}

/// ssh looks for relative paths in folders of its own.
fn absolute(cluster: &Cluster) -> std::path::PathBuf {
    let folder = cluster.state_dir();
    std::path::absolute(&folder).unwrap_or(folder)
}

fn find(
    cluster: &Cluster,
    logins: &BTreeMap<NodeId, Login>,
    client_ports: ClientPorts,
) -> Vec<FoundHost> {
    let mut known = login_facts::load(&cluster.state_dir());
    let host = |node: &Node| {
        let login = logins.get(&node.id)?;
        Some(FoundHost {
            node: node.clone(),
            facts: known.remove(&login.fingerprint()),
            transport: Arc::new(SshTransport::new(login.clone(), cluster.limits.connect)),
            asked: None,
            client_ports,
            trouble: None,
        })
    };
    cluster.nodes.iter().filter_map(host).collect()
}

fn inventory(cluster: &Cluster, found: &[FoundHost]) -> Result<Inventory> {
    let mut inventory = Inventory {
        hosts: Vec::new(),
        members: Vec::new(),
    };
    for host in found {
        inventory.members.push(member(cluster, host)?);
        inventory.hosts.push(Host {
            layout: layout(cluster, host.facts.as_ref()),
            nodes: vec![host.node.id],
            transport: transport(host),
        });
    }
    Ok(inventory)
}

fn transport(host: &FoundHost) -> Arc<dyn Transport> {
    // Where the cluster lives on it is not known, or may have changed: no script may run there.
    if let Some(trouble) = host.trouble.clone() {
        let login = host.transport.login();
        let shell = Some(login.command_words());
        return Arc::new(Unreachable::new(login.host.clone(), shell, trouble));
    }
    if let Some(facts) = &host.facts {
        host.transport.set_rights(facts.rights());
    }
    Arc::clone(&host.transport) as _
}

/// What an operator may not expect of hosts, as it was found last, behind the hosts of which it
/// holds, and what to do about it.
fn remarks(cluster: &Cluster) -> Vec<(String, &'static str)> {
    let Ok(logins) = logins(cluster) else {
        return Vec::new(); // Whoever reaches the hosts is told.
    };
    let mut remarks: BTreeMap<(String, &'static str), Vec<String>> = BTreeMap::new();
    for host in find(cluster, &logins, client_ports(cluster)) {
        for remark in host.facts.iter().flat_map(LoginFacts::remarks) {
            let name = host.transport.login().host.clone();
            remarks.entry(remark).or_default().push(name);
        }
    }
    let text = |((remark, advice), hosts): ((String, _), Vec<String>)| {
        (format!("{}: {remark}", hosts.join(", ")), advice)
    };
    remarks.into_iter().map(text).collect()
}

fn layout(cluster: &Cluster, facts: Option<&LoginFacts>) -> HostLayout {
    let name = &cluster.name;
    match facts {
        Some(facts) if facts.has_systemd => HostLayout::remote(&facts.base).with_units(name),
        Some(facts) => HostLayout::remote(&facts.base),
        // It has never been reached, and no script runs there before that.
        None => HostLayout::system(name),
    }
}

fn member(cluster: &Cluster, host: &FoundHost) -> Result<Member> {
    let destination = &host.transport.login().destination;
    let address = host.address().unwrap_or(destination);
    // Brackets keep the colons of an IPv6 address apart from the port's.
    let name = match address.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => address.clone(),
    };
    let (peer, client) = (cluster.ports.peer, cluster.ports.client);
    let node = &host.node;
    let is_given = node.peer_address.is_some() && node.client_address.is_some();
    let client_address = node.client_address.clone();
    let client_address = client_address.unwrap_or_else(|| format!("{name}:{client}"));
    let admin_address = match host.needs_tunnel() {
        // What clients are told may lead through a translation of addresses that the host is behind.
        true => tunnel::open(&host.transport, &node.reached_on_its_host(client))?.to_string(),
        false => client_address.clone(),
    };
    Ok(Member {
        id: node.id,
        listen_peers: node.listens_on(peer),
        listen_clients: node.listens_on(client),
        peer_address: node
            .peer_address
            .clone()
            .unwrap_or_else(|| format!("{name}:{peer}")),
        admin_address,
        client_address,
        is_tunnelled: host.needs_tunnel(),
        is_address_known: is_given || host.address().is_some(),
    })
}

/// Asks for the addresses of those hosts that `is_asked` names, all at once.
async fn ask_addresses(found: &mut [FoundHost], is_asked: impl Fn(&FoundHost) -> bool) {
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
    /// The other host or program that the way there leads through.
    behind: Option<String>,
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
    let set = |key: &str| value(key).filter(|value| *value != "none");
    Some(Configured {
        address: value("hostname ")?.to_owned(),
        behind: set("proxyjump ")
            .or(set("proxycommand "))
            .map(str::to_owned),
    })
}
