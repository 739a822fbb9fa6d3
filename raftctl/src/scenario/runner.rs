//! Plays a scenario: one step after the other against a running cluster, remembering what later
//! steps refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use raftkv::admin::StatusReply;

use super::amounts::Span;
use super::notation::{Nodes, Step};
use super::outcome::{Observed, StepReport, Unmet};
use crate::client::Client;
use crate::cluster::{NodeId, select};
use crate::local::binary::Binary;
use crate::ops::Context;
use crate::ops::store;
use crate::scenario::file::Loaded;

/// What a machine under load may add to what the cluster's timing makes reasonable.
const SLACK: Duration = Duration::from_secs(10);

/// How often something is looked at that is waited for.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What `mark` remembers.
#[derive(Debug, Clone)]
pub struct Mark {
    /// When, before anything was asked.
    pub at: Instant,
    /// What each node said; nodes that did not answer are missing.
    pub replies: BTreeMap<NodeId, StatusReply>,
    /// The time of the last line of each dump.txt, by the clock of its host.
    pub dump_ends: BTreeMap<NodeId, SystemTime>,
}

/// A scenario being played.
pub struct Runner<'a> {
    /// The cluster as cluster.yaml has it.
    pub(super) home: &'a Context,
    /// The same with the guests that it has now.
    pub(super) context: Context,
    pub(super) binary: &'a Binary,
    /// Where files of nodes are fetched to.
    pub(super) folder: PathBuf,
    /// Before each key: what tells them from the user's own.
    pub(super) key_prefix: String,
    pub(super) names: BTreeMap<String, Vec<NodeId>>,
    pub(super) marks: BTreeMap<String, Mark>,
    /// Acknowledged values by their whole key.
    pub(super) written: BTreeMap<String, String>,
    /// Every key that a SET was sent for.
    pub(super) touched: BTreeSet<String>,
    pub(super) client: Client,
}

impl<'a> Runner<'a> {
    /// A runner whose keys and files are told apart by `run`.
    pub fn new(context: &'a Context, binary: &'a Binary, loaded: &Loaded, run: &str) -> Self {
        let name = &loaded.scenario.name;
        Runner {
            home: context,
            context: context.clone(),
            binary,
            folder: context.cluster.state_dir().join("scenario").join(name),
            key_prefix: format!("scenario/{name}/{run}/"),
            names: BTreeMap::new(),
            marks: BTreeMap::new(),
            written: BTreeMap::new(),
            touched: BTreeSet::new(),
            client: Client::new(&store::members(context)),
        }
    }

    /// Plays all steps up to the first that is not as expected, telling `tell` of each.
    pub async fn play(&mut self, loaded: &Loaded, mut tell: impl FnMut(StepReport)) -> bool {
        let started = Instant::now();
        for step in &loaded.scenario.steps {
            let at = started.elapsed();
            let seen = self.step(&step.value).await;
            let took = started.elapsed() - at;
            let passed = seen.is_ok();
            let line = step.defined.line();
            tell(StepReport::new(
                line,
                step.value.to_string(),
                at,
                took,
                seen,
            ));
            if !passed {
                return false;
            }
        }
        true
    }

    async fn step(&mut self, step: &Step) -> Observed {
        match step {
            Step::WaitForLeader(step) => self.wait_for_leader(step).await,
            Step::Choose(step) => self.choose(step).await,
            Step::Kill(nodes) => self.kill(nodes).await,
            Step::Stop(nodes) => self.stop(nodes).await,
            Step::Start(nodes) => self.start(nodes).await,
            Step::Pause(nodes) => self.pause(nodes).await,
            Step::Resume(nodes) => self.resume(nodes).await,
            Step::Partition(step) => self.partition(step).await,
            Step::Heal(nodes) => self.heal(nodes).await,
            Step::Add(guest) => self.add(guest).await,
            Step::Remove(nodes) => self.remove(nodes).await,
            Step::Replace(step) => self.replace(step).await,
            Step::Transfer(nodes) => self.transfer(nodes).await,
            Step::Mark(name) => self.mark(name).await,
            Step::Set(ask) => self.set(ask).await,
            Step::Get(ask) => self.get(ask).await,
            Step::ExpectOneLeader(step) => self.expect_one_leader(step).await,
            Step::ExpectNoLeader(step) => self.expect_no_leader(step).await,
            Step::ExpectMembers(step) => self.expect_members(step).await,
            Step::ExpectRole(step) => self.expect_role(step).await,
            Step::ExpectLog(step) => self.expect_log(step).await,
            Step::ExpectState(step) => self.expect_state(step).await,
            Step::ExpectCounters(step) => self.expect_counters(step).await,
            Step::ExpectDump(step) => self.expect_dump(step).await,
            Step::ExpectLeaseExpiry(step) => self.expect_lease_expiry(step).await,
        }
    }

    /// The nodes that are meant, rising.
    pub(super) async fn resolve(&self, nodes: &Nodes) -> Result<Vec<NodeId>, Unmet> {
        let all = self.context.cluster.ids();
        let mut resolved = BTreeSet::new();
        for word in nodes.words() {
            if let Some(ids) = self.names.get(word) {
                resolved.extend(ids.iter().copied());
                continue;
            }
            let leader = match select::asks_for_leader(word) {
                true => self.context.leader().await,
                false => None,
            };
            let selected = select::select(word, &all, leader);
            resolved.extend(selected.map_err(|error| Unmet::Failed(error.to_string()))?);
        }
        Ok(resolved.into_iter().collect())
    }

    /// A limit of time: what the file says, else what the cluster's timing makes reasonable.
    pub(super) fn limit(&self, within: Option<Span>) -> Duration {
        let timing = &self.context.cluster.timing;
        within.map_or_else(|| timing.recovery() + SLACK, |span| span.resolve(timing))
    }

    /// A mark that an earlier step has set.
    pub(super) fn marked(&self, name: &str) -> &Mark {
        // Checked when the file was read.
        self.marks.get(name).expect("a mark of an earlier step")
    }

    /// What the nodes that answer say.
    pub(super) async fn replies(&self) -> BTreeMap<NodeId, StatusReply> {
        let replies = self.context.replies(&self.context.cluster.ids()).await;
        let answered = replies
            .into_iter()
            .filter_map(|(id, reply)| Some((id, reply.ok()?)));
        answered.collect()
    }
}

/// Looks again and again until `look` is content or the time is over; then what it said last.
pub async fn until(limit: Duration, mut look: impl AsyncFnMut() -> Observed) -> Observed {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look().await;
        match seen {
            Err(Unmet::Expectation { expected, seen }) if Instant::now() >= deadline => {
                let limit = humantime::format_duration(limit);
                return Err(Unmet::expected(format!("{expected}, within {limit}"), seen));
            }
            Err(Unmet::Expectation { .. }) => tokio::time::sleep(LOOK_EVERY).await,
            other => return other,
        }
    }
}
