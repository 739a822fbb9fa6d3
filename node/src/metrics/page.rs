//! All series, with their names and what they mean, in Prometheus' text format.
//!
//! The text is made by `prometheus-client`, the library of the Prometheus project, out of what is
//! there when it is asked for; nothing is registered and nothing is kept.

use super::{HandshakeFailure, HandshakeFailures, Metrics, Path, REASONS};
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
    /// Handshakes of TLS that failed.
    pub handshakes: Arc<HandshakeFailures>,
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
        let (last, events) = (&self.metrics.last, &self.metrics.events);
        let now_us = self.clock.now_us();
        let load = |value: &AtomicU64| value.load(Relaxed);
        let left = |until_us: &AtomicU64| seconds(load(until_us).saturating_sub(now_us));
        page.gauge(
            "raftkv_leader",
            "1 while this node leads, otherwise 0.",
            load(&last.leads) as f64,
        )?;
        page.gauge("raftkv_term", "The node's term.", load(&last.term) as f64)?;
        page.gauge(
            "raftkv_commit_index",
            "Entries of the log that are known to be committed.",
            load(&last.commit_index) as f64,
        )?;
        page.gauge(
            "raftkv_applied_index",
            "Entries of the log that are applied to the store.",
            load(&last.applied_index) as f64,
        )?;
        page.gauge(
            "raftkv_last_index",
            "Entries of the log.",
            load(&last.last_index) as f64,
        )?;
        page.gauge(
            "raftkv_snapshot_index",
            "The last entry that the newest snapshot holds; 0: there is none.",
            load(&last.snapshot_index) as f64,
        )?;
        page.gauge(
            "raftkv_lease_remaining_seconds",
            "How long the leader may still answer reads alone, at the time of the scrape; 0 on a node \
             that has no lease.",
            left(&last.lease_until_us),
        )?;
        page.gauge(
            "raftkv_old_lease_remaining_seconds",
            "How long a new leader still waits for the lease of the one before it, and commits nothing.",
            left(&last.old_lease_until_us),
        )?;
        page.gauge(
            "raftkv_failure_tolerance",
            "On the leader: how many more nodes may fail before nothing can be written. 0 on others.",
            load(&last.spare_nodes) as f64,
        )?;
        page.gauge(
            "raftkv_members",
            "Nodes of the cluster, learners included, as far as this one knows.",
            load(&last.members) as f64,
        )?;
        page.gauge(
            "raftkv_voters",
            "Those of them that vote; while voters change, the former ones too.",
            load(&last.voters) as f64,
        )?;
        page.gauge(
            "raftkv_learners",
            "Those of them that only get the log.",
            load(&last.members).saturating_sub(load(&last.voters)) as f64,
        )?;
        page.gauge(
            "raftkv_configuration_index",
            "The entry of the log that put this configuration in force; 0: nodes were started with it.",
            load(&last.configuration_index) as f64,
        )?;
        page.gauge(
            "raftkv_log_damaged",
            "1 while the log lacks entries that damage cost, and the node does not vote.",
            load(&last.damaged) as f64,
        )?;
        page.counter(
            "raftkv_elections_started",
            "Elections that this node stood for.",
            &events.elections_started,
        )?;
        page.counter(
            "raftkv_elections_won",
            "Elections that this node won.",
            &events.elections_won,
        )?;
        page.counter(
            "raftkv_stepped_down",
            "How often this node gave up leading, or standing for it.",
            &events.stepped_down,
        )?;
        page.counter(
            "raftkv_lease_renewal_failures",
            "How often this node led and no majority answered for a whole lease.",
            &events.renewals_failed,
        )?;
        page.counter(
            "raftkv_old_lease_waits",
            "How often this node was elected and had to wait for an older lease.",
            &events.old_lease_waits,
        )?;
        page.counter(
            "raftkv_disk_stalls",
            "How often this node led and gave that up because its disk did not answer.",
            &events.disk_stalls,
        )?;
        page.counter(
            "raftkv_state_differences",
            "How often this leader found that a node had come to another state.",
            &events.states_differ,
        )?;
        page.counters(
            "raftkv_snapshots",
            "Snapshots by what became of them: taken of the own state, skipped although one was due, sent to \
             a follower, installed from a leader.",
            &[
                (&[("event", "taken")], load(&events.snapshots_taken)),
                (&[("event", "skipped")], load(&events.snapshots_skipped)),
                (&[("event", "sent")], load(&events.snapshots_sent)),
                (&[("event", "installed")], load(&events.snapshots_installed)),
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
            metrics.last.waiting.load(Relaxed) as f64,
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
        let help = "Handshakes of TLS that failed at this node's ports: the certificate of whoever came was not taken, or \
                    this node's was not, or it came to no end. dump.txt names the causes.";
        let mut family = page.family("raftkv_handshakes_failed", help, MetricType::Counter)?;
        for failure in HandshakeFailure::ALL {
            let count = ConstCounter::new(self.handshakes.of(failure));
            count.encode(family.encode_family(&failure.labels())?)?;
        }
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
