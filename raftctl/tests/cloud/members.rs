//! Nodes that come, go and are replaced at Google: a node that is added becomes a machine and a member, one that is
//! removed leaves first and is deleted then, and nobody else is touched.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use harness::{Test, tests};
use rustix::process::Signal;
use serde_json::{Value, json};
use testhosts::{HOSTS, WITH_SUDO};

use crate::cloud::{Cloud, GCLOUD, TERRAFORM, ended};
use crate::farm::{PATIENCE, World};
use crate::interrupted::{at_google, in_state, signal, terraform_of, wait_until_begun};
use crate::support::Ended;

pub fn tests() -> Vec<Test> {
    let mut tests = tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        members_come_and_go_at_google,
        a_machine_lost_for_good_is_replaced,
        a_changed_zone_is_a_replacement,
        an_interrupted_change_goes_on
    );
    tests.extend(tests!([TERRAFORM, GCLOUD], a_needed_zone_is_told));
    tests
}

fn in_zones(nodes: &str, zones: &str) -> String {
    format!(
        "name: demo\nprovider: gcp\nnodes: {nodes}\nssh: {{user: {WITH_SUDO}}}\ngcp:\n  project: my-project\n  \
         zones: [{zones}]\n  ssh_via: external\n  operator_cidrs: [127.0.0.1/32]\n"
    )
}

pub fn yaml(nodes: &str) -> String {
    in_zones(nodes, "us-central1-a, us-central1-b, us-central1-c")
}

/// A cluster of three that has a value, at a Google with so many hosts.
pub fn three(hosts: u8) -> World {
    let world = World::new(&yaml("3"), hosts);
    world.cloud.list_quickly();
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    world
}

pub fn voters(world: &World) -> Value {
    let status = world.raftctl(&["status", "--output", "json"]).code(0);
    status.json()["membership"]["voters"].clone()
}

