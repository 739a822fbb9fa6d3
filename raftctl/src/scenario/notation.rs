//! The notation of scenario files: steps and expectations, one YAML mapping each.
//!
//! ```yaml
//! scenario: follower-failure
//! number: 2
//! title: Two followers die and come back
//! nodes: 5
//! steps:
//! - wait_for_leader: {as: chief}
//! - choose: {as: victims, from: followers, count: 2}
//! - kill: victims
//! - set: {values: {name1: Jaggu}}
//! - start: victims
//! - expect_log: {nodes: victims, writes: true}
//! ```
//!
//! Nodes are named by selectors (`leader`, `followers`, `all`, `1,3`) and by names that an earlier
//! step gave with `as`. Times are `500ms`, `10s`, or a number of `heartbeats`, `leases` or
//! `elections` (the longest election timeout), so that a file holds for every timing. An unknown
//! key, a name that no step gave, a value of the wrong kind: each is an error with its line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Spanned;

use super::amounts::{CounterRule, Span};

/// A scenario as its file tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as on the command line.
    #[serde(rename = "scenario")]
    pub name: String,
    /// Its place among the six.
    pub number: Option<u32>,
    /// What it shows, in a sentence.
    pub title: String,
    /// How many nodes the cluster must have.
    pub nodes: usize,
    /// What is done and expected, in order.
    #[serde(deserialize_with = "list_or_nothing")]
    pub steps: Vec<Spanned<Step>>,
}

/// A list; `steps:` with nothing behind it is an empty one, which is told as what it is.
fn list_or_nothing<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Spanned<Step>>, D::Error> {
    let list: Option<_> = serde::Deserialize::deserialize(deserializer)?;
    Ok(list.unwrap_or_default())
}

/// A step.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Waits until a node leads with a lease and every running node follows it.
    WaitForLeader(WaitForLeader),
    /// Gives nodes a name.
    Choose(Choose),
    /// Ends nodes as a crash would.
    Kill(Nodes),
    /// Stops nodes in order: leadership is handed over first.
    Stop(Nodes),
    /// Starts nodes, and waits until they answer.
    Start(Nodes),
    /// Freezes nodes; after ten minutes they go on in any case.
    Pause(Nodes),
    /// Lets frozen nodes go on.
    Resume(Nodes),
    /// Lets no message pass between groups of nodes.
    Partition(Partition),
    /// Undoes all partitions.
    Heal(Nodes),
    /// Brings a node that is not in cluster.yaml into the cluster: a guest.
    Add(Guest),
    /// Sends guests away.
    Remove(Nodes),
    /// Sends a guest away, and brings another in its place, by one change.
    Replace(Replace),
    /// Hands leadership over to a node.
    Transfer(Nodes),
    /// Remembers counters and the end of every dump.txt under a name.
    Mark(String),
    /// Writes values; expects that each is acknowledged, or fails as said.
    Set(Ask),
    /// Reads values; expects each as written here, or that the read fails as said.
    Get(Ask),
    /// Exactly one node leads, and every running node follows it in its term.
    ExpectOneLeader(Within),
    /// No node leads for a time, and dump.txt tells of none that became leader.
    ExpectNoLeader(ExpectNoLeader),
    /// These nodes vote, and no others belong to the cluster.
    ExpectMembers(ExpectMembers),
    /// Nodes have a role.
    ExpectRole(ExpectRole),
    /// Logs hold entries.
    ExpectLog(ExpectLog),
    /// Nodes have applied all that is committed, and hold every value set so far.
    ExpectState(ExpectState),
    /// Counters of nodes rose as said since a mark.
    ExpectCounters(ExpectCounters),
    /// dump.txt has a sentence, or has it not.
    ExpectDump(ExpectDump),
    /// A leader that lost its majority stepped down when its lease was over: neither earlier nor
    /// later, by the times in dump.txt.
    ExpectLeaseExpiry(ExpectLeaseExpiry),
}

/// Nodes by selector or given name, several separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Nodes(pub String);

impl Nodes {
    /// The words between the commas.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(str::trim)
    }
}

/// See [`Step::WaitForLeader`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WaitForLeader {
    /// At most so long; by default what the cluster's timing makes reasonable.
    pub within: Option<Span>,
    /// The name that the leader gets.
    #[serde(rename = "as")]
    pub name: Option<String>,
    /// Another leader than these nodes.
    pub not: Option<Nodes>,
}

