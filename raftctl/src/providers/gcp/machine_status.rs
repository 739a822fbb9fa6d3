//! How a node's machine is, as Google shows it: in words, with the next command that leads on. Pure.

use std::time::{Duration, SystemTime};

use super::gcloud::MachineState;
use crate::cluster::NodeId;

/// What verbs say that need a machine.
pub const GONE: &str = "its machine is gone; `raftctl up` makes it again";

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineStatus {
    /// None was ever made for the node.
    NeverMade,
    /// It was made, and a look that was whole did not find it.
    Gone {
        /// Its data disk is there.
        has_disk: bool,
    },
    /// It is there.
    There(MachineState),
}

impl MachineStatus {
    /// In a word: Google's own, `GONE`, or `NONE`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            MachineStatus::NeverMade => "NONE",
            MachineStatus::Gone { .. } => "GONE",
            MachineStatus::There(state) => &state.status,
        }
    }

    /// When it will delete itself, if ever.
    #[must_use]
    pub fn ends_in(&self, now: SystemTime) -> Option<Duration> {
        let MachineStatus::There(state) = self else {
            return None;
        };
        let left = state.ends_at?.duration_since(now).ok()?;
        Some(Duration::from_secs(left.as_secs()))
    }

    /// Whether it is going off, and can't be switched on before it is.
    #[must_use]
    pub fn is_going_off(&self) -> bool {
        matches!(self, MachineStatus::There(state) if state.is_going_off())
    }

    /// What is wrong and what to do about it; nothing where it runs.
    #[must_use]
    pub fn trouble(&self, id: NodeId) -> Option<(String, String)> {
        let state = match self {
            MachineStatus::NeverMade => {
                return advice("it has no machine yet", "`raftctl up` makes one");
            }
            MachineStatus::Gone { has_disk: true } => {
                return advice(
                    "its machine is gone",
                    "`raftctl up` makes it again, with its data",
                );
            }
            MachineStatus::Gone { has_disk: false } => {
                let words = "its machine is gone, and so is its data disk";
                return advice(
                    words,
                    "`raftctl up --allow-data-loss` makes both anew, and the node learns from the others",
                );
            }
            MachineStatus::There(state) => state,
        };
        let status = state.status.as_str();
        let restart = format!("`raftctl restart {id} --vm`");
        match status {
            "RUNNING" => None,
            "PROVISIONING" | "STAGING" => advice(
                &format!("its machine is being switched on ({status})"),
                "look again in half a minute",
            ),
            _ if state.is_going_off() => advice(
                &format!("its machine is going off ({status})"),
                &format!("{restart} waits for that and switches it on again"),
            ),
            "TERMINATED" | "STOPPED" => advice(
                &format!("its machine is off ({status})"),
                &format!("{restart} switches it on"),
            ),
            "SUSPENDED" => advice(
                "its machine is suspended (SUSPENDED)",
                "`gcloud compute instances resume` wakes it, with its name and zone",
            ),
            "REPAIRING" => advice(
                "its machine failed, and Google is repairing it (REPAIRING)",
                "look again in some minutes",
            ),
            other => advice(
                &format!("its machine is {other}"),
                "look again in some minutes; the console of Google Cloud tells more",
            ),
        }
    }
}

fn advice(words: &str, next: &str) -> Option<(String, String)> {
    Some((words.to_owned(), next.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every state that Google has for a machine: what is said of it, and the command that leads on from
    // there. Where nothing but time helps, no command is named.
    #[test]
    fn each_state_has_its_next_step() {
        let there = |status: &str| {
            MachineStatus::There(MachineState {
                status: status.into(),
                ends_at: None,
                external_ip: None,
                machine_type: "e2-small".into(),
            })
        };
        let on = "`raftctl restart 3 --vm`";
        let table = [
            (
                MachineStatus::NeverMade,
                "no machine yet",
                "`raftctl up` makes one",
            ),
            (
                MachineStatus::Gone { has_disk: true },
                "is gone",
                "`raftctl up` makes it again, with its data",
            ),
            (
                MachineStatus::Gone { has_disk: false },
                "so is its data disk",
                "`raftctl up --allow-data-loss`",
            ),
            (there("PROVISIONING"), "being switched on", "look again"),
            (there("STAGING"), "being switched on", "look again"),
            (there("STOPPING"), "going off", on),
            (there("PENDING_STOP"), "going off", on),
            (there("SUSPENDING"), "going off", on),
            (there("TERMINATED"), "is off (TERMINATED)", on),
            (there("STOPPED"), "is off (STOPPED)", on),
            (
                there("SUSPENDED"),
                "is suspended",
                "`gcloud compute instances resume`",
            ),
            (there("REPAIRING"), "repairing", "look again"),
            (there("SOMETHING_NEW"), "SOMETHING_NEW", "look again"),
        ];
        for (status, words, next) in table {
            let (said, advice) = status.trouble(3).unwrap();
            assert!(said.contains(words), "{status:?}: {said}");
            assert!(advice.contains(next), "{status:?}: {advice}");
        }
        assert_eq!(there("RUNNING").trouble(3), None);
    }
}
