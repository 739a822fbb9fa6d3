//! Nodes come and go, as an operator sees it.

use crate::cluster::TestCluster;

// `status --check` fails as soon as fewer nodes may fail than cluster.yaml allows, and says what leads on;
// once that is followed, it passes again.
#[test]
fn too_few_that_may_fail_are_missed() {
    let cluster = TestCluster::up(3);
    cluster.leader(|_| true);
    let check = ["status", "--check", "--timeout", "30s"];
    let shown = cluster.raftctl(&check).ok().stdout;
    let told = "nodes 1, 2 and 3 vote; configuration 0; survives 1 failure\n";
    assert!(shown.contains(told), "{shown}");
    let status = cluster.status();
    assert_eq!(status["survives_failures_wanted"], 1, "{status:#}");
    assert_eq!(status["membership"]["voters"], serde_json::json!([1, 2, 3]));
    assert_eq!(status["nodes"][0]["member"], "voter");

    cluster.raftctl(&["kill", "1"]).ok();
    cluster.leader(|id| id != 1);
    cluster.eventually("no more may fail", |status| {
        status["survives_failures"] == 0
    });
    let failed = cluster.raftctl(&["status", "--check"]).code(30);
    assert!(failed.stdout.contains("survives no failure"), "{failed:?}");
    let failed = failed.says("it should survive 1; no answer from node 1; `raftctl doctor`");
    assert!(
        failed
            .stderr
            .starts_with("error: cluster test survives no failure")
    );
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(doctor.stdout.contains("raftctl start 1"), "{doctor:?}");
    cluster.raftctl(&["start", "1"]).ok();
    cluster.raftctl(&check).ok();
}

/// The nodes that vote.
fn voters(cluster: &TestCluster) -> Vec<u64> {
    let status = cluster.status();
    let voters = status["membership"]["voters"].as_array();
    let voters = voters.unwrap_or_else(|| panic!("{status:#}")).iter();
    voters.map(|id| id.as_u64().unwrap()).collect()
}

/// Another value of `nodes` in cluster.yaml.
fn edit(cluster: &TestCluster, nodes: &str) {
    let path = cluster.path("cluster.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let edit = |line: &str| match line.starts_with("nodes:") {
        true => format!("nodes: {nodes}\n"),
        false => format!("{line}\n"),
    };
    std::fs::write(&path, text.lines().map(edit).collect::<String>()).unwrap();
}

fn nodes_line(cluster: &TestCluster) -> String {
    let text = std::fs::read_to_string(cluster.path("cluster.yaml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("nodes:"));
    line.unwrap().to_owned()
}

// The file says five, then three: `plan` tells the steps, `up` takes them, the cluster keeps what it has, and the
// processes of those who left are gone. Even a leader leaves. A second `up` has nothing to do, and neither
// has the first one after all were stopped.
#[test]
fn a_cluster_grows_and_shrinks_by_its_file() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "k", "v"]).ok();
    edit(&cluster, "5");
    let status = cluster.raftctl(&["status"]).ok().stdout;
    assert!(
        status.contains("nodes 4 and 5 in cluster.yaml are no voters yet: `raftctl up`"),
        "{status}"
    );
    cluster
        .raftctl(&["restart", "1"])
        .code(2)
        .says("nodes 4 and 5 of cluster.yaml did not belong");
    let plan = cluster.raftctl(&["plan"]).ok().stdout;
    let steps = [
        "1. start nodes 4 and 5 (new: to join the cluster)",
        "2. add nodes 4 and 5 as learners",
        "3. wait until nodes 4 and 5 have caught up with entry",
        "4. make nodes 4 and 5 voters, in one change",
    ];
    assert!(steps.iter().all(|step| plan.contains(step)), "{plan}");
    assert_eq!(voters(&cluster), [1, 2, 3], "a plan changes nothing");
    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stdout.contains("survives 2 failures"), "{up:?}");
    assert_eq!(voters(&cluster), [1, 2, 3, 4, 5]);
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster.raftctl(&["restart", "all"]).ok();

    cluster.raftctl(&["transfer", "5"]).ok();
    let gone = [4, 5].map(|id| cluster.pid(id).unwrap());
    edit(&cluster, "3");
    let status = cluster.raftctl(&["status"]).ok().stdout;
    assert!(
        status.contains("leader: node 5, which is not in cluster.yaml"),
        "{status}"
    );
    assert!(
        status.contains("nodes 4 and 5 are members, and not in cluster.yaml: `raftctl up`"),
        "{status}"
    );
    let up = cluster
        .raftctl(&["up"])
        .ok()
        .says("hand leadership over from node 5");
    let up = up.says("node 5 has left; its files stay in ");
    assert!(up.stdout.contains("survives 1 failure"), "{up:?}");
    assert!(
        gone.iter().all(|pid| !crate::nodes::is_alive(*pid)),
        "{gone:?}"
    );
    assert!(cluster.state("logs_node_5/logs.txt").exists());
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster.raftctl(&["down"]).ok();
    cluster.raftctl(&["up"]).ok();
    assert_eq!(voters(&cluster), [1, 2, 3]);
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(
        !cluster.path(".raftctl/test").exists(),
        "those who left are purged, too"
    );
}

