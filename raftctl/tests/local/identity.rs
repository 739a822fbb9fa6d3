//! The id of a cluster: minted once, kept by its nodes, found again by whoever comes.

use std::time::Instant;

use crate::cluster::TestCluster;
use crate::support::PATIENCE;

impl TestCluster {
    /// The ids that the nodes say.
    fn ids(&self) -> Vec<String> {
        let status = self.status();
        let ids = status["cluster_ids"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    fn metadata(&self, id: u64) -> String {
        std::fs::read_to_string(self.state(&format!("logs_node_{id}/metadata.txt"))).unwrap()
    }
}

// `up` gives a new cluster an id. All that comes after it finds that one in the nodes' files: `up`
// again, `start`, `restart`, another folder of raftctl's own. A cluster that is made anew has another.
#[test]
fn a_cluster_keeps_the_id_that_up_gave_it() {
    let cluster = TestCluster::up(3);
    let ids = cluster.ids();
    let [id] = &ids[..] else {
        panic!("one id, not {ids:?}");
    };
    let status = cluster.raftctl(&["status"]).ok();
    let head = status.stdout.lines().next().unwrap();
    assert!(head.ends_with(&format!(", id {}", &id[..8])), "{head}");
    let line = format!("clusterId {id}\n");
    assert!((1..=3).all(|node| cluster.metadata(node).contains(&line)));

    cluster.raftctl(&["restart", "2"]).ok();
    cluster.raftctl(&["kill", "3"]).ok();
    // The arguments of before are no source where the files tell.
    std::fs::remove_file(cluster.state("run/node_3.args")).unwrap();
    cluster.raftctl(&["start", "3"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster.raftctl(&["down"]).ok();
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.ids(), ids);

    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    cluster.raftctl(&["up"]).ok();
    let others = cluster.ids();
    assert!(others.len() == 1 && others != ids, "{others:?}");
}

// The folder of a node of another cluster of the same name is found before anything is started with
// it, and each node is named with the id that it has.
#[test]
fn folders_of_two_clusters_are_told_apart() {
    let (here, there) = (TestCluster::up(3), TestCluster::up(3));
    let (own, other) = (here.ids(), there.ids());
    here.raftctl(&["kill", "3"]).ok();
    there.raftctl(&["kill", "3"]).ok();
    let folder = here.state("logs_node_3");
    std::fs::rename(&folder, here.state("aside")).unwrap();
    std::fs::rename(there.state("logs_node_3"), &folder).unwrap();
    for verb in [&["up"][..], &["start", "3"], &["plan"]] {
        let refused = here.raftctl(verb).code(2);
        let refused = refused.says(&format!("{} (node 1", own[0]));
        refused.says(&format!("{} (node 3", other[0]));
    }
    let doctor = here.raftctl(&["doctor"]).code(40);
    assert!(doctor.stdout.contains("mixed up"), "{doctor:?}");
    std::fs::rename(&folder, there.state("logs_node_3")).unwrap();
    std::fs::rename(here.state("aside"), &folder).unwrap();
    here.raftctl(&["up"]).ok();
    assert_eq!(here.ids(), own);
}

impl TestCluster {
    /// Waits until the status says this of its nodes.
    #[track_caller]
    fn says(&self, words: &str) {
        let started = Instant::now();
        loop {
            let status = self.raftctl(&["status"]).ok().stdout;
            if status.contains(words) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{words:?} is not in {status}");
        }
    }

    /// What is advised: with an empty folder the node is filled from the leader, and nothing is wrong.
    fn begin_empty(&self, id: u64) {
        let id_text = id.to_string();
        self.raftctl(&["stop", &id_text]).ok();
        let folder = self.state(&format!("logs_node_{id}"));
        std::fs::remove_dir_all(&folder).unwrap();
        self.raftctl(&["up", "--allow-data-loss"]).ok();
        self.eventually("it is filled", |status| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes
                .iter()
                .all(|node| node["last_index"] == nodes[0]["last_index"])
        });
        self.raftctl(&["doctor"]).ok();
    }
}

// A node with a copy of another one's folder, and one with a folder that it had before it got another one, are refused
// by name. `status` and `doctor` say so and what to do, and that leads on; the cluster serves all the while.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn folders_that_are_no_node_s_own_are_named() {
    let cluster = TestCluster::up(3);
    cluster.leader(|_| true);
    cluster.raftctl(&["transfer", "1"]).ok();
    let (own, aside) = (cluster.state("logs_node_2"), cluster.state("aside"));
    cluster.raftctl(&["stop", "2"]).ok();
    std::fs::rename(&own, &aside).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&cluster.state("logs_node_3"), &own])
        .status();
    assert!(copied.unwrap().success());
    cluster.raftctl(&["start", "2"]);
    cluster.says("node 2's directory is a copy of that of node 3, which is connected");
    let doctor = cluster.raftctl(&["doctor"]).code(40).stdout;
    assert!(
        doctor.contains("start it with an empty directory"),
        "{doctor}"
    );
    cluster.raftctl(&["set", "during", "copy"]).ok();
    cluster.begin_empty(2);

    cluster.raftctl(&["stop", "2"]).ok();
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::rename(&aside, &own).unwrap();
    cluster.raftctl(&["start", "2"]);
    cluster.says("node 2 has had another directory since this one");
    let doctor = cluster.raftctl(&["doctor"]).code(40).stdout;
    assert!(doctor.contains("or with an empty one"), "{doctor}");
    cluster.raftctl(&["set", "during", "return"]).ok();
    cluster.begin_empty(2);
    assert_eq!(cluster.raftctl(&["get", "during"]).ok().stdout, "return\n");
}
