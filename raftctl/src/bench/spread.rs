//! How long clients waited in several moments: the middle, the worst, and each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::etcd::Etcd;
use super::gaps::Stretch;
use super::ledger::Checked;
use crate::cluster::Cluster;
use crate::error::Result;

/// Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the moments took no longer.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
    /// All, in their order.
    pub each_ms: Vec<f64>,
}

impl Spread {
    /// Of at least one moment.
    fn new(each_ms: Vec<f64>) -> Self {
        let mut sorted = each_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Spread {
            median_ms: rounded(median(&sorted)),
            worst_ms: sorted.last().copied().unwrap_or_default(),
            each_ms,
        }
    }
}

/// The middle of sorted figures: of an even number of them, half way between the two in the middle.
#[must_use]
pub fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match (sorted.len().is_multiple_of(2), sorted.get(half)) {
        (_, None) => 0.0,
        (false, Some(middle)) => *middle,
        (true, Some(upper)) => (sorted[half - 1] + upper) / 2.0,
    }
}

/// Who was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// The cluster's name, or which other store it is.
    pub cluster: String,
    /// Where its hosts come from; null for another store.
    pub provider: Option<String>,
    /// How many nodes it has.
    pub nodes: usize,
    /// The lease; null for another store.
    pub lease_ms: Option<u64>,
}

impl Subject {
    /// The cluster.
    #[must_use]
    pub fn own(cluster: &Cluster) -> Self {
        Subject {
            cluster: cluster.name.clone(),
            provider: Some(cluster.provider.name().to_owned()),
            nodes: cluster.nodes.len(),
            lease_ms: Some(cluster.timing.lease_ms),
        }
    }

    /// Some members of etcd.
    ///
    /// # Errors
    /// No member answers.
    pub async fn etcd(etcd: &Etcd) -> Result<Self> {
        let version = etcd.reconnected()?.version().await?;
        Ok(Subject {
            cluster: format!("etcd {version}"),
            provider: None,
            nodes: etcd.member_count(),
            lease_ms: None,
        })
    }
}

/// What clients noticed of some moments of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct Moments {
    /// Who was asked.
    #[serde(flatten)]
    pub subject: Subject,
    /// What happened.
    pub what: &'static str,
    /// The longest time without the answer to a read.
    pub read_gap: Spread,
    /// The longest time without the answer to a write.
    pub write_gap: Spread,
    /// How many reads and writes were answered.
    pub answered: u64,
    /// How long these moments lasted together.
    pub seconds: f64,
    /// Reads that were answered a second, while these moments lasted.
    pub reads_per_second: f64,
    /// The same of writes.
    pub writes_per_second: f64,
    /// Operations that failed though they were sent again, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Whether every write that was acknowledged was there in the end.
    pub checked: Checked,
    /// Whether fewer moments are told of than were asked for: somebody ended it.
    pub interrupted: bool,
    /// How many terms began meanwhile, hand-overs among them; null where that is what is measured.
    pub elections: Option<u64>,
}

/// To one digit behind the point.
fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

impl Moments {
    /// What `stretches` held.
    #[must_use]
    pub fn new(
        subject: Subject,
        what: &'static str,
        stretches: &[Stretch],
        elections: Option<u64>,
    ) -> Self {
        let ms = |gap: &dyn Fn(&Stretch) -> Duration| {
            let each = stretches.iter().map(|one| gap(one).as_secs_f64() * 1000.0);
            Spread::new(each.map(rounded).collect())
        };
        let mut failed = BTreeMap::new();
        for (why, count) in stretches.iter().flat_map(|one| &one.failures) {
            *failed.entry((*why).to_owned()).or_default() += count;
        }
        let lasted: Duration = stretches.iter().map(|one| one.lasted).sum();
        let [reads, writes] = [0, 1].map(|kind| {
            let answers: u64 = stretches.iter().map(|one| one.answers[kind]).sum();
            rounded(answers as f64 / lasted.as_secs_f64().max(f64::MIN_POSITIVE))
        });
        Moments {
            subject,
            what,
            read_gap: ms(&|one| one.reads),
            write_gap: ms(&|one| one.writes),
            answered: stretches.iter().flat_map(|one| one.answers).sum(),
            seconds: lasted.as_secs_f64(),
            reads_per_second: reads,
            writes_per_second: writes,
            failed,
            checked: Checked::default(),
            interrupted: false,
            elections,
        }
    }

