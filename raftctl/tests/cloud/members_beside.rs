//! Members change beside something else: everything is off, another operator is at work, machines are reached through
//! Identity-Aware Proxy alone.

use harness::{Test, tests};
use serde_json::json;
use testhosts::HOSTS;

use crate::cloud::{GCLOUD, TERRAFORM, ended};
use crate::farm::World;
use crate::iap;
use crate::interrupted::{at_google, in_state};
use crate::members::{killed_after, of_node, planned, three, voters, yaml};
use crate::support::Ended;

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        who_leaves_comes_back_for_its_vote,
        another_operator_s_older_file_changes_nobody,
        members_change_behind_iap_and_tls
    )
}

/// Switches the hosts on again whose machines are gone: what is on them is what their disks hold.
fn revive_all(world: &World) {
    let mut farm = world.farm.lock().unwrap();
    for at in 0..farm.set.hosts.len() {
        farm.set.revive(at);
    }
}

// Everything is off when a node is taken out of the file: nobody leads, and it may take its vote to let it leave. So
// its machine is made again beside its disk, and deleted with that when it has left.
fn who_leaves_comes_back_for_its_vote() {
    let world = three(3);
    world.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 3);
    revive_all(&world);
    world.cloud.write(&yaml("[{id: 1}, {id: 2}]"));
    let plan = planned(&world.raftctl(&["plan", "--output", "json"]).code(0));
    assert!(
        plan.iter().any(|step| step == "create machine n3"),
        "{plan:?}"
    );
    let up = world.raftctl(&["up"]).code(0);
    let at = |words: &str| up.stderr.find(words).unwrap_or_else(|| panic!("{up:?}"));
    assert!(at("create machine n3") < at("node 3 has left"), "{up:?}");
    assert!(at("node 3 has left") < at("delete machine n3"), "{up:?}");
    assert_eq!(voters(&world), json!([1, 2]));
    assert_eq!(of_node(&world.cloud, "n3"), Vec::<String>::new());
    assert_eq!(at_google(&world.cloud), in_state(&world.cloud));
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
}

/// A second operator, with the key and all that was known when the folder was copied.
struct Colleague<'a> {
    world: &'a World,
    folder: tempfile::TempDir,
}

impl Colleague<'_> {
    fn of(world: &World) -> Colleague<'_> {
        let folder = tempfile::tempdir().unwrap();
        let own = world.cloud.folder.path();
        let [from, to] = [own, folder.path()].map(|at| at.join(".raftctl"));
        let words = ["-r", from.to_str().unwrap(), to.to_str().unwrap()];
        ended(world.cloud.program("cp", &words)).code(0);
        std::fs::copy(own.join("cluster.yaml"), folder.path().join("cluster.yaml")).unwrap();
        Colleague { world, folder }
    }

    fn raftctl(&self, arguments: &[&str]) -> Ended {
        let mut command = self.world.cloud.command(arguments);
        command.current_dir(self.folder.path());
        ended(command)
    }
}

// Two operators share the state in a bucket. One adds a node and takes another out; the file of the other one knows
// nothing of that: it lets nobody leave, revives nobody, deletes nothing that is being made, and says why.
fn another_operator_s_older_file_changes_nobody() {
    let in_bucket = |nodes: &str| yaml(nodes).replace("gcp:\n", "gcp:\n  state_bucket: my-state\n");
    let world = World::new(&in_bucket("3"), 4);
    let cloud = &world.cloud;
    cloud.list_quickly();
    cloud.provider.storage.make_bucket("my-state");
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    let colleague = Colleague::of(&world);

    // Node 4 has a machine, and does not vote yet.
    cloud.write(&in_bucket("4"));
    killed_after(&world, "add node 4 as a learner");
    let there = at_google(cloud);
    for verb in ["plan", "up"] {
        let left = colleague.raftctl(&[verb]);
        assert!(
            left.stderr
                .contains("node 4, which this cluster.yaml has never had"),
            "{left:?}"
        );
        assert_eq!(at_google(cloud), there);
    }
    world.raftctl(&["up"]).code(0);
    assert_eq!(voters(&world), json!([1, 2, 3, 4]));

    world.raftctl(&["remove", "1"]).code(0);
    let there = at_google(cloud);
    assert_eq!(of_node(cloud, "n1"), Vec::<String>::new());
    for verb in ["plan", "up"] {
        let refused = colleague.raftctl(&[verb]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert_eq!(at_google(cloud), there, "{refused:?}");
    }
    assert_eq!(voters(&world), json!([2, 3, 4]));
    // With the file of today all is well there, too: it finds out that node 1 is gone.
    let own = cloud.folder.path().join("cluster.yaml");
    std::fs::copy(own, colleague.folder.path().join("cluster.yaml")).unwrap();
    colleague.raftctl(&["up"]).code(0);
    colleague.raftctl(&["up"]).code(0).says("nothing to do");
    assert_eq!(at_google(cloud), there);
    assert_eq!(
        colleague.raftctl(&["get", "name1"]).code(0).stdout,
        "Jaggu\n"
    );
    colleague.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Members change where machines are reached through Identity-Aware Proxy alone, and nodes speak TLS: the new one gets
// its certificate, and the one that leaves takes nothing along.
fn members_change_behind_iap_and_tls() {
    let behind = |nodes: &str| {
        let open = "  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n";
        format!("tls: on\n{}", yaml(nodes)).replace(open, "  ssh_via: iap\n")
    };
    let world = World::new(&behind("3"), 4);
    iap::open_tunnels(&world);
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    world.cloud.write(&behind("4"));
    world.raftctl(&["up"]).code(0);
    assert_eq!(voters(&world), json!([1, 2, 3, 4]));
    world.raftctl(&["transfer", "1"]).code(0);
    world.raftctl(&["remove", "1"]).code(0);
    assert_eq!(voters(&world), json!([2, 3, 4]));
    assert_eq!(of_node(&world.cloud, "n1"), Vec::<String>::new());
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["up"]).code(0).says("nothing to do");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
}
