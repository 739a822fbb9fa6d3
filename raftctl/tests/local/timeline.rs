//! The picture of a cluster that lost its leader, and the proof from the same lines.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cluster::TestCluster;

fn dump(folder: &Path, id: u64) -> String {
    let path = folder.join(format!("logs_node_{id}/dump.txt"));
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The first commit of a leader, told as if it had been made at its election: before it has waited.
fn hurry(text: &str) -> String {
    let mut elected = None;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let (at, rest) = line.split_once(' ').unwrap();
        if rest.contains("became the leader") {
            elected = Some(at);
        }
        let at = match elected {
            Some(elected) if rest.contains("(leader) committed") => elected,
            _ => at,
        };
        lines.push(format!("{at} {rest}\n"));
    }
    lines.concat()
}

// A leader is killed, and nobody may say so for certain: its lease outlives it in the picture, the next one's
// wait is there, and nothing contradicts the lease. Had the next one not waited, the same look would end with 40.
#[test]
fn a_lost_leader_is_drawn_and_its_lease_is_proved() {
    let cluster = TestCluster::with(3, "proof_of_death: false\n");
    cluster.raftctl(&["up"]).ok();
    let first = cluster.leader(|_| true);
    let home = cluster.state("");
    cluster.eventually("a heartbeat under a lease", |_| {
        dump(&home, first).contains(" lease_us=1")
    });
    cluster.raftctl(&["kill", &first.to_string()]).ok();
    let second = cluster.leader(|id| id != first);
    cluster.raftctl(&["set", "a", "b"]).ok();

    let drawn = cluster.raftctl(&["timeline"]).ok();
    let folder = cluster.path("raft-logs-test");
    let page = std::fs::read_to_string(folder.join("timeline.html")).unwrap();
    assert_eq!(drawn.stdout.trim(), "raft-logs-test/timeline.html");
    for what in [
        "class=\"lease outlives\"",
        "class=\"wait\"",
        "class=\"promise\"",
    ] {
        assert!(page.contains(what), "{what}");
    }
    for (kind, file) in [("svg", "timeline.svg"), ("perfetto", "timeline.json")] {
        let asked = ["timeline", "raft-logs-test", "--format", kind];
        cluster.raftctl(&asked).ok();
        assert!(
            folder.join(file).metadata().unwrap().len() > 1_000,
            "{kind}"
        );
    }

    let look = ["timeline", "raft-logs-test", "--check", "--output", "json"];
    let proved = cluster.raftctl(&look).ok().json();
    assert_eq!(proved["findings"].as_array().unwrap().len(), 0, "{proved}");
    assert!(proved["compared"].as_u64().unwrap() >= 3, "{proved}");

    let hurried = hurry(&dump(&folder, second));
    std::fs::write(folder.join(format!("logs_node_{second}/dump.txt")), hurried).unwrap();
    let broken = cluster.raftctl(&look);
    assert_eq!(broken.code, 40, "{broken:?}");
    assert!(
        broken.stdout.contains("before the lease of node"),
        "{broken:?}"
    );
}

