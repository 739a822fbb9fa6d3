//! The load generator: a closed loop of reads and writes, and what they took.
//!
//! Closed loop means that every answer makes room for the next question: what is measured is the
//! latency at a given number of operations in flight, and the rate that follows from it. It is not
//! the latency at a given rate, which is worse as soon as that rate comes near the limit.
//!
//! By default operations travel over the streaming API, many in one message as they happen to
//! wait; `--unary` makes each a call of its own, as most gRPC clients do.

mod command;
mod drive;
mod etcd;
mod gaps;
mod load;
mod moments;
mod phases;
mod report;
mod spread;
mod steady;
mod tally;
mod until;
mod worker;
mod workload;

use std::time::Duration;

use raftkv::SESSIONS_MAX;

use crate::cluster::Reads;
use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::ops::store;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::transport::ssh::tunnel::CONNECTIONS_MAX;
use load::Load;
use moments::Moment;
use phases::{Bench, Measured};
use report::Report;
use tally::Kind;
use workload::Workload;

/// More connections than this cost more than they bring, on the client's side already.
const CLIENTS_MAX: usize = 1024;

/// What a node takes in at most is of this order; more would only measure its refusals.
const IN_FLIGHT_MAX: usize = 65_536;

/// The flags of `bench`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    moment: Option<Moment>,
    /// How many connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    clients: usize,
    /// How many operations are under way at a time, on all connections together
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = crate::text::times::parse)]
    duration: Duration,
    /// How long to run before the measurement begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::text::times::parse)]
    warm_up: Duration,
    /// How long each value is
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Share of reads, from 0 (only writes) to 1 (only reads)
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    read_share: f64,
    /// How many different keys; each is as likely as the others
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// Who answers reads: lease, quorum or stale; see `raftctl get --help` [default: as cluster.yaml
    /// says]
    #[arg(long = "read", alias = "consistency", value_enum)]
    #[arg(value_name = "HOW", hide_possible_values = true)]
    consistency: Option<Reads>,
    /// One gRPC call per operation, instead of streams that carry many
    #[arg(long)]
    unary: bool,
    /// Leave the keys that it wrote (bench/...) in the store
    #[arg(long)]
    keep: bool,
    /// The same seed chooses the same keys and operations
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            moment: None,
            clients: 4,
            in_flight: 64,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            value_size: 256,
            read_share: 0.5,
            keys: 10_000,
            consistency: None,
            unary: false,
            keep: false,
            seed: 1,
        }
    }
}

impl Arguments {
    /// Whether it does something to the nodes, other than asking them.
    #[must_use]
    pub fn touches_hosts(&self) -> bool {
        self.moment.as_ref().is_some_and(Moment::touches_hosts)
    }

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
                // With unary calls each operation in flight has a session of its own.
                !self.unary || self.in_flight <= SESSIONS_MAX,
                format!(
                    "--unary: at most {SESSIONS_MAX} --in-flight, because each has a session, \
                     and a node keeps no more"
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

    fn workload(&self) -> Workload {
        Workload {
            read_share: self.read_share,
            keys: self.keys,
            first: 0,
            value_bytes: self.value_size,
            key_prefix: "bench/".into(),
        }
    }
}

/// Fills the keys, warms up, measures, prints what came out, and clears the keys. When it is
/// interrupted, what was measured until then is printed as such, and the keys are cleared.
///
/// # Errors
/// No leader within the timeout, invalid input, an interruption.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    if let Some(moment) = &arguments.moment {
        return moments::run(context, options, moment).await;
    }
    arguments.check()?;
    refuse_more_than_fit(context, arguments.clients)?;
    let reads = arguments.consistency.unwrap_or(context.cluster.reads);
    let bench = Bench {
        context,
        arguments: &arguments,
        workload: arguments.workload(),
        load: load(context, &arguments, reads),
    };
    store::client(context, options.timeout)
        .find_leader()
        .await?;
    let mut interruptions = Interruptions::new();
    let measured = bench.measure(&mut interruptions).await?;
    if let Some(measured) = &measured {
        let report = report(context, &arguments, reads, measured);
        match options.output {
            Output::Text => out::print(&report.text())?,
            Output::Json => out::json(&serde_json::json!(report))?,
        }
    }
    let was_ended = measured
        .as_ref()
        .is_none_or(|measured| measured.interrupted);
    if !arguments.keep {
        bench.clear(&mut interruptions, was_ended).await?;
    }
    match measured {
        Some(measured) if measured.interrupted => Err(Error::Other(
            "interrupted; the figures are those up to then".into(),
        )),
        Some(_) => Ok(()),
        None => Err(Error::Other(
            "interrupted before anything was measured".into(),
        )),
    }
}

/// Where nodes are reached through ssh, so are clients, a channel each.
fn refuse_more_than_fit(context: &Context, clients: usize) -> Result<()> {
    let mut members = context.inventory.members.iter();
    let has_tunnels = members.any(|member| member.is_tunnelled);
    if !has_tunnels || clients <= CONNECTIONS_MAX {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--clients: at most {CONNECTIONS_MAX} where nodes are reached through ssh; run it on a machine beside \
         them for more"
    )))
}

fn load(context: &Context, arguments: &Arguments, reads: Reads) -> Load {
    Load {
        members: store::members(context),
        connections: arguments.clients,
        in_flight: arguments.in_flight,
        unary: arguments.unary,
        read: reads.into(),
        any_node: reads == Reads::Stale && arguments.read_share >= 1.0,
    }
}

fn report(context: &Context, arguments: &Arguments, reads: Reads, measured: &Measured) -> Report {
    let (tally, (before, after)) = (&measured.tally, measured.flushes);
    let leader_fsyncs = match (before, after) {
        (Some(from), Some(to)) if from.leader == to.leader => to.count.checked_sub(from.count),
        _ => None,
    };
    Report {
        cluster: context.cluster.name.clone(),
        provider: context.cluster.provider.name(),
        nodes: context.cluster.nodes.len(),
        leader: after.map(|flushes| flushes.leader),
        transport: if arguments.unary { "unary" } else { "stream" },
        consistency: reads.name(),
        clients: arguments.clients,
        in_flight: arguments.in_flight,
        value_bytes: arguments.value_size,
        keys: arguments.keys,
        read_share: arguments.read_share,
        seconds: measured.length.as_secs_f64(),
        interrupted: measured.interrupted,
        leader_fsyncs,
        reads: tally.figures(Kind::Read, measured.length),
        writes: tally.figures(Kind::Write, measured.length),
        errors: tally.errors().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    // What stands in the help is what is meant where it is not said.
    #[test]
    fn defaults_are_those_of_the_command_line() {
        let parsed = Line::parse_from(["bench"]).arguments;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Arguments::default()));
    }

    /// More unary calls at a time than a node has sessions would only measure how it forgets them;
    /// streams share theirs.
    #[test]
    fn no_more_sessions_than_a_node_keeps() {
        let check = |line: &str| Line::parse_from(line.split(' ')).arguments.check();
        assert!(check("bench --unary --in-flight 4096").is_ok());
        assert!(check("bench --in-flight 5000").is_ok());
        let refused = check("bench --unary --in-flight 4097").unwrap_err();
        assert!(matches!(&refused, Error::Usage(why) if why.contains("4096")));
    }
}
