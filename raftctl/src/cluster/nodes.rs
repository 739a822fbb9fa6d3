//! The key `nodes`: a number, or a list.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::reader::{self, Report, Section};
use super::yaml::{Kind, Value};
use super::{Metrics, NodeId, Ports, Provider};

/// One node as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Unique in the cluster, from 1.
    pub id: NodeId,
    /// The host it runs on, as raftctl reaches it. Absent where the provider makes the hosts.
    pub host: Option<String>,
    /// The port of its SSH server.
    pub ssh_port: Option<u16>,
    /// The login there.
    pub ssh_user: Option<String>,
    /// The zone it is to run in.
    pub zone: Option<String>,
    /// `host:port` at which the other nodes reach it, where that differs from the host.
    pub peer_address: Option<String>,
    /// `host:port` at which clients reach it, where that differs from the host.
    pub client_address: Option<String>,
    /// The address of its host at which it listens; absent: all of them, of both families.
    pub listen: Option<IpAddr>,
}

impl Node {
    /// The address and a port at which it listens on a host of its own.
    #[must_use]
    pub fn listens_on(&self, port: u16) -> String {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        SocketAddr::new(self.listen.unwrap_or(any), port).to_string()
    }

    /// Where it is reached by someone on its host.
    #[must_use]
    pub fn reached_on_its_host(&self, port: u16) -> String {
        match self.listen {
            Some(address) if !address.is_unspecified() => self.listens_on(port),
            _ => format!("localhost:{port}"),
        }
    }
}

/// A larger cluster is a mistake: every write waits for a majority.
const NODES_MAX: u64 = 99;
/// How many nodes there are when cluster.yaml does not say.
const NODES_DEFAULT: u64 = 5;

const KEYS: &[&str] = &[
    "id",
    "host",
    "ssh_port",
    "ssh_user",
    "zone",
    "peer_address",
    "client_address",
    "listen",
];

/// Reads `nodes`, and checks the nodes against each other and against the provider.
///
/// `provider` is `None` where it is not known what was meant: what depends on it is not checked.
pub(super) fn read(
    file: &Section<'_>,
    provider: Option<Provider>,
    report: &mut Report<'_>,
) -> Vec<Node> {
    let line = file.line_of("nodes");
    let mut nodes = match file.value("nodes") {
        None => numbered(NODES_DEFAULT),
        Some(value) => match &value.kind {
            Kind::List(items) => listed(items, provider, report),
            _ => reader::integer(value, "nodes", 1..=NODES_MAX, report).map_or(vec![], numbered),
        },
    };
    nodes.sort_by_key(|node| node.id);
    let is_list = file
        .value("nodes")
        .is_some_and(|v| matches!(v.kind, Kind::List(_)));
    if is_list && nodes.is_empty() {
        report.problem(
            line,
            "there are no nodes",
            "list at least one, or write nodes: 5",
        );
    }
    if provider == Some(Provider::Ssh) && !is_list {
        report.problem(
            line,
            "provider ssh can't know the hosts from a number of nodes",
            "list them, as in nodes: [{id: 1, host: n1.example}]",
        );
    }
    if nodes.len() % 2 == 0 && !nodes.is_empty() {
        let count = nodes.len();
        report.warning(
            line,
            format!(
                "{count} nodes survive no more failures than {} do",
                count - 1
            ),
            "an odd number is better",
        );
    }
    nodes
}

/// What can only be told once the ports are known, too.
pub(super) fn check_ports(
    nodes: &[Node],
    provider: Provider,
    (ports, metrics): (Ports, Metrics),
    line: u64,
    report: &mut Report<'_>,
) {
    if provider != Provider::Local {
        if ports.peer == ports.client {
            let message = format!("ports.peer and ports.client are both {}", ports.peer);
            report.problem(line, message, "give them different numbers");
        }
        let is_taken = [ports.peer, ports.client].contains(&ports.metrics);
        if metrics != Metrics::None && is_taken {
            let message = format!("ports.metrics is {}, and so is another", ports.metrics);
            report.problem(line, message, "give it a number of its own");
        }
        return;
    }
    let mut taken: BTreeMap<u64, String> = BTreeMap::new();
    for node in nodes {
        let mut kinds = vec![(ports.peer, "peer"), (ports.client, "client")];
        if metrics != Metrics::None {
            kinds.push((ports.metrics, "metrics"));
        }
        for (base, kind) in kinds {
            let port = u64::from(base) + node.id;
            let owner = format!("the {kind} port of node {}", node.id);
            if port > 65535 {
                let message = format!("{owner} would be {port}");
                report.problem(line, message, "ports end at 65535: lower ports or the id");
            } else if let Some(other) = taken.insert(port, owner.clone()) {
                let message = format!("{owner} is {port}, and so is {other}");
                report.problem(
                    line,
                    message,
                    "move ports.peer, ports.client and ports.metrics apart",
                );
            }
        }
    }
}

