//! A cluster in containers that raftctl makes, on the real engine.

mod support;
// Each test file uses its own part of them.
#[allow(dead_code)]
#[path = "support/testcontainers.rs"]
mod testcontainers;
#[allow(dead_code)]
#[path = "support/testhosts.rs"]
mod testhosts;

use support::raftctl;
use testcontainers::{docker, missing};
use testhosts::left_out;

/// Removes what a failed test leaves.
struct Cleanup<'a>(&'a std::path::Path);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let down = raftctl(self.0, &["down", "--yes"]);
        assert!(std::thread::panicking() || down.code == 0, "{down:?}");
    }
}

// From nothing to a leader: image from the bundled Dockerfile, network, containers, and then the
// path of any hosts. Again, and nothing is left to do. A partition by packet filter works inside.
// A container that was stopped is started again. `down` removes what was made, and nothing else.
#[test]
fn a_cluster_lives_in_containers() {
    if let Some(why) = missing() {
        return left_out(&why);
    }
    let folder = tempfile::tempdir().unwrap();
    let name = format!("test{}", std::process::id());
    let yaml = format!("name: {name}\nprovider: docker\nnodes: 3\n");
    std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    let raftctl = |arguments: &[&str]| raftctl(folder.path(), arguments);

    let plan = raftctl(&["plan"]).ok();
    assert!(
        plan.stdout.contains("make a container for node 3"),
        "{plan:?}"
    );
    assert!(
        plan.stdout.contains("ship raft-node to nodes 1, 2 and 3"),
        "{plan:?}"
    );
    let label = format!("label=raftctl.cluster={name}");
    let count = || {
        docker(&["ps", "--all", "--quiet", "--filter", &label])
            .lines()
            .count()
    };
    assert_eq!(count(), 0, "a plan makes nothing");

    // Another container with a name like ours is none of our business.
    let bystander = format!("raftctl-{name}-bystander");
    let cleanup = Cleanup(folder.path());
    let up = raftctl(&["up"]).ok();
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    assert_eq!(count(), 3);
    let first = format!("raftctl-{name}-1");
    let image = docker(&["inspect", "--format", "{{.Config.Image}}", &first]);
    docker(&["create", "--name", &bystander, &image, "true"]);
    raftctl(&["up"]).ok().says("nothing to do");
    assert!(raftctl(&["plan"]).ok().stdout.contains("nothing to do"));

    raftctl(&["set", "k", "v"]).ok();
    raftctl(&["kill", "leader"]).ok();
    assert_eq!(raftctl(&["get", "k"]).ok().stdout, "v\n");
    raftctl(&["up"]).ok();
    raftctl(&["partition", "leader", "--packet-filter", "--for", "30s"]).ok();
    raftctl(&["heal"]).ok();
    let said = raftctl(&["exec", "1", "--", "nft list tables | grep raftkv; hostname"]).ok();
    assert_eq!(said.stdout, "node 1: n1\n");

    docker(&["stop", "--time", "1", &first]);
    let stopped = raftctl(&["status"]).ok();
    assert!(stopped.stdout.contains("unreachable"), "{stopped:?}");
    raftctl(&["up"]).ok();
    assert_eq!(raftctl(&["get", "k"]).ok().stdout, "v\n");

    raftctl(&["down"]).code(2).says("say --yes");
    drop(cleanup);
    assert_eq!(count(), 0);
    assert_eq!(
        docker(&["inspect", "--format", "{{.Name}}", &bystander]),
        format!("/{bystander}")
    );
    docker(&["rm", &bystander]);
    let networks = docker(&["network", "ls", "--quiet", "--filter", &label]);
    assert_eq!(networks, "");
}
