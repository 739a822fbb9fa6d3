//! raftctl with an older release of raft-node: taken over, gone back to, and refused once it can't be.

use crate::cluster::TestCluster;

impl TestCluster {
    /// Whether all nodes say so.
    fn all_say(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        self.eventually(what, |status| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes.iter().all(&is_so)
        });
    }

    fn set(&self, count: usize) {
        let value = "x".repeat(1000);
        for number in 0..count {
            self.raftctl(&["set", &format!("k{number}"), &value]).ok();
        }
    }
}

// A cluster of the release before ids, formats and snapshots is taken over while it serves, and gets its
// id node by node. It can be gone back from, also in the middle, until the first snapshot; then that
// release is refused before anything is changed.
#[test]
#[ignore = "builds an older version first: run by .ci/run, or with `-- --include-ignored`"]
fn a_cluster_is_taken_over_and_goes_back_until_its_first_snapshot() {
    let Some(older) = harness::older(env!("CARGO_BIN_EXE_raftctl")) else {
        return;
    };
    let former = format!("binary: {}\nsnapshot_log_kib: 8", older.display());
    let cluster = TestCluster::with(3, &former);
    cluster.raftctl(&["up"]).ok();
    cluster.set(10);
    cluster.raftctl(&["up"]).ok().says("nothing to do");

    cluster.configure("snapshot_log_kib: 8");
    // One node alone is restarted with it: members with and without an id are one cluster.
    cluster.raftctl(&["restart", "1"]).ok();
    let has_id =
        |node: &serde_json::Value| node["cluster_id"].as_str().is_some_and(|id| id.len() == 32);
    let one = cluster.node(1);
    assert!(has_id(&one), "{one}");
    let told = cluster.raftctl(&["status"]).ok().stdout;
    assert!(
        told.contains("can still be gone back to; nodes 2 and 3 run one"),
        "{told}"
    );
    let upgrade = cluster.raftctl(&["upgrade"]).ok();
    let open = "format 1: a release that reads no newer one can still be gone back to, until the log has grown by";
    assert!(upgrade.stderr.contains(open), "{upgrade:?}");
    cluster.all_say("one id", |node| node["cluster_id"] == one["cluster_id"]);
    cluster.raftctl(&["up"]).ok().says("nothing to do");

    cluster.configure(&former);
    cluster.raftctl(&["upgrade"]).ok();
    cluster.all_say("no ids", |node| node["cluster_id"] == "");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    assert_eq!(
        cluster.raftctl(&["get", "k9"]).ok().stdout.trim().len(),
        1000
    );

    // Held, nothing that is written makes a snapshot; nodes are restarted one by one to let go.
    cluster.configure("snapshot_log_kib: 8\nformat_max: 1");
    cluster.raftctl(&["upgrade"]).ok();
    cluster.set(20);
    let told = cluster.raftctl(&["status"]).ok().stdout;
    assert!(
        told.contains("as long as `format_max` in cluster.yaml holds it"),
        "{told}"
    );
    cluster.configure("snapshot_log_kib: 8");
    let plan = cluster.raftctl(&["plan"]).ok().stdout;
    assert!(
        plan.contains("restart node 1 (--format-max 1 -> newest)"),
        "{plan}"
    );
    assert!(!plan.contains("stop"), "{plan}");
    cluster.raftctl(&["up"]).ok();
    cluster.set(20);
    cluster.all_say("the format of snapshots", |node| node["format"] == 3);

    cluster.configure(&former);
    let before = cluster.pid(1);
    for verb in ["upgrade", "up", "plan"] {
        let refused = cluster.raftctl(&[verb]).code(2);
        refused.says("are of format 3, and the raft-node of cluster.yaml reads up to 1");
    }
    assert_eq!(cluster.pid(1), before, "nothing was changed");
    cluster.configure("snapshot_log_kib: 8");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}
