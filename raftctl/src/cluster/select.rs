//! Selectors: how nodes are named on the command line.
//!
//! `3`, `1,3`, `1-3`, `leader`, `followers`, `majority`, `minority`, `random`, `all`. Ids and
//! words may be mixed: `leader,3`.

use std::collections::BTreeSet;

use rand::seq::IndexedRandom;

use crate::cluster::NodeId;
use crate::error::problem::closest;

const WORDS: &[&str] = &[
    "leader",
    "followers",
    "majority",
    "minority",
    "random",
    "all",
];

/// Why a selector names no nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// It is no selector. Correct it.
    #[error("{word:?} names no node{hint}; possible are {possible}")]
    Unknown {
        /// What is wrong.
        word: String,
        /// "; did you mean ...?", or nothing.
        hint: String,
        /// All that would be right.
        possible: String,
    },
    /// A comma has nothing on one side. Remove it.
    #[error("{selector:?} has nothing on one side of a comma; possible are {possible}")]
    Gap {
        /// The whole selector.
        selector: String,
        /// All that would be right.
        possible: String,
    },
    /// It needs the leader, and there is none at the moment. Name the node by its id.
    #[error("{0:?} needs a leader, and there is none now; name nodes by id, or look at `status`")]
    NoLeader(String),
    /// It names none here. Name nodes by id.
    #[error("{0:?} is no node of this cluster: it is too small to have a minority")]
    Empty(String),
}

/// Whether a selector means something else with another leader.
#[must_use]
pub fn asks_for_leader(selector: &str) -> bool {
    let mut words = selector.split(',').map(str::trim);
    words.any(|word| ["leader", "followers", "majority", "minority"].contains(&word))
}

/// The nodes that a selector names, rising, at least one.
///
/// `majority` and `minority` split the cluster so that the leader, where there is one, is in the
/// minority: that is the interesting half to cut off or to kill. `random` is one node.
///
/// # Errors
/// A word that is no selector, an id that is no node, or a leader that is not there.
pub fn select(
    selector: &str,
    ids: &[NodeId],
    leader: Option<NodeId>,
) -> Result<Vec<NodeId>, SelectError> {
    let mut chosen = BTreeSet::new();
    for word in selector.split(',').map(str::trim) {
        let those = match word {
            "all" => ids.to_vec(),
            "random" => ids.choose(&mut rand::rng()).copied().into_iter().collect(),
            "leader" => vec![leader.ok_or_else(|| SelectError::NoLeader(word.into()))?],
            "followers" => {
                let leader = leader.ok_or_else(|| SelectError::NoLeader(word.into()))?;
                ids.iter().copied().filter(|id| *id != leader).collect()
            }
            "" if selector.contains(',') => {
                let (selector, possible) = (selector.to_owned(), possible(ids));
                return Err(SelectError::Gap { selector, possible });
            }
            "minority" => halves(ids, leader).0,
            "majority" => halves(ids, leader).1,
            word => by_id(word, ids).ok_or_else(|| unknown(word, ids))?,
        };
        chosen.extend(those);
    }
    if chosen.is_empty() {
        return Err(SelectError::Empty(selector.into()));
    }
    Ok(chosen.into_iter().collect())
}

/// The minority, the leader first, and the majority.
fn halves(ids: &[NodeId], leader: Option<NodeId>) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut order: Vec<NodeId> = leader.into_iter().collect();
    order.extend(ids.iter().filter(|id| Some(**id) != leader));
    let majority = order.split_off((ids.len() - 1) / 2);
    (order, majority)
}

/// `3` or `1-3`, all of them nodes.
fn by_id(word: &str, ids: &[NodeId]) -> Option<Vec<NodeId>> {
    let (first, last) = match word.split_once('-') {
        Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
        None => {
            let id: NodeId = word.parse().ok()?;
            (id, id)
        }
    };
    let those: Vec<NodeId> = ids
        .iter()
        .copied()
        .filter(|id| (first..=last).contains(id))
        .collect();
    // Both ends must be there: 3-9 of five nodes is a slip.
    (those.first() == Some(&first) && those.last() == Some(&last)).then_some(those)
}

fn unknown(word: &str, ids: &[NodeId]) -> SelectError {
    let hint = closest(word, WORDS).map(|near| format!(", did you mean {near}?"));
    SelectError::Unknown {
        word: word.into(),
        hint: hint.unwrap_or_default(),
        possible: possible(ids),
    }
}

fn possible(ids: &[NodeId]) -> String {
    let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    format!(
        "an id ({}), a list like 1,3, a range like 1-3, {}",
        ids.join(", "),
        WORDS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: &[NodeId] = &[1, 2, 3, 4, 5];

    fn chosen(selector: &str) -> Vec<NodeId> {
        select(selector, FIVE, Some(3)).unwrap()
    }

    // Every way of naming nodes means what the manual says, mixtures included.
    #[test]
    fn selectors_name_nodes() {
        assert_eq!(chosen("3"), [3]);
        assert_eq!(chosen("3, 1"), [1, 3]);
        assert_eq!(chosen("2-4"), [2, 3, 4]);
        assert_eq!(chosen("leader"), [3]);
        assert_eq!(chosen("followers"), [1, 2, 4, 5]);
        assert_eq!(chosen("all"), FIVE);
        assert_eq!(chosen("leader,5"), [3, 5]);
        assert_eq!(chosen("random").len(), 1);
    }

    // The two halves share no node, cover all, and the leader is in the smaller one.
    #[test]
    fn halves_split_the_cluster() {
        for count in 2..=7 {
            let ids: Vec<NodeId> = (1..=count).collect();
            let minority = select("minority", &ids, Some(2)).unwrap_or_default();
            let majority = select("majority", &ids, Some(2)).unwrap();
            assert_eq!(majority.len(), ids.len() - minority.len());
            assert!(majority.len() > ids.len() / 2, "{count}: {majority:?}");
            assert!(minority.iter().all(|id| !majority.contains(id)));
            assert!(count < 3 || minority.contains(&2), "{count}: {minority:?}");
        }
    }

    // What names no node says what would.
    #[test]
    fn wrong_selectors_say_what_is_possible() {
        for wrong in ["6", "0", "3-9", "4-2", "leadr", "", "1,,2", "-1", "1-", "x"] {
            let error = select(wrong, FIVE, Some(3)).unwrap_err();
            assert!(
                error.to_string().contains("an id (1, 2, 3, 4, 5)"),
                "{wrong}: {error}"
            );
        }
        for gap in ["1,,2", ",1", "1,", ","] {
            let error = select(gap, FIVE, Some(3)).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{gap:?} has nothing on one side of a comma")),
                "{error}"
            );
        }
        let error = select("leadr", FIVE, None).unwrap_err().to_string();
        assert!(error.contains("did you mean leader?"), "{error}");
    }

    // Without a leader its selectors fail, and the others don't.
    #[test]
    fn a_missing_leader_is_said() {
        assert!(matches!(
            select("leader", FIVE, None),
            Err(SelectError::NoLeader(_))
        ));
        assert!(matches!(
            select("followers", FIVE, None),
            Err(SelectError::NoLeader(_))
        ));
        assert_eq!(select("minority", FIVE, None).unwrap(), [1, 2]);
        assert!(asks_for_leader("1, leader") && !asks_for_leader("all"));
    }
}