// What was stopped in between goes on with the next `up`: nodes that were started and not added, learners that do not
// vote yet, nodes that left and were not taken down; also when all were stopped meanwhile, and who leads leaves.
#[test]
fn an_interrupted_change_goes_on() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "k", "v"]).ok();
    edit(&cluster, "[{id: 2}, {id: 3}, {id: 4}]");
    for stop_after in [
        "start node 4",
        "add node 4 as a learner",
        "wait until node 4 has caught up",
    ] {
        interrupted_after(&cluster, stop_after);
    }
    cluster.raftctl(&["down"]).ok();
    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stderr.contains("node 1 has left"), "{up:?}");
    assert_eq!(voters(&cluster), [2, 3, 4]);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}

/// Runs `up`, and kills it as soon as it says that a step is done.
fn interrupted_after(cluster: &TestCluster, step: &str) {
    use std::io::{BufRead, BufReader};
    let mut up = crate::support::command(cluster.folder(), &["up"]);
    let mut up = up
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(up.stderr.take().unwrap()).lines();
    for line in said.map_while(Result::ok) {
        if line.starts_with(step) {
            break;
        }
    }
    drop(up.kill());
    up.wait().unwrap();
}

// Ids that were used, most of the nodes at once, a healthy node beside a dead one: refused with exit code 2 and what
// to do, before anything is done; what is advised works.
#[test]
fn wrong_wishes_are_refused() {
    let cluster = TestCluster::up(4);
    cluster.raftctl(&["remove", "4"]).ok();
    let line = nodes_line(&cluster);
    let refused = |words: &[&str], text: &str| {
        cluster.raftctl(words).code(2).says(text);
        assert_eq!(nodes_line(&cluster), line, "nothing was written");
    };
    refused(
        &["add", "4"],
        "node 4 was the id of a node that left, and nobody gets it again: write another id, as in nodes: \
         [{id: 1}, {id: 2}, {id: 3}, {id: 5}]",
    );
    refused(&["add", "3"], "node 3 is in cluster.yaml already");
    refused(
        &["add", "--zone", "us-central1-a"],
        "--zone is for provider gcp",
    );
    refused(
        &["remove", "9"],
        "there is no node 9 in cluster.yaml, which has nodes 1, 2 and 3",
    );
    refused(
        &["remove", "2", "3"],
        "most of the nodes that vote now and run",
    );
    edit(&cluster, "1");
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("most of the nodes that vote now and run");
    edit(&cluster, "3");
    cluster.raftctl(&["kill", "3"]).ok();
    cluster.leader(|id| id != 3);
    refused(&["remove", "2"], "node 3 does not run");
    refused(
        &["remove", "2"],
        "`raftctl start 3`), or replace it (`raftctl replace 3`)",
    );
    let ended = cluster.raftctl(&["replace", "3"]).ok();
    assert!(ended.stdout.contains("survives 1 failure"), "{ended:?}");
    assert_eq!(voters(&cluster), [1, 2, 5]);
    cluster.raftctl(&["remove", "2"]).ok();
    assert_eq!(voters(&cluster), [1, 5]);
}

