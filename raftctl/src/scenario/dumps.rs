//! What dump.txt proves. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::outcome::{Observed, Unmet};
use crate::cluster::NodeId;
use crate::cluster::timing::Timing;
use crate::text::records::DumpRecord;

/// What the dumps of nodes tell since some moment.
pub type Dumps = BTreeMap<NodeId, Vec<DumpRecord>>;

/// Whether a sentence is what a pattern says, in which `{id}` is the node and `*` any text.
pub fn says(sentence: &str, pattern: &str, id: NodeId) -> bool {
    let pattern = pattern.replace("{id}", &id.to_string());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = sentence.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// What is known of a leader that lost its majority.
#[derive(Debug, Clone, Copy)]
pub struct LostLeader<'a> {
    /// The node that led.
    pub leader: NodeId,
    /// The last line of its dump.txt before it lost its majority, where it had any.
    pub since: Option<SystemTime>,
    /// How many nodes make a majority, the leader included.
    pub majority: usize,
    /// The cluster's timing.
    pub timing: &'a Timing,
    /// What clocks of different hosts, and a busy machine, may add.
    pub tolerance: Duration,
}

impl LostLeader<'_> {
    /// How long before the mark the lines begin that the verdict needs. A follower that is killed
    /// right after the mark may have accepted its last message before it: there is one a heartbeat,
    /// and no lease begins earlier than a whole one before it ends.
    #[must_use]
    pub fn looks_back(&self) -> Duration {
        Duration::from_millis(self.timing.lease_ms) + self.tolerance
    }
}

/// Whether the leader stepped down when its lease was over.
///
/// The last moment at which a majority had accepted a message of the leader is in the followers'
/// dumps, be it before the mark or after it. A follower that was killed may lack its last lines
/// (docs/files.md says how much); that makes the moment seem one heartbeat earlier, for
/// which the tolerance has to have room. The leader sent that message shortly before, and its lease runs from there, shortened by
/// what its clock may be slow: so it ends before a whole lease is over, and not before the
/// shortened one is, less one heartbeat for a message whose answer may have been lost.
pub fn lease_expiry(dumps: &Dumps, lost: LostLeader<'_>) -> Observed {
    let leader = lost.leader;
    let sentence = format!("Leader {leader} lease renewal failed. Stepping Down.");
    let own = dumps.get(&leader).map_or(&[][..], Vec::as_slice);
    let is_new = |record: &DumpRecord| lost.since.is_none_or(|since| record.at > since);
    let mut after_mark = own.iter().filter(|record| is_new(record));
    let stepped_down = after_mark.find(|record| record.sentence == sentence);
    let Some(stepped_down) = stepped_down else {
        return Err(Unmet::expected(
            format!("{sentence:?} at node {leader}"),
            "no such line",
        ));
    };
    let Some(confirmed) = last_majority(dumps, lost, stepped_down.at) else {
        return Err(Unmet::expected(
            format!("lines of followers that accepted messages of node {leader}"),
            "too few to make a majority",
        ));
    };
    let ms = |duration: Duration| duration.as_micros() as f64 / 1000.0;
    // In range: both are times of this scenario, in this order by how they were found.
    let held = stepped_down
        .at
        .duration_since(confirmed)
        .unwrap_or_default();
    let lease = shortened(lost.timing);
    let heartbeat = Duration::from_millis(lost.timing.heartbeat_ms);
    let earliest = lease.saturating_sub(heartbeat + lost.tolerance);
    let latest = Duration::from_millis(lost.timing.lease_ms) + lost.tolerance;
    let seen = format!(
        "last majority at {}, stepped down {:.1} ms later; a lease is {:.1} ms",
        humantime::format_rfc3339_micros(confirmed),
        ms(held),
        ms(lease)
    );
    if (earliest..=latest).contains(&held) {
        return Ok(seen);
    }
    let expected = format!(
        "stepped down {:.1} to {:.1} ms after the last majority",
        ms(earliest),
        ms(latest)
    );
    Err(Unmet::expected(expected, seen))
}

/// A lease as its holder counts it: shortened so that it ends in time on the slowest clock.
fn shortened(timing: &Timing) -> Duration {
    let drift = timing.max_clock_drift_ppm as f64 / 1e6;
    Duration::from_secs_f64(timing.lease_ms as f64 / 1e3 * (1.0 - drift) / (1.0 + drift))
}

