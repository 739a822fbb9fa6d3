//! The phases of a run: fill the keys, warm up, measure, clear the keys. Each ends early when the
//! run is interrupted.

use std::time::Duration;

use tokio::time::Instant;

use super::Arguments;
use super::load::Load;
use super::tally::{Kind, Tally};
use super::until::Until;
use super::workload::{Mix, Source, Workload};
use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;
use crate::ops::Context;
use crate::terminal::out;

/// Filling and clearing end by themselves, or with this.
const PREPARE_MAX: Duration = Duration::from_secs(120);

/// Whoever presses Ctrl-C does not wait longer than this for the keys to be removed.
const CLEAR_INTERRUPTED_MAX: Duration = Duration::from_secs(15);

/// A run.
pub struct Bench<'a> {
    /// The cluster.
    pub context: &'a Context,
    /// What is asked for.
    pub arguments: &'a Arguments,
    /// The mix of operations.
    pub workload: Workload,
    /// How it is brought.
    pub load: Load,
}

/// What a run has measured.
pub struct Measured {
    /// Latencies and errors.
    pub tally: Tally,
    /// How long was measured.
    pub length: Duration,
    /// Flushes before and after.
    pub flushes: (Option<Flushes>, Option<Flushes>),
    /// Whether that is less than was asked for.
    pub interrupted: bool,
}

/// Flushes of a leader's log since its process started.
#[derive(Debug, Clone, Copy)]
pub struct Flushes {
    /// Who leads.
    pub leader: u64,
    /// How often it has flushed.
    pub count: u64,
}

impl Bench<'_> {
    /// Fills, warms up and measures; `None` where it was interrupted before anything was measured.
    ///
    /// # Errors
    /// No leader, or too few keys could be written.
    pub async fn measure(&self, interruptions: &mut Interruptions) -> Result<Option<Measured>> {
        let arguments = self.arguments;
        if arguments.read_share > 0.0 && !self.fill(interruptions).await? {
            return Ok(None);
        }
        eprintln!(
            "warming up, then measuring {}",
            humantime::format_duration(arguments.duration)
        );
        let mix = |salt: u64| {
            let workload = &self.workload;
            move |number: u64, _| Source::Mix(Mix::new(workload, (salt << 32) ^ number))
        };
        let warm_up = Until::after(arguments.warm_up);
        let warmed = part(&self.load, mix(arguments.seed + 1), &warm_up, interruptions);
        if warmed.await?.1 {
            return Ok(None);
        }
        let before = flushes(self.context).await;
        let started = Instant::now();
        let until = Until::after(arguments.duration);
        let measuring = part(&self.load, mix(arguments.seed), &until, interruptions);
        let (tally, interrupted) = measuring.await?;
        Ok(Some(Measured {
            tally,
            length: until.at() - started,
            flushes: (before, flushes(self.context).await),
            interrupted,
        }))
    }

    /// Writes each key once; whether it was not interrupted.
    async fn fill(&self, interruptions: &mut Interruptions) -> Result<bool> {
        let arguments = self.arguments;
        eprintln!("writing {} keys", arguments.keys);
        let fill = |number, count| {
            let mix = Mix::new(&self.workload, arguments.seed ^ number);
            Source::Fill(mix, share(arguments.keys, number, count))
        };
        let until = Until::after(PREPARE_MAX);
        let (tally, interrupted) = part(&self.preparing(), fill, &until, interruptions).await?;
        if !interrupted {
            check_prepared(&tally, arguments.keys)?;
        }
        Ok(!interrupted)
    }

    /// Removes the keys, and says so where some may be left. Ctrl-C leaves them.
    ///
    /// # Errors
    /// No leader.
    pub async fn clear(&self, interruptions: &mut Interruptions, was_ended: bool) -> Result<()> {
        let keys = self.arguments.keys;
        let length_max = if was_ended {
            out::say("removing the keys (Ctrl-C again leaves them)");
            CLEAR_INTERRUPTED_MAX
        } else {
            out::say("removing the keys");
            PREPARE_MAX
        };
        let clear = |number, count| {
            let numbers = share(keys, number, count);
            Source::Clear(self.workload.clone(), numbers)
        };
        let until = Until::after(length_max);
        let cleared = part(&self.preparing(), clear, &until, interruptions).await;
        let (tally, _) = cleared.map_err(|error| {
            error.advise("keys named bench/... are left in the store".to_owned())
        })?;
        let left = keys - written(&tally).min(keys);
        if left > 0 {
            out::say(&format!(
                "up to {left} keys named bench/... are left in the store; a bench with --keys \
                 {keys} that is not interrupted removes them"
            ));
        }
        Ok(())
    }

    /// Keys are written by the leader, whoever reads them.
    fn preparing(&self) -> Load {
        Load {
            any_node: false,
            ..self.load.clone()
        }
    }
}

/// One part of a run, and whether it was interrupted: then the load ends early, and what it has
/// measured until then is there all the same.
async fn part(
    load: &Load,
    source: impl Fn(u64, u64) -> Source,
    until: &Until,
    interruptions: &mut Interruptions,
) -> Result<(Tally, bool)> {
    let mut running = std::pin::pin!(load.run(source, until));
    tokio::select! {
        done = &mut running => return Ok((done?, false)),
        () = interruptions.next() => until.end_now(),
    }
    out::say("interrupted");
    Ok((running.await?, true))
}

/// The numbers of the keys that one of `count` shares prepares.
fn share(keys: u64, number: u64, count: u64) -> std::ops::Range<u64> {
    keys * number / count..keys * (number + 1) / count
}

fn written(tally: &Tally) -> u64 {
    let figures = tally.figures(Kind::Write, Duration::from_secs(1));
    figures.map_or(0, |all| all.operations)
}

/// A run over keys that are not there would measure something else.
fn check_prepared(tally: &Tally, keys: u64) -> Result<()> {
    let written = written(tally);
    if written == keys {
        return Ok(());
    }
    Err(Error::NoLeader(format!(
        "only {written} of {keys} keys could be written ({:?}), and those are left in the store \
         (bench/...); look at `raftctl status`, then run again",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key is prepared by exactly one share.
    #[test]
    fn shares_cover_all_keys_once() {
        for (keys, count) in [(10, 3), (2, 5), (1000, 7)] {
            let numbers: Vec<u64> = (0..count).flat_map(|n| share(keys, n, count)).collect();
            assert_eq!(numbers, (0..keys).collect::<Vec<_>>());
        }
    }
}
