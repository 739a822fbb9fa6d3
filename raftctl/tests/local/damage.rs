//! What an operator sees of a log that was damaged: who tells it, and when it is over.

use crate::cluster::TestCluster;

/// Flips a bit within one entry in the middle of a node's log; the entry's line, counted from 1.
fn damage(cluster: &TestCluster, id: u64, word: &str) -> usize {
    let file = cluster.state(&format!("logs_node_{id}/logs.txt"));
    let mut text = std::fs::read(&file).unwrap();
    let at = text
        .windows(word.len())
        .position(|window| window == word.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{word} is not in {}", file.display()));
    text[at] ^= 1;
    std::fs::write(&file, &text).unwrap();
    text[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

// A node whose log was damaged while it was down says so itself, by line and entry, for as long as nobody can
// refill it; `doctor` finds it, and its advice for the cluster leads to a log that is whole, with all its data.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_damaged_log_is_told_until_it_is_refilled() {
    let cluster = TestCluster::up(3);
    for number in 1..=6 {
        let value = format!("value{number}");
        cluster
            .raftctl(&["set", &format!("key{number}"), &value])
            .ok();
    }
    cluster.raftctl(&["down"]).ok();
    let line = damage(&cluster, 3, "value3");
    cluster.raftctl(&["start", "3"]).ok();

    let words = format!("node 3: its log is damaged from line {line} until entry ");
    let status = cluster.raftctl(&["status"]).ok();
    assert!(status.stdout.contains(&words), "{status:?}");
    assert_eq!(cluster.node(3)["log"], "damaged");
    let doctor = cluster.raftctl(&["doctor"]);
    let found = doctor.stdout.lines().find(|line| line.contains(&words));
    let found = found.unwrap_or_else(|| panic!("{doctor:?}"));
    assert!(
        found.contains("a leader refills such a log by itself"),
        "{found}"
    );
    // With its vote there would be a majority; it gives none.
    cluster.raftctl(&["start", "1", "--timeout", "2s"]).code(30);
    let held = cluster.raftctl(&["status"]).ok();
    assert!(held.stdout.contains(&words), "{held:?}");

    cluster.raftctl(&["start", "all"]).ok();
    cluster.eventually("the log of node 3 is whole", |status| {
        status["nodes"][2]["log"] == "whole"
    });
    for number in 1..=6 {
        let value = cluster.raftctl(&["get", &format!("key{number}")]).ok();
        assert_eq!(value.stdout, format!("value{number}\n"));
    }
    assert_eq!(cluster.raftctl(&["doctor"]).ok().stdout, "all is well\n");
}