// One change without an editor: each is written where an operator would, and comments stay.
#[test]
fn members_change_by_one_verb() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "k", "v"]).ok();
    edit(&cluster, "3   # how many");
    let dry = cluster
        .raftctl(&["add", "--dry-run"])
        .ok()
        .says("would have nodes: 4");
    assert!(
        dry.stdout.contains("make node 4 a voter, in one change"),
        "{dry:?}"
    );
    assert_eq!(nodes_line(&cluster), "nodes: 3   # how many");
    cluster
        .raftctl(&["add"])
        .ok()
        .says("cluster.yaml has nodes: 4 now");
    assert_eq!(nodes_line(&cluster), "nodes: 4   # how many");
    cluster.raftctl(&["remove", "2"]).ok();
    assert_eq!(
        nodes_line(&cluster),
        "nodes: [{id: 1}, {id: 3}, {id: 4}]   # how many"
    );
    assert_eq!(voters(&cluster), [1, 3, 4]);
    // Lost for good, with all that it had.
    cluster.raftctl(&["kill", "1"]).ok();
    std::fs::remove_dir_all(cluster.state("logs_node_1")).unwrap();
    cluster.leader(|id| id != 1);
    let replaced = cluster.raftctl(&["replace", "1"]).ok();
    assert!(
        replaced.stdout.contains("survives 1 failure"),
        "{replaced:?}"
    );
    assert_eq!(
        nodes_line(&cluster),
        "nodes: [{id: 3}, {id: 4}, {id: 5}]   # how many"
    );
    assert_eq!(voters(&cluster), [3, 4, 5]);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["status", "--check"]).ok();
}

// A trial takes away what it brought, and nobody else: a member that cluster.yaml does not name any more is its
// operator's, with all its files.
#[test]
fn a_trial_takes_away_only_what_it_brought() {
    const GUEST: &str = "\
scenario: guest
title: A node comes, and goes
nodes: 3
steps:
- wait_for_leader: {}
- add: {as: guest}
- expect_state: {nodes: guest}
- remove: guest
";
    let cluster = TestCluster::with_room(4);
    cluster.raftctl(&["transfer", "1"]).ok();
    edit(&cluster, "3");
    std::fs::write(cluster.path("guest.yaml"), GUEST).unwrap();
    cluster.raftctl(&["scenario", "run", "./guest.yaml"]).ok();
    assert_eq!(voters(&cluster), [1, 2, 3, 4]);
    assert!(cluster.state("logs_node_4/logs.txt").exists());
    assert!(!cluster.state("logs_node_5").exists());
}

// Where a node leads that cluster.yaml does not name, whoever waits for one of its nodes is told so, and what to do.
#[test]
fn a_leader_that_the_file_does_not_name_is_told() {
    let cluster = TestCluster::with_room(4);
    cluster.raftctl(&["transfer", "4"]).ok();
    edit(&cluster, "3");
    let waited = cluster
        .raftctl(&["restart", "1", "--timeout", "3s"])
        .code(30);
    waited.says("node 4 leads, which is not in cluster.yaml: `raftctl up` removes it");
    cluster.raftctl(&["up"]).ok();
    assert_eq!(voters(&cluster), [1, 2, 3]);
    cluster.raftctl(&["restart", "1"]).ok();
}

