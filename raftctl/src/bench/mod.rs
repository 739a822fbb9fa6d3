//! The load generator: reads and writes, and what they took.
//!
//! By default in a closed loop: every answer makes room for the next question. What is measured is the
//! latency at a given number of operations in flight, and the rate that follows from it. It is not
//! the latency at a given rate, which is worse as soon as that rate comes near the limit: that is what an
//! open loop measures (`--rate`, `pace.rs`).
//!
//! By default operations travel over the streaming API, many in one message as they happen to
//! wait; `--unary` makes each a call of its own, as most gRPC clients do.

mod against;
mod arguments;
mod command;
mod comparison;
mod flushes;
mod flushing;
mod folder;
mod limits;
mod moments;
mod phases;
mod plot;
mod report;
mod spread;

use crate::cluster::Reads;
use crate::error::{Error, Result};
use crate::load::{Load, LoadError, Target};
use crate::load::{echo, etcd, gaps, ledger, pace, series, steady, tally, until, workload};
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::ops::store;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::transport::ssh::tunnel::CONNECTIONS_MAX;
pub use arguments::Arguments;
use flushes::Counter;
use phases::{Bench, Measured};
use report::Report;
use tally::Kind;

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(text) => Error::Usage(text),
            LoadError::Machine(text) => Error::Other(text),
            LoadError::Client(error) => error.into(),
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
    if let Some(store) = &arguments.against {
        return against::run(context, options, &arguments, store).await;
    }
    let reads = arguments.consistency.unwrap_or(context.cluster.reads);
    let bench = Bench {
        counter: Counter::Own(context),
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
        if let Some(path) = &arguments.report {
            folder::of_run(path, &report, &measured.tally)?;
        }
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
        target: Target::Nodes(store::members(context)),
        connections: arguments.clients,
        in_flight: arguments.in_flight,
        unary: arguments.unary,
        read: reads.into(),
        any_node: reads == Reads::Stale && arguments.read_share >= 1.0,
        over_time: None,
    }
}

fn report(context: &Context, arguments: &Arguments, reads: Reads, measured: &Measured) -> Report {
    let tally = &measured.tally;
    let [before, after] = measured.flushes.each_ref().map(Option::as_ref);
    Report {
        cluster: context.cluster.name.clone(),
        provider: context.cluster.provider.name(),
        nodes: context.cluster.nodes.len(),
        leader: after.and_then(|flushes| flushes.leader.parse().ok()),
        version: after.and_then(|flushes| flushes.version.clone()),
        transport: if arguments.unary { "unary" } else { "stream" },
        consistency: reads.name(),
        clients: arguments.clients,
        in_flight: arguments.in_flight,
        value_bytes: arguments.value_size,
        keys: arguments.keys,
        read_share: arguments.read_share,
        rate: measured.rate,
        seconds: measured.length.as_secs_f64(),
        interrupted: measured.interrupted,
        leader_fsyncs: flushes::between(before, after),
        read_paths: tally.paths().clone(),
        reads: tally.figures(Kind::Read, measured.length),
        writes: tally.figures(Kind::Write, measured.length),
        errors: tally.errors().clone(),
    }
}