/// When a majority had last accepted a message of the leader, before `until`.
fn last_majority(dumps: &Dumps, lost: LostLeader<'_>, until: SystemTime) -> Option<SystemTime> {
    let accepted = |(id, records): (&NodeId, &Vec<DumpRecord>)| {
        let sentence = format!("Node {id} accepted AppendEntries RPC from {}.", lost.leader);
        let earlier = |record: &&DumpRecord| record.at <= until && record.sentence == sentence;
        records.iter().rev().find(earlier).map(|record| record.at)
    };
    let mut times: Vec<SystemTime> = dumps.iter().filter_map(accepted).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    // The leader itself is one of the majority.
    times.get(lost.majority.checked_sub(2)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + ms)
    }

    fn line(ms: u64, sentence: &str) -> DumpRecord {
        DumpRecord {
            at: at(ms),
            sentence: sentence.into(),
            fields: BTreeMap::new(),
        }
    }

    /// Leader 1 of five; 4 and 5 are heard until the end, 2 and 3 until 1,000 ms.
    fn dumps(stepped_down_ms: u64) -> Dumps {
        let mut dumps = Dumps::new();
        for id in 2..=5u64 {
            let last = if id <= 3 { 1000 + id } else { stepped_down_ms };
            let sentence = format!("Node {id} accepted AppendEntries RPC from 1.");
            let lines = (0..=last).rev().step_by(100).map(|ms| line(ms, &sentence));
            let mut lines: Vec<DumpRecord> = lines.collect();
            lines.reverse();
            dumps.insert(id, lines);
        }
        let fell = "Leader 1 lease renewal failed. Stepping Down.";
        dumps.insert(1, vec![line(stepped_down_ms, fell)]);
        dumps
    }

    fn judge(dumps: &Dumps) -> Observed {
        let lost = LostLeader {
            leader: 1,
            since: Some(at(1010)),
            majority: 4, // Of six or seven nodes: leader, 4, 5, and the last of 2 and 3.
            timing: &Timing::LAN,
            tolerance: Duration::from_millis(50),
        };
        lease_expiry(dumps, lost)
    }

    /// A lease of 2 s, shortened by 1 %, from the last moment of a majority (1,003 ms).
    #[test]
    fn a_lease_ends_neither_early_nor_late() {
        assert!(judge(&dumps(2983)).unwrap().contains("1980.0 ms later"));
        assert!(judge(&dumps(3003 + 50)).is_ok());
        assert!(judge(&dumps(3003 + 51)).is_err(), "held on to its lease");
        assert!(judge(&dumps(2983 - 149)).is_ok());
        assert!(
            judge(&dumps(2983 - 152)).is_err(),
            "gave up a lease that it had"
        );
    }

    /// Followers that were killed before they accepted anything after the mark (at 1,010 ms here)
    /// prove by what they accepted before it; a leader's fall before the mark is another story.
    #[test]
    fn what_was_accepted_before_the_mark_counts() {
        let mut killed = dumps(2983);
        let last = |id: u64| killed[&id].last().unwrap().at;
        assert!(last(2) < at(1010) && last(3) < at(1010), "before the mark");
        assert!(judge(&killed).is_ok());
        let fell = "Leader 1 lease renewal failed. Stepping Down.";
        killed.insert(1, vec![line(1005, fell)]);
        assert!(judge(&killed).is_err());
    }

    /// Without the sentence, or without a majority before it, nothing is proven.
    #[test]
    fn what_is_missing_proves_nothing() {
        let mut silent = dumps(2983);
        silent.get_mut(&1).unwrap().clear();
        assert!(judge(&silent).is_err());
        let mut few = dumps(2983);
        few.retain(|id, _| [1, 4, 5].contains(id));
        assert!(judge(&few).is_err());
    }

    /// `*` stands for any text, `{id}` for the node, everything else for itself.
    #[test]
    fn patterns_match_whole_sentences() {
        let sentence = "Node 3 became the leader for term 7.";
        assert!(says(sentence, "Node {id} became the leader for term *.", 3));
        assert!(!says(
            sentence,
            "Node {id} became the leader for term *.",
            2
        ));
        assert!(says(sentence, sentence, 1));
        assert!(!says(sentence, "Node 3 became the leader", 3));
        assert!(says(sentence, "*leader*", 3));
        assert!(!says(sentence, "*follower*", 3));
        assert!(says("aXbXc", "a*b*c", 1) && !says("abX", "a*b*c", 1));
    }
}