fn numbered(count: u64) -> Vec<Node> {
    (1..=count)
        .map(|id| Node {
            id,
            ..Node::default()
        })
        .collect()
}

fn listed(items: &[Value], provider: Option<Provider>, report: &mut Report<'_>) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut ids: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut hosts: BTreeMap<(String, Option<u16>), NodeId> = BTreeMap::new();
    for item in items {
        let Some(node) = read_one(item, report) else {
            continue;
        };
        if let Some(first) = ids.insert(node.id, item.line) {
            let message = format!("node {} is there twice", node.id);
            report.problem(item.line, message, format!("the first is at line {first}"));
        }
        if let Some(provider) = provider {
            check_host(item, &node, provider, report);
        }
        if let Some(host) = &node.host {
            let place = (host.clone(), node.ssh_port);
            if let Some(other) = hosts.insert(place, node.id)
                && provider == Some(Provider::Ssh)
            {
                let message = format!("nodes {other} and {} are on the same host {host}", node.id);
                report.problem(item.line, message, "give each node a host of its own");
            }
        }
        nodes.push(node);
    }
    nodes
}

fn check_host(item: &Value, node: &Node, provider: Provider, report: &mut Report<'_>) {
    let id = node.id;
    match (provider, &node.host) {
        // One that is wrong has been named already.
        (Provider::Ssh, None) if !has_key(item, "host") => report.problem(
            item.line,
            format!("node {id} has no host"),
            "provider ssh needs host: NAME for every node",
        ),
        (Provider::Local, Some(host)) if host != "127.0.0.1" && host != "localhost" => report
            .problem(
                item.line,
                format!("node {id} has the host {host}, but provider local runs on this machine"),
                "remove host, or write provider: ssh",
            ),
        (Provider::Docker | Provider::Gcp, Some(_)) => report.problem(
            item.line,
            format!(
                "node {id} has a host, but provider {} makes the hosts",
                provider.name()
            ),
            "remove host, or write provider: ssh",
        ),
        _ => {}
    }
    let has_address = node.peer_address.is_some() || node.client_address.is_some();
    if provider == Provider::Local && (node.ssh_port.is_some() || has_address) {
        report.problem(
            item.line,
            format!("node {id} has ssh_port or an address, which provider local decides itself"),
            "remove it; ports: {peer, client} moves the ports",
        );
    }
}

fn has_key(item: &Value, key: &str) -> bool {
    match &item.kind {
        Kind::Map(entries) => entries
            .iter()
            .any(|(k, v)| k.name == key && v.kind != Kind::Null),
        _ => false,
    }
}

fn read_one(item: &Value, report: &mut Report<'_>) -> Option<Node> {
    let node = Section::open(item, "nodes[].", KEYS, report)?;
    if node.value("id").is_none() {
        report.problem(item.line, "a node has no id", "write id: 1, 2, ...");
    }
    Some(Node {
        id: node.integer("id", 1..=9999, report)?,
        host: node.name("host", report),
        ssh_port: node.port("ssh_port", report),
        ssh_user: node.name("ssh_user", report),
        zone: node.name("zone", report),
        peer_address: address(&node, "peer_address", report),
        client_address: address(&node, "client_address", report),
        listen: listen(&node, report),
    })
}

/// An address to listen on, in the section of a node or of all ports.
pub(super) fn listen(section: &Section<'_>, report: &mut Report<'_>) -> Option<IpAddr> {
    let text = section.name("listen", report)?;
    let address = text.trim_matches(['[', ']']).parse().ok();
    if address.is_none() {
        report.problem(
            section.line_of("listen"),
            format!("{} is {text:?}", section.name_of("listen")),
            "write an address of the host, as in 10.0.0.1 or \"fd00::1\", or 0.0.0.0 for all of IPv4",
        );
    }
    address
}

/// Gives nodes without an address to listen on the one of all, where their provider leaves the choice.
pub(super) fn listen_on(
    nodes: &mut [Node],
    all: Option<IpAddr>,
    provider: Provider,
    line: u64,
    report: &mut Report<'_>,
) {
    let is_given = all.is_some() || nodes.iter().any(|node| node.listen.is_some());
    if is_given && matches!(provider, Provider::Local | Provider::Gcp) {
        let name = provider.name();
        report.problem(
            line,
            format!("there is a `listen`, but provider {name} decides itself where nodes listen"),
            "remove it",
        );
    }
    for node in nodes {
        node.listen = node.listen.or(all);
    }
}

/// A `host:port`.
fn address(node: &Section<'_>, key: &str, report: &mut Report<'_>) -> Option<String> {
    let text = node.name(key, report)?;
    let port = text.rsplit_once(':').and_then(|(host, port)| {
        (!host.is_empty())
            .then(|| port.parse::<u16>().ok())
            .flatten()
    });
    if port.is_none_or(|port| port == 0) {
        let message = format!("{} is {text:?}", node.name_of(key));
        report.problem(
            node.line_of(key),
            message,
            "write host:port, as in 10.0.0.1:7400",
        );
        return None;
    }
    Some(text)
}
