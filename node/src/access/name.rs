//! Names in certificates: whose they are, as URIs.

use super::{Grant, Role};
use crate::identity::id_text;
use crate::raft::NodeId;
use std::fmt::Write;

/// Most names of this kind in one certificate.
const NAMES_MAX: usize = 16;

/// How every name begins.
const SCHEME: &str = "raftkv://";

/// What a cluster is called in certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNames {
    /// Its id, as text; empty where it has none.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A node's.
    Node(NodeId),
    /// A client's, with its roles.
    Client(Vec<Grant>),
}

/// Why a certificate is nobody's here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no name of this kind.
    #[error("it names no node and no role (a URI that begins with raftkv://)")]
    Nobody,
    /// It is of another cluster.
    #[error("it is of cluster '{0}'")]
    OtherCluster(String),
    /// Its name can't be read, or says more than this version knows.
    #[error("the name '{0}' is none that this version knows")]
    Unknown(String),
    /// It could be taken for both, or for two nodes.
    #[error("it names a node and something else")]
    Ambiguous,
    /// It has more than anybody needs.
    #[error("it has more than {NAMES_MAX} names")]
    TooMany,
}

impl ClusterNames {
    /// Of a cluster with an id (0: none) and a name.
    pub fn new(id: u128, name: &str) -> Self {
        ClusterNames {
            id: id_text(id),
            name: name.to_owned(),
        }
    }

    fn has(&self, word: &str) -> bool {
        word == self.name || (!self.id.is_empty() && word == self.id)
    }

    /// The name of a node that those who dial it look for: never an address, so it may move.
    pub fn dns_of(&self, id: NodeId) -> String {
        format!("{id}.{}.raftkv", self.name)
    }

    /// The name that every node of the cluster has, for clients that go to any of them.
    pub fn dns_of_any(&self) -> String {
        format!("{}.raftkv", self.name)
    }
}

/// Whose certificate it is that has these URIs. Names of other kinds count for nothing.
pub fn subject<'a>(
    uris: impl Iterator<Item = &'a str>,
    cluster: &ClusterNames,
) -> Result<Subject, NameError> {
    let mut node = None;
    let mut grants = Vec::new();
    let mut count = 0;
    for uri in uris {
        let Some(rest) = uri.strip_prefix(SCHEME) else {
            continue;
        };
        count += 1;
        if count > NAMES_MAX {
            return Err(NameError::TooMany);
        }
        let unknown = || NameError::Unknown(uri.chars().take(200).collect());
        let (word, path) = rest.split_once('/').ok_or_else(unknown)?;
        if !cluster.has(word) {
            return Err(NameError::OtherCluster(word.chars().take(64).collect()));
        }
        if let Some(id) = path.strip_prefix("node/") {
            let id = parse_node(id).ok_or_else(unknown)?;
            if node.replace(id).is_some_and(|other| other != id) {
                return Err(NameError::Ambiguous);
            }
        } else {
            let role = path.strip_prefix("role/").ok_or_else(unknown)?;
            grants.push(parse_grant(role).ok_or_else(unknown)?);
        }
    }
    match (node, grants.is_empty()) {
        (Some(id), true) => Ok(Subject::Node(id)),
        (None, false) => Ok(Subject::Client(grants)),
        (Some(_), false) => Err(NameError::Ambiguous),
        (None, true) => Err(NameError::Nobody),
    }
}

/// One way to write a number, so that two names are the same node only if they are the same text.
fn parse_node(text: &str) -> Option<NodeId> {
    let id = text.parse::<NodeId>().ok()?;
    (id > 0 && id.to_string() == text).then_some(id)
}

fn parse_grant(text: &str) -> Option<Grant> {
    let (word, query) = match text.split_once('?') {
        Some((word, query)) => (word, Some(query)),
        None => (text, None),
    };
    let role = Role::ALL.into_iter().find(|role| role.name() == word)?;
    let prefix = match query {
        None => String::new(),
        // An empty prefix would be for all keys: whoever means that leaves it out.
        Some(query) => decode(query.strip_prefix("prefix=")?)
            .filter(|prefix| role.takes_prefix() && !prefix.is_empty())?,
    };
    Some(Grant { role, prefix })
}

/// The name of a node, as its certificate has it.
pub fn node_uri(cluster: &str, id: NodeId) -> String {
    format!("{SCHEME}{cluster}/node/{id}")
}

/// The name of a role, as a client's certificate has it.
pub fn role_uri(cluster: &str, grant: &Grant) -> String {
    let role = grant.role.name();
    match &*grant.prefix {
        "" => format!("{SCHEME}{cluster}/role/{role}"),
        prefix => format!("{SCHEME}{cluster}/role/{role}?prefix={}", encode(prefix)),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte)
}

/// As in RFC 3986: all but letters, digits and a few signs as `%2F`.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match is_plain(byte) {
            true => encoded.push(char::from(byte)),
            // A string takes in whatever is written to it.
            false => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            if !is_plain(*first) {
                return None;
            }
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}
