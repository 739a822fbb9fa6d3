//! The phases of a run: fill the keys, warm up, measure, clear the keys. Each ends early when the
//! run is interrupted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Arguments;
use super::flushes::{Counter, Flushes};
use super::pace::{self, Pace, Rate};
use super::tally::{Kind, Tally};
use super::until::Until;
use super::workload::{Mix, Source, Workload};
use crate::error::{Error, Result};
use crate::load::{Load, Sources};
use crate::local::interrupt::Interruptions;
use crate::terminal::out;

/// Filling and clearing end by themselves, or with this.
const PREPARE_MAX: Duration = Duration::from_secs(120);

/// Keys that are written or removed at a time, at least.
const PREPARED_AT_A_TIME: usize = 64;

/// Whoever presses Ctrl-C does not wait longer than this for the keys to be removed.
const CLEAR_INTERRUPTED_MAX: Duration = Duration::from_secs(15);

/// A run.
pub struct Bench<'a> {
    /// Whose flushes are counted.
    pub counter: Counter<'a>,
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
    /// What became of the rate; none in a closed loop.
    pub rate: Option<Rate>,
    /// Flushes before and after.
    pub flushes: [Option<Flushes>; 2],
    /// Whether that is less than was asked for.
    pub interrupted: bool,
}

impl Bench<'_> {
    /// Fills, warms up and measures; `None` where it was interrupted before anything was measured.
    ///
    /// # Errors
    /// No leader, or too few keys could be written.
    pub async fn measure(&self, interruptions: &mut Interruptions) -> Result<Option<Measured>> {
        let arguments = self.arguments;
        let is_filled = arguments.read_share == 0.0 || arguments.no_fill;
        if !is_filled && !self.fill(interruptions).await? {
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
        let (warm_up, pace) = self.timed(arguments.warm_up);
        let warming = mix(arguments.seed + 1);
        let warmed = part(&self.load, &warming, &warm_up, pace.as_ref(), interruptions);
        if warmed.await?.1 {
            return Ok(None);
        }
        let before = self.counter.look().await;
        let (until, pace) = self.timed(arguments.duration);
        let started = Instant::now() + pace.as_ref().map_or(Duration::ZERO, |_| pace::LEAD);
        let measuring = mix(arguments.seed);
        let load = Load {
            over_time: arguments.report.as_ref().map(|_| arguments.duration),
            ..self.load.clone()
        };
        let measuring = part(&load, &measuring, &until, pace.as_ref(), interruptions);
        let (tally, interrupted) = measuring.await?;
        Ok(Some(Measured {
            tally,
            length: until.at().saturating_duration_since(started),
            rate: pace.map(|pace| pace.kept()),
            flushes: [before, self.counter.look().await],
            interrupted,
        }))
    }

    /// An end after `length`, and the pace up to there if one is asked for.
    fn timed(&self, length: Duration) -> (Until, Option<Arc<Pace>>) {
        match self.arguments.rate {
            None => (Until::after(length), None),
            Some(per_second) => {
                let until = Until::after(pace::LEAD + length);
                let pace = Pace::start(per_second, &until);
                (until, Some(pace))
            }
        }
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
        let (tally, interrupted) =
            part(&self.preparing(), &fill, &until, None, interruptions).await?;
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
        let cleared = part(&self.preparing(), &clear, &until, None, interruptions).await;
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

    /// Keys are written by the leader, whoever reads them, and many at a time, however few are measured.
    fn preparing(&self) -> Load {
        Load {
            any_node: false,
            in_flight: self.load.in_flight.max(PREPARED_AT_A_TIME),
            ..self.load.clone()
        }
    }
}

/// One part of a run, and whether it was interrupted: then the load ends early, and what it has
/// measured until then is there all the same.
async fn part(
    load: &Load,
    source: &Sources<'_>,
    until: &Until,
    pace: Option<&Arc<Pace>>,
    interruptions: &mut Interruptions,
) -> Result<(Tally, bool)> {
    let mut running = std::pin::pin!(load.run(source, until, pace));
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
