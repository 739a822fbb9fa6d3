//! The id of a cluster: minted once, kept by its nodes, found again by whoever comes.

use crate::cluster::TestCluster;

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
