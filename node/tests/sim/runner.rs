//! Runs plans: one, thousands at once, or one over and over until it is small.

use crate::coverage::Coverage;
use crate::oracle::Failure;
use crate::plan::{Plan, Suite};
use crate::shrink::shrink;
use crate::trace::Trace;
use crate::world::World;
use raft_node::raft::Micros;
use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

/// Histories that the checker gave up on: they show nothing.
pub const UNDECIDED: &str = "undecided histories";
/// Of so many runs of a suite, one may end so.
const UNDECIDED_ONE_IN: u64 = 100;

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    /// The rule that did not hold, if any.
    pub failure: Option<Failure>,
    /// What happened.
    pub coverage: Coverage,
    /// Simulated time, in microseconds.
    pub end_us: Micros,
    /// What was said, if it was kept.
    pub trace: Trace,
}

/// Runs a plan to its end or to the first failure. A panic of the code under test is one.
pub fn run(plan: &Plan, trace: Trace) -> Run {
    let mut world = World::new(plan.clone(), trace);
    let failure = caught(|| world.run()).err();
    Run {
        failure,
        coverage: std::mem::take(&mut world.coverage),
        end_us: world.now,
        trace: std::mem::take(&mut world.trace),
    }
}

thread_local! {
    /// What a panic said, while this thread simulates.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes a panic a failure like others, without a word on the terminal.
pub fn caught(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulates = PANIC.with_borrow_mut(|panic| match panic {
                Some(text) => {
                    *text = info.to_string();
                    true
                }
                None => false,
            });
            if !simulates {
                usual(info);
            }
        }));
    });
    PANIC.set(Some(String::new()));
    // The world is not run again after a panic; only its trace and counts are looked at.
    let result = catch_unwind(AssertUnwindSafe(work));
    let panic = PANIC.take().unwrap_or_default();
    result.unwrap_or(Err(Failure {
        rule: "no assertion fails",
        detail: panic,
    }))
}

/// Prints past the capture of the test harness: figures and replays are for the reader of the log.
pub fn tell(line: &str) {
    // A closed terminal is no reason to fail a test.
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// The one seed to be replayed, from the environment.
pub fn replayed_seed() -> Option<u64> {
    let seed = std::env::var("SEED").ok()?;
    Some(seed.parse().expect("SEED must be a number"))
}

/// Runs a suite: thousands of seeds on all cores, or the one that is to be replayed. Fails if a
/// rule was broken, or if one of the paths was never taken.
pub fn run_suite(suite: Suite, seeds: u64, paths: &[&str]) {
    match replayed_seed() {
        Some(seed) if Suite::of_seed(seed) == suite => return replay(seed),
        Some(_) => return,
        None => {}
    }
    let seeds = match std::env::var("SEEDS") {
        Ok(seeds) => seeds.parse().expect("SEEDS must be a number"),
        Err(_) => seeds,
    };
    let first = suite.first_seed();
    let tally = run_seeds(first, first + seeds, |seed| {
        run(&Plan::from_seed(seed), Trace::Off)
    });
    tell(&format!("{suite:?}: {}", tally.coverage));
    tell(&tally.speed());
    if let Some((seed, failure)) = tally.failed {
        panic!("{failure}\n\nto replay: SEED={seed} cargo test -p raft-node --test sim\n");
    }
    let undecided = tally.coverage.of(UNDECIDED);
    assert!(
        undecided * UNDECIDED_ONE_IN <= tally.runs,
        "{suite:?}: the checker gave up on {undecided} of {} histories",
        tally.runs
    );
    let missed: Vec<_> = paths
        .iter()
        .filter(|path| tally.coverage.of(path) == 0)
        .collect();
    assert!(missed.is_empty(), "{suite:?} never came to: {missed:?}");
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// The lowest seed that failed.
    pub failed: Option<(u64, Failure)>,
    /// Of all runs.
    pub coverage: Coverage,
    runs: u64,
    simulated_us: Micros,
    cpu_us: Micros,
}

impl Tally {
    fn add(&mut self, seed: u64, run: Run) {
        self.runs += 1;
        self.coverage.add(&run.coverage);
        self.simulated_us += run.end_us;
        let lowest = self
            .failed
            .as_ref()
            .is_none_or(|(earlier, _)| seed < *earlier);
        if let Some(failure) = run.failure.filter(|_| lowest) {
            self.failed = Some((seed, failure));
        }
    }

    fn speed(&self) -> String {
        let hours = self.simulated_us as f64 / 3.6e9;
        let minutes = self.cpu_us as f64 / 6e7;
        format!(
            "{} runs, {hours:.1} simulated cluster-hours in {minutes:.2} CPU-minutes: {:.0} \
             cluster-hours a CPU-minute",
            self.runs,
            hours / minutes
        )
    }
}

/// Runs seeds on all cores; after a failure no further seed is begun.
pub fn run_seeds(first: u64, end: u64, run_one: impl Fn(u64) -> Run + Sync) -> Tally {
    let next = AtomicU64::new(first);
    let tally = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let begun_us = cpu_us();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let run = run_one(seed);
                    if run.failure.is_some() {
                        next.store(end, Ordering::Relaxed);
                    }
                    tally.lock().expect("no thread panics").add(seed, run);
                }
                tally.lock().expect("no thread panics").cpu_us += cpu_us() - begun_us;
            });
        }
    });
    tally.into_inner().expect("no thread panics")
}

/// Processor time of this thread.
fn cpu_us() -> Micros {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as Micros * 1_000_000 + time.tv_nsec as Micros / 1_000
}

/// Runs one seed, tells what was said, and where it fails looks for a smaller plan that fails too.
fn replay(seed: u64) {
    let plan = Plan::from_seed(seed);
    let first = run(&plan, Trace::Lines(Vec::new()));
    let Some(failure) = first.failure else {
        first.trace.print();
        return tell(&format!("seed {seed} holds: {}", first.coverage));
    };
    tell(&format!(
        "seed {seed} fails: {failure}\nlooking for a smaller plan ..."
    ));
    let small = shrink(plan, failure.rule);
    let run = run(&small, Trace::Lines(Vec::new()));
    run.trace.print();
    tell(&format!("{small:#?}"));
    match run.failure {
        Some(failure) => panic!("seed {seed}, as small as it gets: {failure}"),
        None => unreachable!("the same plan fails each time"),
    }
}
