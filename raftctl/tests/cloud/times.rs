//! What a fresh `up` and a `check` ask of Google, and how long they take.
//!
//! With `RAFTCTL_OTHER=PATH`, another raftctl is run in turns with this one, at the real times of Google's
//! provider (its polls each 10 s), and the times are told, with the processor's time of all programs that were
//! started (other than the machines' own), which says more on a busy machine. Both must be built alike: in release, as
//! operators have them, with `RAFTCTL_OWN=PATH` for this one, and raft-node beside each.
//! `RAFTCTL_OTHER=old/raftctl cargo test --workspace --test cloud -- --include-ignored --nocapture times::`

use std::path::PathBuf;
use std::time::Duration;

use harness::{Test, tests};
use serde_json::json;
use testhosts::{HOSTS, WITH_SUDO};

use crate::cloud::{CURL, Cloud, GCLOUD, TERRAFORM, ended, which};
use crate::farm::World;

pub fn tests() -> Vec<Test> {
    let mut tests = tests!([TERRAFORM, GCLOUD, CURL, HOSTS], a_fresh_up_asks_little);
    tests.extend(tests!([TERRAFORM, GCLOUD], a_check_asks_side_by_side));
    tests
}

fn yaml() -> String {
    format!(
        "name: demo\nprovider: gcp\ntiming: wan\nnodes: 5\nssh: {{user: {WITH_SUDO}}}\ngcp:\n  project: my-project\n  \
         zones: [us-central1-a, us-east1-b, europe-west1-b]\n  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n"
    )
}

/// This raftctl, and another one where one is named.
fn binaries() -> Vec<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let own = named("RAFTCTL_OWN").unwrap_or_else(|| env!("CARGO_BIN_EXE_raftctl").into());
    [own].into_iter().chain(named("RAFTCTL_OTHER")).collect()
}

/// How long something took, and the processor's time of it.
type Took = (Duration, Duration);

/// The processor's time of all children that have ended, and of theirs.
fn children() -> Duration {
    /// As the kernel counts for programs, whatever its own clock is.
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis(TICK_MS * (ticks(13) + ticks(14)))
}

/// Does something, and measures it; its time is what it says.
fn measured(run: impl FnOnce() -> Duration) -> Took {
    let before = children();
    let took = run();
    (took, children() - before)
}

/// Runs something with each raftctl in turns, three times where there are two; the times of each.
fn in_turns(binaries: &[PathBuf], mut run: impl FnMut(&str) -> Took) -> Vec<Vec<Took>> {
    let rounds = if binaries.len() > 1 { 3 } else { 1 };
    let mut times = vec![Vec::new(); binaries.len()];
    for _ in 0..rounds {
        for (binary, times) in binaries.iter().zip(&mut times) {
            times.push(run(binary.to_str().unwrap()));
        }
    }
    times
}

fn tell(what: &str, binaries: &[PathBuf], times: &[Vec<Took>]) {
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    for (binary, times) in binaries.iter().zip(times) {
        let (wall, processor): (Vec<_>, Vec<_>) = times.iter().copied().unzip();
        println!(
            "{what}: {:.1?} (median of {wall:.1?}), {:.1?} of a processor (of {processor:.1?}) {}",
            median(wall.clone()),
            median(processor.clone()),
            binary.display()
        );
    }
}

// Five machines in three regions: Google is asked by gcloud for what Terraform does not tell, and for nothing twice.
fn a_fresh_up_asks_little() {
    let binaries = binaries();
    let mut calls = Vec::new();
    let scale = if binaries.len() > 1 { 1.0 } else { 0.0 };
    let times = in_turns(&binaries, |binary| {
        let world = World::new(&yaml(), 5);
        world.cloud.list_quickly();
        world.cloud.order(&json!({"time_scale": scale}));
        let took = measured(|| ended(world.cloud.program(binary, &["up"])).code(0).took);
        calls = world.cloud.calls();
        world.cloud.order(&json!({}));
        ended(world.cloud.program(binary, &["down", "--yes"])).code(0);
        took
    });
    tell("up", &binaries, &times);
    if binaries.len() == 1 {
        let lists = |what: &str| calls.iter().filter(|call| call.contains(what)).count();
        assert_eq!(lists("networks list"), 1, "{calls:?}");
        assert_eq!(lists("disks list"), 1, "{calls:?}");
        // For the host keys of all machines together.
        assert_eq!(lists("print-access-token"), 1, "{calls:?}");
        // For the table of the status in the end.
        assert_eq!(lists("instances list"), 1, "{calls:?}");
        assert_eq!(calls.len(), 4, "{calls:?}");
    }
}

/// Answers as gcloud did when it was asked the same before, and takes a second for it, as gcloud does. Who asks
/// when is in the file `turns`.
const RECORDED_GCLOUD: &str = r#"#!/bin/sh
cd "$(dirname "$0")/.." && mkdir -p answers || exit 9
answer=answers/$(printf '%s ' "$@" | sha256sum | cut -c1-16)
echo begin >>turns
if [ -e "$answer" ]; then sleep 1; else GCLOUD "$@" >"$answer.$$" && mv "$answer.$$" "$answer"; fi
cat "$answer"
code=$?
echo end >>turns
exit $code
"#;

// Three regions: each question is asked once, and several at a time.
fn a_check_asks_side_by_side() {
    let cloud = Cloud::new(&yaml());
    let gcloud = which("gcloud").display().to_string();
    cloud.install("gcloud", &RECORDED_GCLOUD.replace("GCLOUD", &gcloud));
    let binaries = binaries();
    let check = |binary: &str| ended(cloud.program(binary, &["check"])).code(0);
    for binary in &binaries {
        check(binary.to_str().unwrap()); // Its questions are known from then on.
    }
    let turns = cloud.folder.path().join("turns");
    let times = in_turns(&binaries, |binary| {
        std::fs::remove_file(&turns).unwrap();
        measured(|| check(binary).took)
    });
    tell("check", &binaries, &times);
    if binaries.len() == 1 {
        let turns = std::fs::read_to_string(turns).unwrap();
        let (mut at_once, mut most, mut all) = (0_u32, 0, 0);
        for turn in turns.lines() {
            match turn {
                "begin" => (at_once, all) = (at_once + 1, all + 1),
                _ => at_once -= 1,
            }
            most = most.max(at_once);
        }
        assert!(all <= 5, "{all} questions");
        assert!(most >= 3, "{most} of {all} at a time");
    }
}