// The files of a node that leaves are deleted when that is asked for, with the node or later; never those of a member,
// and not without a word to confirm it.
#[test]
fn files_of_those_who_left_are_deleted_when_told() {
    let cluster = TestCluster::up(4);
    let log = |id: u64| cluster.state(&format!("logs_node_{id}/logs.txt"));
    let left = cluster.raftctl(&["remove", "2"]).ok();
    assert!(log(2).exists());
    let advice = "(`raftctl remove 2 --purge` deletes them)";
    assert!(left.stderr.contains(advice), "{left:?}");
    let refused = cluster.raftctl(&["remove", "2", "--purge"]).code(2);
    refused.says("nobody is there to confirm it, so say --yes");
    assert!(log(2).exists());
    let purge = |id: &str| cluster.raftctl(&["remove", id, "--purge", "--yes"]);
    purge("2").ok().says("the files of node 2 are deleted");
    assert!(!cluster.state("logs_node_2").exists());
    purge("2").code(2).says("none that left from here");

    let dry = ["remove", "4", "--purge", "--dry-run"];
    cluster
        .raftctl(&dry)
        .ok()
        .says("the files of node 4 would be deleted");
    assert!(log(4).exists());
    purge("4").ok().says("the files of node 4 are deleted");
    assert!(!cluster.state("logs_node_4").exists());
    assert_eq!(voters(&cluster), [1, 3]);

    // Out of the file, and a member still: the cluster needs it.
    edit(&cluster, "[{id: 1}]");
    purge("3").code(2).says("needs the files of node 3");
    assert!(log(3).exists());
    cluster.raftctl(&["up"]).ok();
    purge("3").ok();
    assert!(!cluster.state("logs_node_3").exists());
    purge("1").code(2).says("`raftctl down` ends a cluster");
    assert!(log(1).exists());
}

// A file that raftctl can't edit is left alone, and what to write is said; without a leader nothing is tried.
#[test]
fn a_file_that_can_t_be_edited_is_for_a_person() {
    let cluster = TestCluster::up(3);
    edit(&cluster, "&ours [{id: 1}, {id: 2}, {id: 3}]");
    let refused = cluster.raftctl(&["add"]).code(2);
    let refused = refused.says("write `nodes: 4` there yourself, then run `raftctl up`");
    assert!(
        refused.stderr.contains("are written in a way"),
        "{refused:?}"
    );
    edit(&cluster, "4");
    cluster.raftctl(&["up"]).ok();
    assert_eq!(voters(&cluster), [1, 2, 3, 4]);
    cluster
        .raftctl(&["remove", "1", "2", "3", "4"])
        .code(2)
        .says("`raftctl down` ends a cluster");
    cluster.raftctl(&["kill", "all"]).ok();
    cluster
        .raftctl(&["add"])
        .code(30)
        .says("there is no leader");
}

// Once members have changed, the log names the nodes' directories. One that is gone took its node with it, also where
// nobody runs who could say so before: `up` starts the others, asks them, and names the way.
#[test]
#[ignore = "run by .ci/run, or with `-- --include-ignored`"]
fn a_directory_that_is_gone_is_replaced() {
    let cluster = TestCluster::up(3);
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["replace", "1"]).ok();
    assert_eq!(voters(&cluster), [2, 3, 4]);
    cluster.raftctl(&["stop", "all"]).ok();
    let data = cluster.path(".raftctl/test/logs_node_4");
    let kept = cluster.path("kept");
    std::fs::rename(&data, &kept).unwrap();
    cluster.raftctl(&["up"]).code(2);
    let way = "`raftctl replace 4`";
    let refused = cluster.raftctl(&["up", "--allow-data-loss"]).code(2);
    assert!(refused.stderr.contains(way), "{refused:?}");
    assert!(
        !data.exists(),
        "node 4 was started with nothing: {refused:?}"
    );
    cluster.leader(|id| id != 4);

    std::fs::rename(&kept, &data).unwrap();
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["replace", "4"]).ok();
    assert_eq!(voters(&cluster), [2, 3, 5]);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}
