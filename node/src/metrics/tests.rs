//! What the page shows for what was counted.

use super::*;
use crate::identity::{Identity, Member};
use std::sync::Arc;

/// Most series of one node.
const SERIES_MAX: usize = 120;

fn sources() -> Sources {
    let member = Member {
        peer_address: "n:1".into(),
        client_address: "n:2".into(),
    };
    Sources {
        metrics: Arc::default(),
        clock: Arc::default(),
        space: Arc::default(),
        sockets: Sockets::default(),
        handshakes: Arc::default(),
        identity: Arc::new(Identity::of_test(1, (1..=3).map(|id| (id, member.clone())))),
        max_clock_drift_ppm: 5_000,
    }
}

fn series(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with('#')).collect()
}

/// The value of a series; its name as it stands there, with labels.
fn value(sources: &Sources, name: &str) -> f64 {
    let page = sources.text().unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
    line.trim().parse().unwrap()
}

// There are so many series and no more, and whatever is counted adds none.
#[test]
fn the_series_are_bounded() {
    let sources = sources();
    let before = sources.text().unwrap();
    let count = series(&before).len();
    assert!(
        (100..=SERIES_MAX).contains(&count),
        "{count} series\n{before}"
    );
    for path in Path::ALL {
        sources.metrics.answered(path, Duration::from_secs(100), 3);
    }
    for reason in (0..).map_while(|number| ErrorReason::try_from(number).ok()) {
        sources.metrics.refused(reason);
    }
    sources.metrics.batch(1_000_000);
    for failure in HandshakeFailure::ALL {
        sources.handshakes.count(failure);
    }
    assert_eq!(series(&sources.text().unwrap()).len(), count);
}

// Each reason that a client can be told has a series of its own.
#[test]
fn every_reason_is_counted() {
    let sources = sources();
    let reasons = (0..).map_while(|number| ErrorReason::try_from(number).ok());
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(reasons.len(), REASONS);
    for reason in reasons {
        sources.metrics.refused(reason);
        let name = reason.as_str_name();
        let name = format!("raftkv_refusals_total{{reason=\"{name}\"}}");
        assert_eq!(value(&sources, &name), 1.0, "{name}");
    }
}

// What was measured is in the bucket that it belongs to, and the ends of buckets are plain numbers.
#[test]
fn durations_fall_into_buckets() {
    let sources = sources();
    let metrics = &sources.metrics;
    metrics.flushed(Duration::from_micros(500));
    metrics.flushed(Duration::from_micros(501));
    metrics.flushed(Duration::from_secs(3));
    metrics.answered(Path::Lease, Duration::from_millis(20), 4);
    let page = sources.text().unwrap();
    let expected = "\
# TYPE raftkv_fsync_duration_seconds histogram
raftkv_fsync_duration_seconds_bucket{le=\"0.0005\"} 1
raftkv_fsync_duration_seconds_bucket{le=\"0.002\"} 2
raftkv_fsync_duration_seconds_bucket{le=\"0.01\"} 2
raftkv_fsync_duration_seconds_bucket{le=\"0.05\"} 2
raftkv_fsync_duration_seconds_bucket{le=\"0.25\"} 2
raftkv_fsync_duration_seconds_bucket{le=\"2.5\"} 2
raftkv_fsync_duration_seconds_bucket{le=\"+Inf\"} 3
raftkv_fsync_duration_seconds_sum 3.001001
raftkv_fsync_duration_seconds_count 3
";
    assert!(page.contains(expected), "{page}");
    let reads = "raftkv_request_duration_seconds";
    let labels = "operation=\"read\",path=\"lease\"";
    assert_eq!(value(&sources, &format!("{reads}_count{{{labels}}}")), 4.0);
    assert_eq!(value(&sources, &format!("{reads}_sum{{{labels}}}")), 0.08);
    let upper = |end: &str| {
        value(
            &sources,
            &format!("{reads}_bucket{{{labels},le=\"{end}\"}}"),
        )
    };
    assert_eq!((upper("0.01"), upper("0.05")), (0.0, 4.0));
}

// Each kind of event has its counter; what comes with every request is not counted so.
#[test]
fn events_are_counted() {
    let sources = sources();
    let snapshot = Default::default();
    let (term, peer) = (1, 2);
    let kinds = [
        (Event::ElectionStarted { term }, "elections_started_total"),
        (Event::BecameLeader { term }, "elections_won_total"),
        (Event::SteppedDown { term }, "stepped_down_total"),
        (
            Event::LeaseRenewalFailed { term },
            "lease_renewal_failures_total",
        ),
        (
            Event::WaitingForOldLease {
                term,
                remaining_us: 1,
            },
            "old_lease_waits_total",
        ),
        (Event::DiskStalled { term }, "disk_stalls_total"),
        (
            Event::StateDiffers {
                peer,
                term,
                index: 1,
                agreed: true,
            },
            "state_differences_total",
        ),
        (
            Event::SnapshotTaken { term, snapshot },
            "snapshots_total{event=\"taken\"}",
        ),
        (
            Event::SnapshotSkipped { term, index: 1 },
            "snapshots_total{event=\"skipped\"}",
        ),
        (
            Event::SnapshotSent {
                peer,
                term,
                snapshot,
            },
            "snapshots_total{event=\"sent\"}",
        ),
        (
            Event::SnapshotInstalled { term, snapshot },
            "snapshots_total{event=\"installed\"}",
        ),
    ];
    let all = |sources: &Sources| {
        kinds
            .each_ref()
            .map(|(_, name)| value(sources, &format!("raftkv_{name}")))
    };
    for (at, (event, name)) in kinds.iter().enumerate() {
        sources.metrics.count(event);
        let mut expected = [0.0; 11];
        expected[..=at].fill(1.0);
        assert_eq!(all(&sources), expected, "{name}");
    }
}

// A lease is reckoned to the moment of the scrape: it runs out although nobody looks at the node again.
#[test]
fn a_lease_runs_out_by_itself() {
    let sources = sources();
    let left = || value(&sources, "raftkv_lease_remaining_seconds");
    assert_eq!(left(), 0.0);
    let now_us = sources.clock.now_us();
    let look = |lease_until_us| Look {
        leads: true,
        lease_until_us,
        ..Look::default()
    };
    sources.metrics.look(look(now_us + 3_600_000_000));
    assert!((3_000.0..=3_600.0).contains(&left()));
    sources.metrics.look(look(now_us));
    assert_eq!(left(), 0.0);
    assert_eq!(value(&sources, "raftkv_leader"), 1.0);
}
