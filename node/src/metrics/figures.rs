//! The few of these figures that an operator looks at while the cluster runs: the same counts that the
//! page shows, for those who have no way to its port.

use super::distribution::Distribution;
use super::memory::resident_bytes;
use super::{Metrics, Path};
use std::sync::atomic::Ordering::Relaxed;

/// What was measured since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Upper ends of the buckets of all durations.
    pub bucket_ends_ns: Vec<u64>,
    /// Writes by how long they took, one more bucket than there are ends.
    pub writes: Vec<u64>,
    /// The same of reads, whatever they rested on.
    pub reads: Vec<u64>,
    /// The same of flushes.
    pub fsyncs: Vec<u64>,
    /// What the process has in RAM; 0: not known.
    pub resident_memory_bytes: u64,
    /// Snapshots of its own state.
    pub snapshots_taken: u64,
    /// It led, and gave that up because its disk did not answer.
    pub disk_stalls: u64,
    /// It led, and no majority answered for a whole lease.
    pub renewals_failed: u64,
}

impl Metrics {
    /// The figures of now.
    pub fn figures(&self) -> Figures {
        let writes = self.requests[Path::Commit as usize].counts().collect();
        let mut reads: Vec<u64> = vec![0; Distribution::ends_of_durations_ns().len() + 1];
        for path in Path::ALL.into_iter().filter(|path| *path != Path::Commit) {
            let counts = self.requests[path as usize].counts();
            reads
                .iter_mut()
                .zip(counts)
                .for_each(|(all, own)| *all += own);
        }
        let events = &self.events;
        Figures {
            bucket_ends_ns: Distribution::ends_of_durations_ns().to_vec(),
            writes,
            reads,
            fsyncs: self.fsyncs.counts().collect(),
            resident_memory_bytes: resident_bytes().unwrap_or(0),
            snapshots_taken: events.snapshots_taken.load(Relaxed),
            disk_stalls: events.disk_stalls.load(Relaxed),
            renewals_failed: events.renewals_failed.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    // Writes stand alone, reads of every kind together, each in its bucket.
    #[test]
    fn requests_fall_into_buckets() {
        let metrics = Metrics::default();
        metrics.answered(Path::Commit, Duration::from_millis(1), 3);
        metrics.answered(Path::Lease, Duration::from_micros(20), 5);
        metrics.answered(Path::Quorum, Duration::from_secs(9), 1);
        metrics.flushed(Duration::from_millis(40));
        let figures = metrics.figures();
        assert_eq!(figures.writes, [0, 3, 0, 0, 0, 0, 0]);
        assert_eq!(figures.reads, [5, 0, 0, 0, 0, 0, 1]);
        assert_eq!(figures.fsyncs, [0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(figures.bucket_ends_ns.len() + 1, figures.reads.len());
    }
}
