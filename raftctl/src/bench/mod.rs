//! The load generator: a closed loop of reads and writes, and what they took.
//!
//! Closed loop means that every answer makes room for the next question: what is measured is the
//! latency at a given number of operations in flight, and the rate that follows from it. It is not
//! the latency at a given rate, which is worse as soon as that rate comes near the limit.
//!
//! By default operations travel over the streaming API, many in one message as they happen to
//! wait; `--unary` makes each a call of its own, as most gRPC clients do.

mod drive;
mod load;
mod report;
mod tally;
mod worker;
mod workload;

use std::time::Duration;

use tokio::time::Instant;

use crate::cli::{Options, Output};
use crate::client::Read;
use crate::cluster::Reads;
use crate::error::{Error, Result};
use crate::keys::{self, Freshness};
use crate::ops::Context;
use crate::out;
use load::Load;
use report::Report;
use tally::{Kind, Tally};
use workload::{Mix, Source, Workload};

/// More connections than this cost more than they bring, on the client's side already.
const CLIENTS_MAX: usize = 1024;

/// What a node takes in at most is of this order; more would only measure its refusals.
const IN_FLIGHT_MAX: usize = 65_536;

/// Filling and clearing end by themselves, or with this.
const PREPARE_MAX: Duration = Duration::from_secs(120);

/// The flags of `bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    clients: usize,
    /// Operations in flight, all connections together
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::times::parse)]
    duration: Duration,
    /// How long to run before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::times::parse)]
    warm_up: Duration,
    /// Length of a value, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Share of reads: 0 only writes, 1 only reads
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    read_share: f64,
    /// How many different keys, chosen uniformly
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// How reads are answered [default: as cluster.yaml says]
    #[arg(long, value_enum)]
    consistency: Option<Freshness>,
    /// One gRPC call an operation, instead of streams that carry many
    #[arg(long)]
    unary: bool,
    /// Leave the keys (`bench/...`) in the store
    #[arg(long)]
    keep: bool,
    /// Makes a run repeatable
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    /// # Errors
    /// A figure without sense, named with what it may be.
    fn check(&self) -> Result<()> {
        let rules = [
            (
                (1..=CLIENTS_MAX).contains(&self.clients),
                format!("--clients: 1 to {CLIENTS_MAX}"),
            ),
            (
                (self.clients..=IN_FLIGHT_MAX).contains(&self.in_flight),
                format!(
                    "--in-flight: at least one a client ({}), at most {IN_FLIGHT_MAX}",
                    self.clients
                ),
            ),
            (
                (0.0..=1.0).contains(&self.read_share),
                "--read-share: 0 to 1".into(),
            ),
            (
                (1..=10_000_000).contains(&self.keys),
                "--keys: 1 to 10000000".into(),
            ),
            (
                self.value_size <= raftkv::VALUE_BYTES_MAX,
                format!("--value-size: at most {}", raftkv::VALUE_BYTES_MAX),
            ),
            (!self.duration.is_zero(), "--duration: more than 0".into()),
        ];
        match rules.into_iter().find(|(kept, _)| !kept) {
            Some((_, rule)) => Err(Error::Usage(rule)),
            None => Ok(()),
        }
    }

    fn freshness(&self, default: Reads) -> Freshness {
        self.consistency.unwrap_or(match default {
            Reads::Lease => Freshness::Lease,
            Reads::Quorum => Freshness::Quorum,
            Reads::Stale => Freshness::Stale,
        })
    }

    fn workload(&self) -> Workload {
        Workload {
            read_share: self.read_share,
            keys: self.keys,
            value_bytes: self.value_size,
            key_prefix: "bench/".into(),
        }
    }
}