/// See [`Step::Choose`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// The name that they get.
    #[serde(rename = "as")]
    pub name: String,
    /// Out of these.
    pub from: Nodes,
    /// But not these.
    pub except: Option<Nodes>,
    /// So many, by rising id; by default all.
    pub count: Option<usize>,
}

/// See [`Step::Partition`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Within a group messages pass, between groups they don't.
    pub groups: Vec<Nodes>,
    /// Heals by itself after this.
    #[serde(rename = "for")]
    pub length: Span,
}

/// See [`Step::Set`] and [`Step::Get`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Keys and values; when read, an empty value is a key that does not exist.
    pub values: BTreeMap<String, String>,
    /// Only these nodes are asked.
    pub to: Option<Nodes>,
    /// Each is answered within this; also how long a client tries that is to fail.
    pub within: Option<Span>,
    /// Each fails like this: `no_leader` or `outcome_unknown`.
    pub fails: Option<Failing>,
    /// Reads only: how they are to be answered; by default under the lease.
    pub read: Option<ReadFrom>,
    /// Reads only: the way in which the leader must answer.
    pub path: Option<Path>,
}

/// How an operation is expected to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// Nothing was done: nobody leads.
    NoLeader,
    /// A write whose fate nobody can tell.
    OutcomeUnknown,
}

/// How a read asks to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    /// From the leader's memory, under its lease.
    Lease,
    /// With a round of heartbeats.
    Quorum,
}

/// How a read is expected to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// From the leader's memory, under its lease.
    Lease,
    /// By a new leader while an older lease may be alive.
    Inherited,
}

/// A time limit alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Within {
    /// At most so long.
    pub within: Option<Span>,
}

/// See [`Step::ExpectNoLeader`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectNoLeader {
    /// For so long.
    #[serde(rename = "for")]
    pub length: Span,
    /// dump.txt since here must not tell of a new leader.
    pub since: String,
}

/// See [`Step::Add`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// The name that it gets.
    #[serde(rename = "as")]
    pub name: String,
}

/// See [`Step::Replace`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The guest that goes.
    pub node: Nodes,
    /// The name of the one that comes.
    #[serde(rename = "as")]
    pub name: String,
}

/// See [`Step::ExpectMembers`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectMembers {
    /// These nodes vote.
    pub voters: Nodes,
    /// As many more may fail.
    pub survives: Option<u64>,
    /// At most after this.
    pub within: Option<Span>,
}

/// See [`Step::ExpectRole`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRole {
    /// These nodes.
    pub nodes: Nodes,
    /// Have this role.
    pub role: Role,
    /// At most after this.
    pub within: Option<Span>,
}

/// A node's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
}

/// See [`Step::ExpectLog`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectLog {
    /// The logs of these nodes, running or not.
    pub nodes: Nodes,
    /// Hold the NO-OP of the current leader's term.
    #[serde(default)]
    pub no_op: bool,
    /// Hold every value that this scenario has set, and got acknowledged.
    #[serde(default)]
    pub writes: bool,
    /// At most after this.
    pub within: Option<Span>,
}

/// See [`Step::ExpectState`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectState {
    /// The state of these nodes, read from them with stale reads.
    pub nodes: Nodes,
    /// At most after this.
    pub within: Option<Span>,
}

/// See [`Step::ExpectCounters`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectCounters {
    /// Each of these nodes.
    pub nodes: Nodes,
    /// Counted from here.
    pub since: String,
    /// Lease reads served.
    pub lease_reads: Option<CounterRule>,
    /// Reads served while an older lease may have been alive.
    pub inherited_reads: Option<CounterRule>,
    /// Rounds of messages that a read asked for.
    pub read_rounds: Option<CounterRule>,
    /// Heartbeat rounds.
    pub heartbeat_rounds: Option<CounterRule>,
    /// Elections begun.
    pub elections_started: Option<CounterRule>,
}

/// See [`Step::ExpectDump`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectDump {
    /// In dump.txt of each of these nodes.
    pub nodes: Nodes,
    /// The sentence; `{id}` stands for the node's own id, `*` for any text.
    pub says: String,
    /// After this.
    pub since: String,
    /// It must not be there.
    #[serde(default)]
    pub never: bool,
    /// At most after this.
    pub within: Option<Span>,
}

/// See [`Step::ExpectLeaseExpiry`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectLeaseExpiry {
    /// The node that led.
    pub leader: Nodes,
    /// It lost its majority after this.
    pub since: String,
    /// What clocks of different hosts, and a busy machine, may add.
    pub tolerance: Span,
    /// At most after this.
    pub within: Option<Span>,
}