    /// A line of what it was, then one each for reads and writes.
    #[must_use]
    pub fn text(&self) -> String {
        let times = self.read_gap.each_ms.len();
        let Subject { cluster, nodes, .. } = &self.subject;
        let partial = match self.interrupted {
            true => "PARTIAL: interrupted before all was done\n",
            false => "",
        };
        let mut text = format!("{partial}{cluster}: {nodes} nodes");
        if let (Some(provider), Some(lease)) = (&self.subject.provider, self.subject.lease_ms) {
            let _ = write!(text, " ({provider}), lease {lease} ms");
        }
        let _ = write!(text, "; {}", self.what);
        if times != 1 {
            let _ = write!(text, ", {times} times");
        }
        text.push_str("\n\nlongest time without an answer\n");
        for (name, spread) in [("reads", &self.read_gap), ("writes", &self.write_gap)] {
            let (median, worst) = (spread.median_ms, spread.worst_ms);
            let _ = match times {
                1 => writeln!(text, "{name:<7}{worst:>10.1} ms"),
                _ => writeln!(
                    text,
                    "{name:<7}{median:>10.1} ms (median){worst:>10.1} ms (worst)   each: {}",
                    each(&spread.each_ms)
                ),
            };
        }
        let failed: u64 = self.failed.values().sum();
        let _ = write!(
            text,
            "\n{} operations answered ({:.0} reads and {:.0} writes a second), {failed} failed",
            self.answered, self.reads_per_second, self.writes_per_second
        );
        if let Some(elections) = self.elections {
            let changes = if elections == 1 { "change" } else { "changes" };
            let _ = write!(text, "; {elections} {changes} of the leader");
        }
        text.push('\n');
        for (why, count) in &self.failed {
            let _ = writeln!(text, "failed: {why} {count}");
        }
        if self.checked != Checked::default() {
            let _ = writeln!(text, "{}", self.checked.text());
        }
        text
    }
}

/// All of them, in their order.
fn each(each_ms: &[f64]) -> String {
    let all: Vec<String> = each_ms.iter().map(|ms| format!("{ms:.0}")).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    // The median and the worst are of the moments, and failures of all of them add up.
    #[test]
    fn moments_are_told_by_their_middle_and_their_worst() {
        let cluster =
            crate::cluster::from_text("name: demo\nnodes: 3\n", Path::new("cluster.yaml")).unwrap();
        let stretch = |reads: u64, writes: u64| Stretch {
            lasted: Duration::from_millis(500),
            reads: Duration::from_millis(reads),
            writes: Duration::from_millis(writes),
            answers: [10, 5],
            failures: [("no leader", 1)].into(),
        };
        let of =
            |stretches: &[Stretch]| Moments::new(Subject::own(&cluster), "kill", stretches, None);
        let three = of(&[stretch(20, 90), stretch(30, 2000), stretch(10, 80)]);
        assert_eq!(
            three.text(),
            "demo: 3 nodes (local), lease 2000 ms; kill, 3 times\n\n\
             longest time without an answer\n\
             reads        20.0 ms (median)      30.0 ms (worst)   each: 20 30 10\n\
             writes       90.0 ms (median)    2000.0 ms (worst)   each: 90 2000 80\n\n\
             45 operations answered (20 reads and 10 writes a second), 3 failed\nfailed: no leader 3\n"
        );
        let two = of(&[stretch(20, 90), stretch(31, 80)]);
        assert_eq!(
            (two.read_gap.median_ms, two.write_gap.median_ms),
            (25.5, 85.0)
        );
        let mut one = of(&[stretch(20, 90)]);
        one.checked.keys = 7;
        assert!(
            one.text()
                .ends_with("\n7 keys read again: each holds what was acknowledged last\n")
        );
        one.interrupted = true;
        assert!(one.text().starts_with("PARTIAL: "));
        one.elections = Some(1);
        assert!(one.text().contains("; 1 change of the leader\n"));
        one.elections = Some(2);
        let text = one.text();
        assert!(text.contains("writes       90.0 ms\n"), "{text}");
        assert!(text.contains("; 2 changes of the leader\n"), "{text}");
    }
}
