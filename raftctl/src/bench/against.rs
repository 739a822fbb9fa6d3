//! The cluster and another store, in turns, under the same load: `bench --against`.

use std::collections::BTreeMap;

use super::arguments::{Addresses, Arguments};
use super::comparison::{Comparison, Medians, Side, Turn, durability};
use super::etcd::Etcd;
use super::flushes::{self, Counter};
use super::folder;
use super::phases::{Bench, Measured};
use super::tally::Kind;
use super::{Load, Target};
use crate::cluster::Reads;
use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;
use crate::ops::{Context, store};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;

/// Both stores, each with its bench.
struct Both<'a> {
    benches: [Bench<'a>; 2],
    turns: [Vec<Turn>; 2],
}

/// Measures both, prints medians and their ratio, and clears the keys of both.
///
/// # Errors
/// One of them does not answer; an interruption; one had a turn without success.
pub async fn run(
    context: &Context,
    options: &Options,
    arguments: &Arguments,
    Addresses(addresses): &Addresses,
) -> Result<()> {
    // The other store has no streams for keys, so neither gets one.
    let arguments = Arguments {
        unary: true,
        ..arguments.clone()
    };
    arguments.check()?;
    let reads = arguments.consistency.unwrap_or(context.cluster.reads);
    let etcd = Etcd::new(addresses)?;
    let version = etcd.reconnected()?.version().await?;
    let mut client = store::client(context, options.timeout);
    client.find_leader().await?;
    let load = super::load(context, &arguments, reads);
    let bench = |counter, load| Bench {
        counter,
        arguments: &arguments,
        workload: arguments.workload(),
        load,
    };
    let other = Load {
        target: Target::Etcd(etcd.clone()),
        ..load.clone()
    };
    let mut both = Both {
        benches: [
            bench(Counter::Own(context), load),
            bench(Counter::Etcd(etcd.clone()), other),
        ],
        turns: Default::default(),
    };
    let mut interruptions = Interruptions::new();
    let measured = both.measure(arguments.rounds, &mut interruptions).await;
    let own_version = both.benches[0].counter.look().await;
    let own_version = own_version.and_then(|flushes| flushes.version);
    let names = [
        format!(
            "{} {}",
            context.cluster.name,
            own_version.unwrap_or_default()
        )
        .trim_end()
        .to_owned(),
        format!("etcd {version}"),
    ];
    let nodes = [context.cluster.nodes.len(), etcd.member_count()];
    let told = match &measured {
        Ok(()) => both.tell(options, &arguments, reads, names, nodes),
        Err(_) => Ok(()),
    };
    if !arguments.keep {
        for bench in &both.benches {
            bench.clear(&mut interruptions, measured.is_err()).await?;
        }
    }
    measured.and(told)
}

impl Both<'_> {
    /// One after the other, so that whatever else the machine does meets both.
    async fn measure(&mut self, rounds: usize, interruptions: &mut Interruptions) -> Result<()> {
        for round in 1..=rounds {
            for (side, bench) in self.benches.iter().enumerate() {
                out::say(&format!(
                    "turn {round} of {rounds}: {}",
                    ["the cluster", "etcd"][side]
                ));
                let measured = bench.measure(interruptions).await?;
                let measured = measured.filter(|measured| !measured.interrupted);
                let measured = measured.ok_or_else(|| Error::Other("interrupted".into()))?;
                self.turns[side].push(turn(&measured));
            }
        }
        Ok(())
    }

    fn tell(
        &self,
        options: &Options,
        arguments: &Arguments,
        reads: Reads,
        names: [String; 2],
        nodes: [usize; 2],
    ) -> Result<()> {
        let others = match reads {
            Reads::Stale => "serializable",
            Reads::Lease | Reads::Quorum => "linearizable",
        };
        let reads_are = [reads.name(), others.to_owned()];
        let [own, other] = names;
        let side = |at: usize, store: String| {
            let turns = &self.turns[at];
            Side {
                store,
                nodes: nodes[at],
                reads_are: reads_are[at].clone(),
                durability: durability(turns),
                reads: Medians::of(turns, |turn| turn.reads.as_ref()),
                writes: Medians::of(turns, |turn| turn.writes.as_ref()),
                errors: errors(turns),
            }
        };
        let sides = [side(0, own), side(1, other)];
        let report = Comparison::new(load_text(arguments), arguments.rounds, sides);
        if let Some(path) = &arguments.report {
            folder::of_comparison(path, &report)?;
        }
        match options.output {
            Output::Text => out::print(&report.text())?,
            Output::Json => out::json(&serde_json::json!(report))?,
        }
        let is_missing = |side: &Side| {
            let reads = arguments.read_share > 0.0 && side.reads.is_none();
            reads || (arguments.read_share < 1.0 && side.writes.is_none())
        };
        match report.sides.iter().find(|side| is_missing(side)) {
            None => Ok(()),
            Some(side) => Err(Error::NoLeader(format!(
                "{}: in one of its turns nothing succeeded ({:?}), so it has no figure; look whether it has a \
                 leader, then run again",
                side.store, side.errors
            ))),
        }
    }
}

fn turn(measured: &Measured) -> Turn {
    let tally = &measured.tally;
    let [before, after] = measured.flushes.each_ref().map(Option::as_ref);
    Turn {
        reads: tally.figures(Kind::Read, measured.length),
        writes: tally.figures(Kind::Write, measured.length),
        flushes: flushes::between(before, after),
        errors: tally.errors().clone(),
    }
}

fn errors(turns: &[Turn]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (why, count) in turns.iter().flat_map(|turn| &turn.errors) {
        *all.entry(why.clone()).or_default() += count;
    }
    all
}

fn load_text(arguments: &Arguments) -> String {
    let pace = arguments
        .rate
        .map_or(String::new(), |rate| format!("{rate} begun a second, "));
    format!(
        "{pace}{} in flight over {} connections to the leader (a call each), {} B values, {} keys, {:.0} % reads, {:.1} s",
        arguments.in_flight,
        arguments.clients,
        arguments.value_size,
        arguments.keys,
        arguments.read_share * 100.0,
        arguments.duration.as_secs_f64()
    )
}
