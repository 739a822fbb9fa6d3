//! All series, with their names and what they mean, in Prometheus' text format.
//!
//! The text is made by `prometheus-client`, the library of the Prometheus project, out of what is
//! there when it is asked for; nothing is registered and nothing is kept.

use super::{Metrics, Path, REASONS};
use crate::clock::Clock;
use crate::guests::Guests;
use crate::identity::Identity;
use crate::raft::Micros;
use crate::space::Space;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use raftkv::kv::ErrorReason;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What [`Sources::text`] is, in HTTP's words.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Who is connected to each socket.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Clients and operators.
    pub clients: Arc<Guests>,
    /// Other nodes.
    pub peers: Arc<Guests>,
}

/// What is looked at for each answer.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// The clock of leases.
    pub clock: Arc<Clock>,
    /// Room on the disk.
    pub space: Arc<Space>,
    /// Connections.
    pub sockets: Sockets,
    /// Who this is.
    pub identity: Arc<Identity>,
    /// Bound on how wrong any clock may run.
    pub max_clock_drift_ppm: u64,
}

impl Sources {
    /// All series as they are now.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.identify(&mut page)?;
        self.consensus(&mut page)?;
        self.requests(&mut page)?;
        self.machine(&mut page)
    }
}

/// Labels and the value of one series.
type Series = (&'static [(&'static str, &'static str)], u64);

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.family(name, help, MetricType::Gauge)?)
    }

    /// `_total` is added to the name.
    fn counter(&mut self, name: &'static str, help: &str, count: &AtomicU64) -> fmt::Result {
        let value = count.load(Relaxed);
        ConstCounter::new(value).encode(self.family(name, help, MetricType::Counter)?)
    }

    fn counters(&mut self, name: &'static str, help: &str, series: &[Series]) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn gauges(&mut self, name: &'static str, help: &str, series: &[Series]) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (labels, value) in series {
            ConstGauge::new(*value as f64).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn seconds(us: Micros) -> f64 {
    us as f64 / 1e6
}

impl Sources {
    fn identify(&self, page: &mut Page<'_>) -> fmt::Result {
        let node = self.identity.id.to_string();
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("node", &*node)];
        let help = "Always 1; the labels tell the version and the id of the node.";
        let mut family = page.family("raftkv_build_info", help, MetricType::Gauge)?;
        ConstGauge::new(1.0).encode(family.encode_family(&labels)?)?;
        page.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            self.metrics.started_seconds,
        )
    }

    fn consensus(&self, page: &mut Page<'_>) -> fmt::Result {
        let (seen, told) = (&self.metrics.seen, &self.metrics.told);
        let now_us = self.clock.now_us();
        let load = |value: &AtomicU64| value.load(Relaxed);
        let left = |until_us: &AtomicU64| seconds(load(until_us).saturating_sub(now_us));
        page.gauge(
            "raftkv_leader",
            "1 while this node leads, otherwise 0.",
            load(&seen.leads) as f64,
        )?;
        page.gauge("raftkv_term", "The node's term.", load(&seen.term) as f64)?;
        page.gauge(
            "raftkv_commit_index",
            "Entries of the log that are known to be committed.",
            load(&seen.commit_index) as f64,
        )?;
        page.gauge(
            "raftkv_applied_index",
            "Entries of the log that are applied to the store.",
            load(&seen.applied_index) as f64,
        )?;
        page.gauge(
            "raftkv_last_index",
            "Entries of the log.",
            load(&seen.last_index) as f64,
        )?;
        page.gauge(
            "raftkv_snapshot_index",
            "The last entry that the newest snapshot holds; 0: there is none.",
            load(&seen.snapshot_index) as f64,
        )?;
        page.gauge(
            "raftkv_lease_remaining_seconds",
            "How long the leader may still answer reads alone, at the time of the scrape; 0 on a node \
             that has no lease.",
            left(&seen.lease_until_us),
        )?;
        page.gauge(
            "raftkv_old_lease_remaining_seconds",
            "How long a new leader still waits for the lease of the one before it, and commits nothing.",
            left(&seen.old_lease_until_us),
        )?;
        page.gauge(
            "raftkv_failure_tolerance",
            "On the leader: how many more nodes may fail before nothing can be written. 0 on others.",
            load(&seen.spare_nodes) as f64,
        )?;
        page.gauge(
            "raftkv_members",
            "Nodes of the cluster, this one included.",
            self.identity.members.len() as f64,
        )?;
        page.gauge(
            "raftkv_log_damaged",
            "1 while the log lacks entries that damage cost, and the node does not vote.",
            load(&seen.damaged) as f64,
        )?;
        page.counter(
            "raftkv_elections_started",
            "Elections that this node stood for.",
            &told.elections_started,
        )?;
        page.counter(
            "raftkv_elections_won",
            "Elections that this node won.",
            &told.elections_won,
        )?;
        page.counter(
            "raftkv_stepped_down",
            "How often this node gave up leading, or standing for it.",
            &told.stepped_down,
        )?;
        page.counter(
            "raftkv_lease_renewal_failures",
            "How often this node led and no majority answered for a whole lease.",
            &told.renewals_failed,
        )?;
        page.counter(
            "raftkv_old_lease_waits",
            "How often this node was elected and had to wait for an older lease.",
            &told.old_lease_waits,
        )?;
        page.counter(
            "raftkv_disk_stalls",
            "How often this node led and gave that up because its disk did not answer.",
            &told.disk_stalls,
        )?;
        page.counter(
            "raftkv_state_differences",
            "How often this leader found that a node had come to another state.",
            &told.states_differ,
        )?;
        page.counters(
            "raftkv_snapshots",
            "Snapshots by what became of them: taken of the own state, skipped although one was due, sent to \
             a follower, installed from a leader.",
            &[
                (&[("event", "taken")], load(&told.snapshots_taken)),
                (&[("event", "skipped")], load(&told.snapshots_skipped)),
                (&[("event", "sent")], load(&told.snapshots_sent)),
                (&[("event", "installed")], load(&told.snapshots_installed)),
            ],
        )
    }

    fn requests(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = &self.metrics;
        let help = "From the arrival of a request at this node to its answer, for those that were \
                    answered, by operation and by what the answer rests on.";
        let name = "raftkv_request_duration_seconds";
        let mut family = page.family(name, help, MetricType::Histogram)?;
        for path in Path::ALL {
            let series = &path.labels();
            metrics.requests[path as usize].encode(family.encode_family(series)?)?;
        }
        let help = "Requests that were not done, or whose outcome is unknown, by the reason that the client \
                    was told.";
        let mut family = page.family("raftkv_refusals", help, MetricType::Counter)?;
        for number in 0..REASONS {
            let reason = i32::try_from(number).ok().map(ErrorReason::try_from);
            let Some(Ok(reason)) = reason else { continue };
            let count = ConstCounter::new(metrics.refused[number].load(Relaxed));
            count.encode(family.encode_family(&[("reason", reason.as_str_name())])?)?;
        }
        page.gauge(
            "raftkv_requests_waiting",
            "Requests that wait for their outcome.",
            metrics.seen.waiting.load(Relaxed) as f64,
        )?;
        let help = "Writes that the leader's loop took in at once: they share a flush.";
        let name = "raftkv_batch_writes";
        metrics
            .batches
            .encode(page.family(name, help, MetricType::Histogram)?)?;
        let help = "Steps of the node's loop in which it applied entries to the store.";
        let name = "raftkv_apply_duration_seconds";
        metrics
            .applies
            .encode(page.family(name, help, MetricType::Histogram)?)
    }

    fn machine(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Flushes (fdatasync) of the log, and of the mark that stands in for it on an idle leader.";
        let name = "raftkv_fsync_duration_seconds";
        let family = page.family(name, help, MetricType::Histogram)?;
        self.metrics.fsyncs.encode(family)?;
        page.gauge(
            "raftkv_disk_free_bytes",
            "What can still be written to the disk of the node's directory.",
            self.space.free_bytes() as f64,
        )?;
        page.gauge(
            "raftkv_disk_kept_bytes",
            "With less room than this, writes of clients are refused.",
            self.space.mark_bytes() as f64,
        )?;
        let sockets = &self.sockets;
        page.gauges(
            "raftkv_connections",
            "Open connections from clients (operators are among them) and from other nodes.",
            &[
                (&[("from", "clients")], sockets.clients.count() as u64),
                (&[("from", "peers")], sockets.peers.count() as u64),
            ],
        )?;
        page.gauge(
            "raftkv_clock_seconds",
            "The clock that leases are measured with. Its rate against the scraper's clock shows its drift: \
             deriv(raftkv_clock_seconds[30m]) - 1.",
            seconds(self.clock.now_us()),
        )?;
        page.gauge(
            "raftkv_clock_drift_limit_ratio",
            "How wrong any clock may run before leases are unsafe: 0.005 is 0.5 %.",
            self.max_clock_drift_ppm as f64 / 1e6,
        )
    }
}