/// Fills the keys, warms up, measures, clears the keys, and prints what came out.
///
/// # Errors
/// No leader within the timeout, invalid input.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    arguments.check()?;
    let workload = arguments.workload();
    let freshness = arguments.freshness(context.cluster.reads);
    let load = load(context, &arguments, freshness);
    let prepare = Load {
        any_node: false, // Keys are written by the leader, whoever reads them.
        ..load.clone()
    };
    keys::client(context, options).find_leader().await?;
    if arguments.read_share > 0.0 {
        eprintln!("writing {} keys", arguments.keys);
        let fill = |number, count| {
            let mix = Mix::new(&workload, arguments.seed ^ number);
            Source::Fill(mix, part(arguments.keys, number, count))
        };
        let tally = prepare.run(fill, Instant::now() + PREPARE_MAX).await?;
        check_prepared(&tally, arguments.keys)?;
    }
    let mix = |salt: u64| {
        let workload = &workload;
        move |number: u64, _| Source::Mix(Mix::new(workload, (salt << 32) ^ number))
    };
    eprintln!(
        "warming up, then measuring {}",
        humantime::format_duration(arguments.duration)
    );
    load.run(mix(arguments.seed + 1), Instant::now() + arguments.warm_up)
        .await?;
    let before = flushes(context).await;
    let started = Instant::now();
    let tally = load
        .run(mix(arguments.seed), started + arguments.duration)
        .await?;
    let after = flushes(context).await;
    if !arguments.keep {
        eprintln!("removing the keys");
        let clear =
            |number, count| Source::Clear(workload.clone(), part(arguments.keys, number, count));
        let cleared = prepare.run(clear, Instant::now() + PREPARE_MAX).await?;
        if !cleared.errors().is_empty() {
            eprintln!("some keys named bench/... are left: {:?}", cleared.errors());
        }
    }
    let report = report(context, &arguments, freshness, &tally, (before, after));
    match options.output {
        Output::Text => out::print(&report.text()),
        Output::Json => out::json(&serde_json::json!(report)),
    }
}

fn load(context: &Context, arguments: &Arguments, freshness: Freshness) -> Load {
    Load {
        members: keys::members(context),
        connections: arguments.clients,
        in_flight: arguments.in_flight,
        unary: arguments.unary,
        read: match freshness {
            Freshness::Lease => Read::Lease,
            Freshness::Quorum => Read::Quorum,
            Freshness::Stale => Read::Stale(None),
        },
        any_node: freshness == Freshness::Stale && arguments.read_share >= 1.0,
    }
}

/// The numbers of the keys that one of `count` shares prepares.
fn part(keys: u64, number: u64, count: u64) -> std::ops::Range<u64> {
    keys * number / count..keys * (number + 1) / count
}

/// A run over keys that are not there would measure something else.
fn check_prepared(tally: &Tally, keys: u64) -> Result<()> {
    let written = tally
        .figures(Kind::Write, Duration::from_secs(1))
        .map_or(0, |all| all.operations);
    if written == keys {
        return Ok(());
    }
    Err(Error::NoLeader(format!(
        "only {written} of {keys} keys could be written ({:?}); look at `raftctl status`, then \
         run again",
        tally.errors()
    )))
}

/// Who leads, and how often it has flushed its log.
async fn flushes(context: &Context) -> Option<Flushes> {
    let snapshot = context.status().await;
    let leader = snapshot.leader?;
    let reply = snapshot.node(leader)?.reply.as_ref().ok()?;
    let count = reply.counters?.fsyncs;
    Some(Flushes { leader, count })
}

/// Flushes of a leader's log since its process started.
#[derive(Debug, Clone, Copy)]
struct Flushes {
    leader: u64,
    count: u64,
}

fn report(
    context: &Context,
    arguments: &Arguments,
    freshness: Freshness,
    tally: &Tally,
    (before, after): (Option<Flushes>, Option<Flushes>),
) -> Report {
    let leader_fsyncs = match (before, after) {
        (Some(from), Some(to)) if from.leader == to.leader => to.count.checked_sub(from.count),
        _ => None,
    };
    Report {
        cluster: context.cluster.name.clone(),
        provider: context.cluster.provider.name().to_owned(),
        nodes: context.cluster.nodes.len(),
        leader: after.map(|flushes| flushes.leader),
        transport: if arguments.unary { "unary" } else { "stream" },
        consistency: match freshness {
            Freshness::Lease => "lease",
            Freshness::Quorum => "quorum",
            Freshness::Stale => "stale",
        },
        clients: arguments.clients,
        in_flight: arguments.in_flight,
        value_bytes: arguments.value_size,
        keys: arguments.keys,
        read_share: arguments.read_share,
        seconds: arguments.duration.as_secs_f64(),
        leader_fsyncs,
        reads: tally.figures(Kind::Read, arguments.duration),
        writes: tally.figures(Kind::Write, arguments.duration),
        errors: tally.errors().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key is prepared by exactly one share.
    #[test]
    fn parts_cover_all_keys_once() {
        for (keys, count) in [(10, 3), (2, 5), (1000, 7)] {
            let numbers: Vec<u64> = (0..count).flat_map(|n| part(keys, n, count)).collect();
            assert_eq!(numbers, (0..keys).collect::<Vec<_>>());
        }
    }
}