// A leader is killed whose process was watched: the others know for certain, its lease of seconds is not
// waited for, and the same look finds that in order; but not without the lines that tell of the proof.
#[test]
fn a_proved_death_is_no_contradiction() {
    let cluster = TestCluster::with(3, "timing:\n  preset: lan\n  lease: 10s\n");
    cluster.raftctl(&["up"]).ok();
    let first = cluster.leader(|_| true);
    let home = cluster.state("");
    cluster.eventually("a heartbeat under a lease", |_| {
        dump(&home, first).contains(" lease_us=9")
    });
    cluster.raftctl(&["kill", &first.to_string()]).ok();
    let second = cluster.leader(|id| id != first);
    cluster.raftctl(&["set", "a", "b"]).ok();
    let known = format!("knows for certain that a run of Node {first} has ended.");
    let says = |id: &u64| dump(&home, *id).contains(&known);
    cluster.eventually("both others know", |_| {
        (1..=3).filter(|id| *id != first).all(|id| says(&id))
    });
    let status = cluster.raftctl(&["status", "--output", "json"]).json();
    let node = &status["nodes"][second as usize - 1]["proof_of_death"];
    assert_eq!(
        (&node["watched"], &node["ends_proved"]),
        (&true.into(), &1.into())
    );

    let look = ["timeline", "raft-logs-test", "--check", "--output", "json"];
    cluster.raftctl(&["timeline"]).ok();
    let proved = cluster.raftctl(&look).ok().json();
    assert_eq!(proved["findings"].as_array().unwrap().len(), 0, "{proved}");
    let folder = cluster.path("raft-logs-test");
    for id in 1..=3 {
        let kept: String = dump(&folder, id)
            .split_inclusive('\n')
            .filter(|line| !line.contains(&known))
            .collect();
        std::fs::write(folder.join(format!("logs_node_{id}/dump.txt")), kept).unwrap();
    }
    let broken = cluster.raftctl(&look);
    assert_eq!(broken.code, 40, "{broken:?}");
}

/// A node of a cluster that raftctl did not start: as it would, with more options. It ends with this value.
struct OddNode(Child);

impl OddNode {
    fn start(cluster: &TestCluster, id: u64, options: &[&str]) -> OddNode {
        let executable = Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
        let arguments = cluster.state(&format!("run/node_{id}.args"));
        let node = Command::new(executable)
            .arg(format!("@{}", arguments.display()))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        OddNode(node.unwrap())
    }
}

impl Drop for OddNode {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

// A real lease that is broken: a leader whose clock goes at less than a third of its pace, and not within the bound
// that all assume, is cut off and believes in its lease long after the promises that it rests on. The others elect
// another one, which commits meanwhile. The nodes' own files show it: exit code 40, with the node and the time.
#[test]
fn a_broken_lease_of_a_real_run_is_found() {
    const ODD: u64 = 1;
    let cluster = TestCluster::up(3);
    cluster.leader(|_| true);
    cluster.raftctl(&["kill", "1"]).ok();
    let home = cluster.state("");
    let before = dump(&home, ODD).len();
    let since_then = || dump(&home, ODD)[before..].to_owned();
    let slow = ["--allow-clock-faults", "--clock-rate-ppm=-700000"];
    let odd = OddNode::start(&cluster, ODD, &slow);
    cluster.eventually("the odd node under a lease", |_| {
        // Refused until it has caught up, and where it leads already: then it is tried again.
        cluster.raftctl(&["transfer", "1"]);
        since_then().contains(" lease_us=1")
    });
    let cut_us = unix_us();
    cluster.raftctl(&["partition", "1"]).ok();
    let second = cluster.leader(|id| id != ODD);
    cluster.eventually("what the second one has committed", |status| {
        status["nodes"][second as usize - 1]["commit_index"]
            == status["nodes"][second as usize - 1]["last_index"]
    });
    cluster.eventually("the end of the first one's lease", |_| {
        since_then().contains("lease renewal failed")
    });
    let over_us = unix_us();
    drop(odd);

    cluster.raftctl(&["timeline"]).ok();
    let look = ["timeline", "raft-logs-test", "--check"];
    let broken = cluster.raftctl(&look).code(40);
    let place = format!("before the lease of node {ODD} (term ");
    assert!(broken.stdout.contains(&place), "{broken:?}");
    let found = cluster
        .raftctl(&[&look[..], &["--output", "json"]].concat())
        .code(40)
        .json();
    let found = found["findings"].as_array().unwrap();
    let is_it = |finding: &&serde_json::Value| finding["what"].as_str().unwrap().contains(&place);
    let finding = found.iter().find(is_it).unwrap();
    assert_eq!(finding["node"], second);
    let at_us = finding["at_us"].as_i64().unwrap();
    assert!(
        (cut_us..over_us).contains(&at_us),
        "{finding} {cut_us} {over_us}"
    );
    // It is in the picture as well.
    let page = cluster.path("raft-logs-test/timeline.html");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("class=\"finding\""));
}