fn nodes_line(world: &World) -> String {
    let text = std::fs::read_to_string(world.cloud.folder.path().join("cluster.yaml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("nodes:"));
    line.unwrap().to_owned()
}

/// What Google holds that belongs to a node.
pub fn of_node(cloud: &Cloud, name: &str) -> Vec<String> {
    let all = at_google(cloud).into_iter();
    let is_its = |id: &String| {
        let last = id.rsplit('/').next().unwrap_or_default();
        last == format!("raft-demo-{name}") || last == format!("raft-demo-{name}-data")
    };
    all.filter(is_its).collect()
}

/// The steps of a plan, and what is deleted after them, in words.
pub fn planned(plan: &Ended) -> Vec<String> {
    let plan = plan.json();
    let texts = |key: &str| {
        let all = plan[key].as_array().unwrap().iter();
        all.map(|one| one["text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    [
        texts("infrastructure"),
        texts("steps"),
        texts("infrastructure_afterwards"),
    ]
    .concat()
}

/// Whether `up` said that it did all of a plan, in some order.
#[track_caller]
fn did_all(up: &Ended, plan: &[String]) {
    for step in plan {
        // How far the log goes is another number a moment later.
        let step = step.split(" with entry").next().unwrap();
        assert!(up.stderr.contains(step), "{step:?} is not in {}", up.stderr);
    }
}

/// Somebody deletes a machine with its disk.
fn lose(world: &World, name: &str, zone: &str) {
    for (kind, thing) in [
        ("instances", format!("raft-demo-{name}")),
        ("disks", format!("raft-demo-{name}-data")),
    ] {
        let zone = format!("--zone={zone}");
        let words = [
            "compute",
            kind,
            "delete",
            &thing,
            &zone,
            "--project=my-project",
            "--quiet",
        ];
        ended(world.cloud.program("gcloud", &words)).code(0);
    }
}

// The file says four: `plan` tells what is made and done, `up` does it, and nobody else is touched. Then the leader
// leaves: it hands over, leaves, and is deleted last, under the lock of the others. An old file makes nobody leave, and
// what would leave too little is refused before anything is made.
fn members_come_and_go_at_google() {
    let world = three(4);
    let before = at_google(&world.cloud);
    world.cloud.write(&yaml("4"));
    let status = world.raftctl(&["status"]).code(0).stdout;
    let missing = "node 4 in cluster.yaml is no voter yet: `raftctl up` makes the change";
    assert!(status.contains(missing), "{status}");
    let plan = planned(&world.raftctl(&["plan", "--output", "json"]).code(0));
    let expected = [
        "create internal address n4",
        "create data disk n4",
        "create machine n4",
        "start node 4 (new: to join the cluster)",
        "add node 4 as a learner",
    ];
    assert!(
        expected
            .iter()
            .all(|step| plan.iter().any(|told| told == step)),
        "{plan:?}"
    );
    let up = world.raftctl(&["up"]).code(0);
    did_all(&up, &plan);
    assert_eq!(voters(&world), json!([1, 2, 3, 4]));
    let now = at_google(&world.cloud);
    assert_eq!((&now - &before).len(), 3, "{now:?}");
    assert!(before.is_subset(&now), "{before:?} {now:?}");
    world.raftctl(&["up"]).code(0).says("nothing to do");

    old_file_makes_nobody_leave(&world);
    for (ids, why) in [
        (&["4", "2", "3"][..], "most of the nodes that vote now"),
        (&["1", "2", "3", "4"], "`raftctl down` ends a cluster"),
    ] {
        let refused = world.raftctl(&[&["remove"], ids].concat()).code(2);
        refused.says(why);
        assert_eq!(at_google(&world.cloud), now);
    }

    world.raftctl(&["transfer", "1"]).code(0);
    world.farm.lock().unwrap().done.clear();
    let plan = world.raftctl(&["remove", "1", "--dry-run", "--output", "json"]);
    let plan = planned(&plan.code(0));
    assert_eq!(plan.last().unwrap(), "delete machine n1");
    assert_eq!(at_google(&world.cloud), now, "a plan deletes nothing");
    let up = world.raftctl(&["remove", "1"]).code(0);
    did_all(&up, &plan);
    let at = |words: &str| up.stderr.find(words).unwrap_or_else(|| panic!("{up:?}"));
    assert!(at("hand leadership over from node 1") < at("node 1 has left"));
    assert!(at("node 1 has left") < at("delete machine n1"), "{up:?}");
    assert_eq!(world.done_under_lock("up"), ["remove"]);
    assert_eq!(nodes_line(&world), "nodes: [{id: 2}, {id: 3}, {id: 4}]");
    assert_eq!(voters(&world), json!([2, 3, 4]));
    assert_eq!(of_node(&world.cloud, "n1"), Vec::<String>::new());
    let left = at_google(&world.cloud);
    assert!(left.is_subset(&now) && left.len() + 3 == now.len());
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["up"]).code(0).says("nothing to do");
    // Its id is nobody's any more, and no machine is made for that.
    world.cloud.write(&yaml("4"));
    for verb in ["plan", "up"] {
        let refused = world.raftctl(&[verb]).code(2);
        refused.says("node 1 was the id of a node that left");
        assert_eq!(at_google(&world.cloud), left);
    }
    // The file may be edited before: what is there goes all the same.
    world.cloud.write(&yaml("[{id: 2}, {id: 3}]"));
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
    assert_eq!(world.left(), ["tls"]);
}

/// Somebody whose folder is older than node 4.
fn old_file_makes_nobody_leave(world: &World) {
    let state = world.cloud.folder.path().join(".raftctl/demo");
    let kept = ["gcp.json", "nodes.json"].map(|name| state.join(name));
    let texts = kept
        .clone()
        .map(|file| std::fs::read_to_string(file).unwrap());
    let mut older: Value = serde_json::from_str(&texts[0]).unwrap();
    older["nodes"].as_object_mut().unwrap().remove("4").unwrap();
    older["members"] = json!([1, 2, 3]);
    std::fs::write(&kept[0], older.to_string()).unwrap();
    std::fs::remove_file(&kept[1]).unwrap();
    world.cloud.write(&yaml("3"));
    for verb in ["plan", "up"] {
        let refused = world.raftctl(&[verb]).code(2);
        refused.says("this cluster.yaml has never had node 4");
        assert_eq!(of_node(&world.cloud, "n4").len(), 3);
    }
    assert_eq!(voters(world), json!([1, 2, 3, 4]));
    world.cloud.write(&yaml("4"));
    for (file, text) in kept.iter().zip(texts) {
        std::fs::write(file, text).unwrap();
    }
}

// A machine and its disk are gone for good: nobody makes them again, another node takes the place, and what is left of
// the old one goes. From then on the log names directories: a voter whose disk is gone is sent to `replace`, whatever
// is allowed, and nothing is made for it before.
fn a_machine_lost_for_good_is_replaced() {
    let world = three(5);
    lose(&world, "n2", "us-central1-b");
    world.leader(|id| id != 2);
    world
        .raftctl(&["up"])
        .code(2)
        .says("create data disk n2, with nothing on it")
        .says("put a new node in its place (`raftctl replace 2`)");
    let refused = world.raftctl(&["remove", "3"]).code(2);
    refused.says("node 2 does not run");
    let replaced = world.raftctl(&["replace", "2"]).code(0);
    assert!(
        !replaced.stderr.contains("create data disk n2"),
        "{replaced:?}"
    );
    assert!(
        replaced.stdout.contains("survives 1 failure"),
        "{replaced:?}"
    );
    assert_eq!(nodes_line(&world), "nodes: [{id: 1}, {id: 3}, {id: 4}]");
    assert_eq!(voters(&world), json!([1, 3, 4]));
    assert_eq!(of_node(&world.cloud, "n2"), Vec::<String>::new());
    assert_eq!(at_google(&world.cloud), in_state(&world.cloud));
    // It is where the other was: that zone had the fewest.
    let disk = "projects/my-project/zones/us-central1-b/disks/raft-demo-n4-data";
    assert!(at_google(&world.cloud).contains(disk));
    world.raftctl(&["up"]).code(0).says("nothing to do");

    lose(&world, "n4", "us-central1-b");
    world.leader(|id| id != 4);
    let left = at_google(&world.cloud);
    world.raftctl(&["up"]).code(2).says("`raftctl replace 4`");
    for verb in ["plan", "up"] {
        world
            .raftctl(&[verb, "--allow-data-loss"])
            .code(2)
            .says("the cluster's log names the directory that it was in")
            .says("`raftctl replace 4`");
    }
    assert_eq!(at_google(&world.cloud), left, "nothing is made for it");
    world
        .raftctl(&["replace", "4", "--zone", "us-central1-f"])
        .code(0);
    assert_eq!(voters(&world), json!([1, 3, 5]));
    let disk = "projects/my-project/zones/us-central1-f/disks/raft-demo-n5-data";
    assert!(at_google(&world.cloud).contains(disk));
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
}

// A node's zone is another one in the file, and a zone is taken out of the list: for each node that can't stay where it
// is another one comes, of an id of its own, which the file has then. No disk is ever replaced, and the old ones are
// deleted when their nodes have left.
fn a_changed_zone_is_a_replacement() {
    let world = three(5);
    let before = at_google(&world.cloud);
    world.cloud.write(&yaml(
        "[{id: 1, zone: us-central1-f}, {id: 2}, {id: 3}]   # by zone",
    ));
    let line = nodes_line(&world);
    let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
    let plan = plan
        .says("node 1 is to be in another zone, and a disk can't move: node 4 comes in its place");
    assert_eq!(nodes_line(&world), line, "a plan writes nothing");
    assert_eq!(at_google(&world.cloud), before);
    let plan = planned(&plan);
    assert!(
        !plan.iter().any(|step| step.contains("REPLACE")),
        "{plan:?}"
    );
    let up = world.raftctl(&["up"]).code(0);
    did_all(&up, &plan);
    let line = "nodes: [{id: 2}, {id: 3}, {id: 4, zone: us-central1-f}]   # by zone";
    assert_eq!(nodes_line(&world), line);
    assert_eq!(voters(&world), json!([2, 3, 4]));
    assert_eq!(of_node(&world.cloud, "n1"), Vec::<String>::new());
    let moved = of_node(&world.cloud, "n4");
    assert!(
        moved.iter().any(|id| id.contains("/us-central1-f/disks/")),
        "{moved:?}"
    );

    // The zone of node 2 is taken out of the list.
    let two = "[{id: 2}, {id: 3}, {id: 4, zone: us-central1-f}]";
    world
        .cloud
        .write(&in_zones(two, "us-central1-a, us-central1-c"));
    world
        .raftctl(&["up"])
        .code(0)
        .says("node 5 comes in its place");
    let line = "nodes: [{id: 3}, {id: 4, zone: us-central1-f}, {id: 5}]";
    assert_eq!(nodes_line(&world), line);
    assert_eq!(voters(&world), json!([3, 4, 5]));
    let moved = of_node(&world.cloud, "n5");
    assert!(
        moved.iter().any(|id| id.contains("/us-central1-a/disks/")),
        "{moved:?}"
    );
    assert_eq!(at_google(&world.cloud), in_state(&world.cloud));
    world.raftctl(&["up"]).code(0).says("nothing to do");
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
}

/// Runs `up`, and kills it as soon as it says that a step is done.
pub fn killed_after(world: &World, step: &str) {
    let mut up = world.cloud.command(&["up"]).spawn().unwrap();
    let said = BufReader::new(up.stderr.take().unwrap()).lines();
    let mut all = String::new();
    let has_said = said.map_while(Result::ok).any(|line| {
        all.push_str(&line);
        all.push('\n');
        line.starts_with(step)
    });
    drop(up.kill());
    up.wait().unwrap();
    assert!(has_said, "{step:?} is not in {all}");
}

/// Runs `up` until Terraform is at something, then kills both, as when the machine loses its power.
fn killed_at(world: &World, begun: impl Fn(&Cloud)) {
    let mut up = world.cloud.command(&["up"]).spawn().unwrap();
    begun(&world.cloud);
    let terraform = terraform_of(&world.cloud);
    up.kill().unwrap();
    signal(terraform, Signal::KILL);
    up.wait().unwrap();
    world.cloud.order(&json!({}));
}

// A replacement by the file is cut off again and again: while the new machine is made, when its node learns, when the
// old one has left and is not deleted yet, while it is deleted. Each time what there is of the old node is kept until it
// has left, what costs money is named, and in the end there is what the file says, with all data.
fn an_interrupted_change_goes_on() {
    let world = three(4);
    let cloud = &world.cloud;
    cloud.write(&yaml("[{id: 2}, {id: 3}, {id: 4}]"));
    cloud.order(&json!({"hold": ["google_compute_disk"], "poll_ms": {"*": 50}}));
    let made = "projects/my-project/zones/us-central1-a/disks/raft-demo-n4-data";
    killed_at(&world, |cloud| {
        let give_up = Instant::now() + PATIENCE * 3;
        while !at_google(cloud).contains(made) {
            assert!(Instant::now() < give_up, "no disk is made for node 4");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(!in_state(cloud).contains(made), "it is lost");
    killed_after(&world, "add node 4 as a learner");
    assert_eq!(of_node(cloud, "n1").len(), 3, "a member keeps all");
    killed_after(&world, "make node 4 a voter and remove node 1");
    assert_eq!(voters(&world), json!([2, 3, 4]));
    assert_eq!(of_node(cloud, "n1").len(), 3);
    let status = world.raftctl(&["status"]).code(0).stdout;
    assert!(
        status.contains("(raft-demo-n1, us-central1-a) costs money; `raftctl up` lets it leave"),
        "{status}"
    );
    let plan = planned(&world.raftctl(&["plan", "--output", "json"]).code(0));
    assert_eq!(plan.last().unwrap(), "delete machine n1");

    cloud.order(&json!({"hold": ["google_compute_instance"], "poll_ms": {"*": 50}}));
    killed_at(&world, |cloud| {
        wait_until_begun(cloud, "delete", "google_compute_instance");
    });
    let status = world.raftctl(&["status"]).code(0).stdout;
    assert!(status.contains("in doubt: delete machine n1"), "{status}");
    assert!(
        status.contains("(raft-demo-n1, us-central1-a) costs money"),
        "{status}"
    );
    world.raftctl(&["up"]).code(0);
    assert_eq!(of_node(cloud, "n1"), Vec::<String>::new());
    assert_eq!(at_google(cloud), in_state(cloud));
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let status = world.raftctl(&["status"]).code(0).stdout;
    assert!(!status.contains("costs money"), "{status}");
    world.raftctl(&["up"]).code(0).says("nothing to do");

    // Everything is off, with a change that is not made yet: who leaves may be needed to elect a leader, and its disk
    // outlives the machines as the others' do.
    world.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    assert_eq!(cloud.count(), 3);
    cloud.write(&yaml("[{id: 2}, {id: 3}]"));
    world.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    assert_eq!(cloud.count(), 3, "node 4 has not left");
    let plan = cloud.changes(&world.raftctl(&["plan", "--output", "json"]).code(0));
    assert!(
        plan.iter().any(|change| change == "create machine n4"),
        "{plan:?}"
    );
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(cloud.count(), 0);
}

// Where one zone takes the cluster with it, `check` and `plan` say so; where none does, they say nothing.
fn a_needed_zone_is_told() {
    let cloud = Cloud::new(&in_zones("4", "us-central1-a, us-central1-b"));
    cloud.list_quickly();
    let even =
        "the 4 nodes are split evenly, and none of us-central1-a, us-central1-b has a majority";
    let check = cloud.raftctl(&["check"]).code(0).stdout;
    assert!(check.contains(&format!("note  zones: {even}")), "{check}");
    let plan = cloud
        .raftctl(&["plan", "--output", "json"])
        .code(0)
        .says(even);
    assert!(
        plan.json()["remarks"][0]
            .as_str()
            .unwrap()
            .starts_with(even)
    );
    cloud.write(&in_zones("3", "us-central1-a, us-central1-b"));
    let majority = "us-central1-a has 2 of the 3 nodes, and the others are no majority";
    cloud.raftctl(&["plan"]).code(0).says(majority);
    cloud.write(&yaml("3"));
    let plan = cloud.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(plan.json()["remarks"], json!([]));
}
