//! Starting, stopping, killing, pausing and resuming nodes.

use std::time::Duration;

use super::Context;
use super::certificates::Wanted;
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::error::Error;
use crate::hosts::control::{self, NodeFacts, ProcessState, Signalled};
use crate::local::binary::Binary;
use crate::plan::arguments;
use crate::scripts::{NodeSignal, Thaw};

/// SIGKILL and SIGSTOP are obeyed at once; a machine under load may need a moment to show it.
const OBEY_AT_ONCE: Duration = Duration::from_secs(5);

impl Context {
    /// Starts those of the nodes that do not run, with good certificates where they speak TLS. Whether each was started, and its facts: a node
    /// that ended right away is not running there.
    pub async fn start(&self, ids: &[NodeId], binary: &Binary) -> Outcomes<(bool, NodeFacts)> {
        let deadline = self.cluster.limits.step;
        let origin = match self.origin().await {
            Ok(origin) => origin,
            Err(error) => return ids.iter().map(|id| (*id, Err(error.clone()))).collect(),
        };
        let mut uncertified = Outcomes::new();
        if self.cluster.tls.needs_certificates() {
            for (id, outcome) in self.certify(ids, &binary.path, Wanted::Missing).await {
                if let Err(error) = outcome {
                    uncertified.insert(id, Err(error));
                }
            }
        }
        let ids = ids
            .iter()
            .copied()
            .filter(|id| !uncertified.contains_key(id));
        let ids: Vec<NodeId> = ids.collect();
        let mut started = self
            .on_hosts(&ids, |host, here| {
                let node = |id: &NodeId| {
                    let what = (binary.path.as_path(), binary.sha256.as_str());
                    let origin = (origin.0, &origin.1);
                    arguments::start_node(&self.cluster, &self.inventory, origin, *id, what)
                };
                let nodes: Vec<_> = here.iter().map(node).collect();
                async move {
                    let answers = control::start(&host, &nodes, deadline).await?;
                    Ok(answers
                        .into_iter()
                        .map(|answer| (answer.1.id, answer))
                        .collect())
                }
            })
            .await;
        started.extend(uncertified);
        started
    }

    /// Kills nodes as a crash would; each is confirmed to be gone, and stays so until it is
    /// started.
    pub async fn kill(&self, ids: &[NodeId]) -> Outcomes<Signalled> {
        self.signal(ids, NodeSignal::Kill, None, OBEY_AT_ONCE).await
    }

    /// Stops nodes in order: they hand over leadership, flush, and exit, within `grace`.
    pub async fn stop(&self, ids: &[NodeId], grace: Duration) -> Outcomes<Signalled> {
        self.signal(ids, NodeSignal::Stop, None, grace).await
    }

    /// Freezes nodes. They keep their memory and connections and do nothing, until they are resumed;
    /// with `length`, they go on by themselves after that, in whole seconds, whoever is gone by then.
    pub async fn pause(&self, ids: &[NodeId], length: Option<Duration>) -> Outcomes<Signalled> {
        let thaw = length.map(|length| Thaw {
            after_seconds: length
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            mark: format!("{:016x}", rand::random::<u64>()),
        });
        self.signal(ids, NodeSignal::Pause, thaw, OBEY_AT_ONCE)
            .await
    }

    /// Lets paused nodes go on.
    pub async fn resume(&self, ids: &[NodeId]) -> Outcomes<Signalled> {
        self.signal(ids, NodeSignal::Resume, None, OBEY_AT_ONCE)
            .await
    }

    async fn signal(
        &self,
        ids: &[NodeId],
        signal: NodeSignal,
        thaw: Option<Thaw>,
        wait: Duration,
    ) -> Outcomes<Signalled> {
        let deadline = self.cluster.limits.step;
        let mut outcomes = self
            .on_hosts(ids, |host, here| {
                let thaw = thaw.clone();
                async move {
                    let thaw = thaw.as_ref();
                    let answers =
                        control::signal(&host, &here, signal, thaw, wait, deadline).await?;
                    Ok(answers
                        .into_iter()
                        .map(|answer| (answer.id, answer))
                        .collect())
                }
            })
            .await;
        for (id, outcome) in &mut outcomes {
            let disobeyed = match outcome {
                Ok(answer) => disobeyed(signal, *answer),
                Err(_) => None,
            };
            if let Some(detail) = disobeyed {
                *outcome = Err(Error::Host {
                    host: self.inventory.host_of(*id).name().to_owned(),
                    purpose: format!("{} node {id}", verb(signal)),
                    detail,
                });
            }
        }
        // On this machine another folder's cluster may have the same ports.
        let ends = matches!(signal, NodeSignal::Kill | NodeSignal::Stop);
        if ends && self.has_remote_hosts() {
            self.miss_strangers(&mut outcomes, signal).await;
        }
        outcomes
    }

    /// A node that was not there, and answers all the same, is someone else's: it must not be called
    /// stopped.
    async fn miss_strangers(&self, outcomes: &mut Outcomes<Signalled>, signal: NodeSignal) {
        let was_gone = |answer: &Signalled| answer.was == ProcessState::Stopped;
        let gone = outcomes.iter();
        let gone = gone.filter(|(_, outcome)| outcome.as_ref().is_ok_and(was_gone));
        let gone: Vec<NodeId> = gone.map(|(id, _)| *id).collect();
        for (id, reply) in self.replies(&gone).await {
            if reply.is_err() {
                continue;
            }
            let detail = format!(
                "it answers at {}, but was not started from this folder, or by this login: look \
                 after it as whoever started it did (their cluster.yaml, their `ssh.user`)",
                self.inventory.member(id).admin_address
            );
            outcomes.insert(
                id,
                Err(Error::Host {
                    host: self.inventory.host_of(id).name().to_owned(),
                    purpose: format!("{} node {id}", verb(signal)),
                    detail,
                }),
            );
        }
    }
}

fn verb(signal: NodeSignal) -> &'static str {
    match signal {
        NodeSignal::Kill => "kill",
        NodeSignal::Stop => "stop",
        NodeSignal::Pause => "pause",
        NodeSignal::Resume => "resume",
    }
}

/// Why a node's state is not what the signal asked for.
fn disobeyed(signal: NodeSignal, answer: Signalled) -> Option<String> {
    let id = answer.id;
    match (signal, answer.state) {
        (NodeSignal::Kill | NodeSignal::Stop, ProcessState::Stopped)
        | (NodeSignal::Pause, ProcessState::Paused)
        | (NodeSignal::Resume, ProcessState::Running) => None,
        (NodeSignal::Pause | NodeSignal::Resume, ProcessState::Stopped) => Some(format!(
            "it does not run; start it with `raftctl start {id}`"
        )),
        (NodeSignal::Stop, _) => Some(format!(
            "it did not exit in time; end it with `raftctl kill {id}`"
        )),
        (_, state) => Some(format!("it is still {}", state.name())),
    }
}
