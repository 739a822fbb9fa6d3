//! A cluster on Google Cloud from nothing to nothing, with real Terraform, real gcloud, real SSH and
//! real nodes; only Google itself is a stand-in, whose instances are test hosts.

use harness::{Test, tests};
use std::time::Instant;

use crate::cloud::{GCLOUD, TERRAFORM};
use crate::farm::{PATIENCE, World};
use serde_json::json;
use testhosts::{HOSTS, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        a_cluster_lives_on_google_cloud,
        the_next_up_makes_what_is_missing,
        a_machine_that_is_gone_is_left_behind,
        larger_disks_help_nodes_that_are_full,
        a_lost_log_keeps_no_machine_from_being_made,
        another_machine_type_comes_one_by_one,
        data_disks_outlive_the_machines,
        machines_are_stopped_started_and_extended
    )
}

fn yaml(nodes: &str) -> String {
    format!(
        "\
name: demo
provider: gcp
nodes: {nodes}
ssh: {{user: {WITH_SUDO}}}
gcp:
  project: my-project
  zones: [us-central1-a, us-central1-b, us-east1-b]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
  lifetime: 12h
"
    )
}

/// The same with what `init` writes beside.
fn with_tls(nodes: &str) -> String {
    format!("tls: on\n{}", yaml(nodes))
}

// One command makes five machines in two regions and a cluster on them; it is used, hurt, looked
// at, left alone by a second `up`, and goes without a trace.
fn a_cluster_lives_on_google_cloud() {
    let world = World::new(&with_tls("5"), 5);
    let up = world.raftctl(&["up"]).code(0);
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    assert_eq!(world.instances(), 5);
    let regions = world
        .cloud
        .provider
        .google
        .of_type("google_compute_subnetwork");
    assert_eq!(regions.len(), 2);

    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let leader = world.leader(|_| true);
    world.raftctl(&["kill", "leader"]).code(0);
    world.leader(|id| id != leader);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let logs = world.raftctl(&["logs"]).code(0);
    assert!(
        logs.stdout
            .contains(&format!("logs_node_{leader}/dump.txt")),
        "{logs:?}"
    );
    world.raftctl(&["restart", &leader.to_string()]).code(0);

    // On a machine with other things to do a leader may come and go once more.
    let started = Instant::now();
    let plan = loop {
        let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
        if plan.json()["steps"] == json!([]) || started.elapsed() > PATIENCE {
            break plan;
        }
    };
    assert_eq!(world.cloud.changes(&plan), Vec::<String>::new());
    assert_eq!(plan.json()["steps"], json!([]));
    world.raftctl(&["up"]).code(0).says("nothing to do");

    world.raftctl(&["down"]).code(2).says("--yes");
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
    assert!(world.farm.lock().unwrap().taken.is_empty());
    // But for the authority: clients of a cluster that is made again keep their certificates.
    assert_eq!(world.left(), ["tls"]);
}

// A quota stops one machine of three: the cluster is up on the others, the missing one is named with
// the cause, and the next `up` makes that one alone, under the lock of the others.
fn the_next_up_makes_what_is_missing() {
    let world = World::new(&with_tls("3"), 3);
    world.cloud.order(&json!({"faults": [
        {"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n2"}
    ]}));
    let up = world
        .raftctl(&["up"])
        .code(3)
        .says("not brought up on 1 of the nodes:\n  node 2:")
        .says("the quota CPUS (limit 8.0) is used up in us-central1");
    // Once, at the end.
    let told = format!("{}{}", up.stdout, up.stderr);
    assert_eq!(told.matches("the quota CPUS").count(), 1, "{up:?}");
    assert_eq!(world.instances(), 2);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    world.farm.lock().unwrap().done.clear();
    world.cloud.order(&json!({}));
    let up = world
        .raftctl(&["up"])
        .code(0)
        .says("infrastructure: create 1\n");
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    assert_eq!(world.done_under_lock("up"), ["create"]);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
}

// A machine that is gone, and that Google has no other for, is named by every verb that misses it, and
// keeps none of them from the rest of the cluster.
fn a_machine_that_is_gone_is_left_behind() {
    let world = World::new(&yaml("3"), 3);
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    let delete =
        "compute instances delete raft-demo-n2 --zone=us-central1-b --project=my-project --quiet";
    let delete: Vec<&str> = delete.split(' ').collect();
    let at = world.farm.lock().unwrap().taken["raft-demo-n2"];
    crate::cloud::ended(world.cloud.program("gcloud", &delete)).code(0);

    // The others know its address, which is still there, and its data is on its disk: none of them is
    // restarted, and it is not a new node.
    let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(world.cloud.changes(&plan), ["create machine n2"]);
    let steps = plan.json()["steps"].clone();
    assert_eq!(steps[0]["text"], "start node 2 (not running)", "{steps}");
    assert_eq!(steps[1]["action"], "wait", "{steps}");

    world.farm.lock().unwrap().done.clear();
    world.age_places();
    let extended = world
        .raftctl(&["extend", "24h"])
        .code(3)
        .says("node 2: its machine is gone; `raftctl up` makes it again");
    for id in [1, 3] {
        let words = format!("machine of node {id} deletes itself in 1day");
        assert!(extended.stdout.contains(&words), "{extended:?}");
    }
    assert_eq!(world.done_under_lock("extend"), ["stop", "start"].repeat(2));

    world.cloud.order(&crate::cloud::fault(
        "quota_exceeded",
        "google_compute_instance",
    ));
    world
        .raftctl(&["up"])
        .code(3)
        .says("node 2: raft-demo-n2: cannot change the infrastructure:")
        .says("the quota CPUS (limit 8.0) is used up in us-central1");
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let status = world.raftctl(&["status", "--output", "json"]).code(0);
    assert_eq!(status.json()["machines"]["2"]["machine"], "GONE");

    world.cloud.order(&json!({}));
    world.farm.lock().unwrap().set.revive(at);
    world.raftctl(&["up"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
}

// A full data disk stops its node; all of them are about as full. A larger one is made first, and its
// file system follows at once: then the nodes go on with what they had.
fn larger_disks_help_nodes_that_are_full() {
    let world = World::new(&yaml("3"), 3);
    world.cloud.list_quickly();
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    world.raftctl(&["stop", "all"]).code(0);
    // The hosts have no data disks of their own.
    let full = "df() { cat; }
        put() { printf '#!/bin/sh\\n%s\\n' \"$2\" >/usr/local/sbin/$1; chmod 755 /usr/local/sbin/$1; }
        put df '[ -e /run/grown ] && exec /usr/bin/df \"$@\"; echo x; echo x 100 100 0 100% /opt'
        put resize2fs '[ \"$1\" = /dev/disk/by-id/google-raft-data ] && touch /run/grown'";
    for host in &world.farm.lock().unwrap().set.hosts {
        host.must_run(full);
    }
    world
        .raftctl(&["up"])
        .code(2)
        .says("node 1 has 0 KiB of disk space left");
    let larger = yaml("3").replace("gcp:\n", "gcp:\n  data_disk_gb: 20\n");
    world.cloud.write(&larger);
    let plan = world.raftctl(&["plan"]).code(0);
    assert!(plan.stdout.contains("change data disk n3"), "{plan:?}");
    assert!(plan.stdout.contains("start nodes 1, 2 and 3"), "{plan:?}");
    world.raftctl(&["up"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["down", "--yes"]).code(0);
}

// A lost log and a machine that is gone at a time: what accepts the one makes the other.
fn a_lost_log_keeps_no_machine_from_being_made() {
    let world = World::new(&yaml("3"), 3);
    world.cloud.list_quickly();
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["stop", "3"]).code(0);
    let at = world.farm.lock().unwrap().taken.clone();
    world.farm.lock().unwrap().set.hosts[at["raft-demo-n3"]]
        .must_run("rm -r /opt/raftkv/demo/logs_node_3");
    let delete =
        "compute instances delete raft-demo-n2 --zone=us-central1-b --project=my-project --quiet";
    let delete: Vec<&str> = delete.split(' ').collect();
    crate::cloud::ended(world.cloud.program("gcloud", &delete)).code(0);
    world.farm.lock().unwrap().set.revive(at["raft-demo-n2"]);
    let plan = world.raftctl(&["plan"]).code(0);
    assert!(
        plan.stderr.contains("the log of node 3 is gone"),
        "{plan:?}"
    );
    assert!(plan.stdout.contains("create machine n2"), "{plan:?}");
    world
        .raftctl(&["up"])
        .code(3)
        .says("the log of node 3 is gone");
    // What is shown of the member without data is what is done with it. The machine of node 2 is there by now.
    let accepting = ["plan", "--allow-data-loss", "--output", "json"];
    let plan = world.raftctl(&accepting).code(0);
    assert_eq!(world.cloud.changes(&plan), Vec::<String>::new());
    let steps = planned_steps(&plan);
    assert!(
        steps.iter().any(|step| step.contains("node 3")),
        "{steps:?}"
    );
    let up = world.raftctl(&["up", "--allow-data-loss"]).code(0);
    for step in steps {
        assert!(
            up.stderr.contains(&step),
            "{step:?} is not in {}",
            up.stderr
        );
    }
    world.raftctl(&["down", "--yes"]).code(0);
}

/// What is to be done on the machines, in words.
fn planned_steps(plan: &crate::support::Ended) -> Vec<String> {
    let plan = plan.json();
    let steps = plan["steps"].as_array().unwrap().iter();
    let texts = steps.map(|step| step["text"].as_str().unwrap().to_owned());
    texts.collect()
}

// Another machine type stops a machine: never all of them at once, but one after the other by the verb
// that is named.
fn another_machine_type_comes_one_by_one() {
    let world = World::new(&yaml("1"), 1);
    world.raftctl(&["up"]).code(0);
    let other = yaml("1").replace("gcp:\n", "gcp:\n  machine_type: e2-medium\n");
    world.cloud.write(&other);
    for verb in ["plan", "up"] {
        world
            .raftctl(&[verb])
            .code(2)
            .says("stop the machines of node 1 all at once to make them e2-medium")
            .says("`raftctl restart 1 --vm`");
    }
    // What makes a machine anew around its disk stops it, too.
    let spot = yaml("1").replace("gcp:\n", "gcp:\n  spot: true\n");
    world.cloud.write(&spot);
    world
        .raftctl(&["up"])
        .code(2)
        .says("delete the machines of node 1 all at once and make them anew")
        .says("`raftctl down --keep-data`");
    world.cloud.write(&other);
    // What Google refuses half-way is told with where it stands, and the same command goes on.
    let gcloud = crate::cloud::which("gcloud");
    for (refused, state) in [
        ("stop", "node 1 is stopped"),
        ("start", "the machine of node 1 is off now"),
    ] {
        let refuses = format!(
            "#!/bin/sh\n[ \"$2 $3\" != \"instances {refused}\" ] || {{ echo 'ERROR: (gcloud) not now' >&2; exit 1; }}\n\
             exec {} \"$@\"\n",
            gcloud.display()
        );
        world.cloud.install("gcloud", &refuses);
        world
            .raftctl(&["restart", "1", "--vm"])
            .code(10)
            .says("not now")
            .says(&format!(
                "{state}: `raftctl restart 1 --vm` goes on from there"
            ));
    }
    std::fs::remove_file(world.cloud.folder.path().join("bin/gcloud")).unwrap();
    world.raftctl(&["restart", "1", "--vm"]).code(0);
    let google = &world.cloud.provider.google;
    let instances = google.of_type("google_compute_instance");
    assert_eq!(instances[0].1.state["machine_type"], "e2-medium");
    world.raftctl(&["up"]).code(0).says("nothing to do");
    world.raftctl(&["down", "--yes"]).code(0);
}

// Data survives the machines: they go, the disks stay, and the next `up` attaches them again. (The
// stand-in keeps disks as entries alone; what is shown here is that none is deleted or made anew.)
fn data_disks_outlive_the_machines() {
    let world = World::new(&yaml("1"), 1);
    world.cloud.list_quickly();
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["down", "--keep-data", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 1);

    // What is on the disk is seen when a machine has it. It has the binary: nothing is sent.
    let plan = world.raftctl(&["plan"]).code(0).stdout;
    let unseen = "what is on data disks already (node 1) can't be seen without a machine";
    assert!(plan.contains(unseen), "{plan}");
    world.farm.lock().unwrap().set.revive(0);
    let up = world.raftctl(&["up"]).code(0);
    for words in ["create data disk", "ship raft-node"] {
        assert!(!up.stderr.contains(words), "{words}: {}", up.stderr);
    }
    world.raftctl(&["down", "--yes"]).code(0);
}

// The machine itself is switched off and on; its lifetime is shown and made longer, one machine
// after the other, and the data is there all the while.
fn machines_are_stopped_started_and_extended() {
    let world = World::new(&yaml("3"), 3);
    world.raftctl(&["up"]).code(0);
    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    let status = world.raftctl(&["status"]).code(0);
    assert!(
        status
            .stdout
            .contains("its machine deletes itself in 11h 5"),
        "{status:?}"
    );

    world.farm.lock().unwrap().done.clear();
    world.raftctl(&["kill", "3", "--vm"]).code(0);
    assert_eq!(world.done_under_lock("kill --vm"), ["stop"]);
    let status = world.raftctl(&["status", "--output", "json"]).code(0);
    assert_eq!(status.json()["machines"]["3"]["machine"], "TERMINATED");
    world.leader(|id| id != 3);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    // The machine that is off is no obstacle to the lock. Nobody has logged in for a while, and a machine
    // that comes up lets nobody in at first.
    world.age_places();
    world.raftctl(&["restart", "3", "--vm"]).code(0);
    assert_eq!(world.done_under_lock("restart --vm"), ["stop", "start"]);
    // `up` switches a machine on as well, which has no address before that.
    world.raftctl(&["kill", "2", "--vm"]).code(0);
    world.farm.lock().unwrap().done.clear();
    world.raftctl(&["up"]).code(0);
    assert_eq!(world.done_under_lock("up"), ["start"]);
    let address = world.farm.lock().unwrap().address("raft-demo-n2");
    assert_eq!(world.kept("n2")["external_ip"], address.as_str());

    // What Google would refuse when the machine is off already is refused before.
    for length in ["3000h", "30s"] {
        world
            .raftctl(&["extend", length])
            .code(2)
            .says("a lifetime is 60 seconds to 120 days; nothing was changed");
    }
    assert_eq!(world.done_under_lock("extend"), Vec::<String>::new());
    world.age_places();
    world.raftctl(&["extend", "48h"]).code(0);
    assert_eq!(world.done_under_lock("extend"), ["stop", "start"].repeat(3));
    let status = world
        .raftctl(&["status", "--output", "json"])
        .code(0)
        .json();
    for id in ["1", "2", "3"] {
        let left = status["machines"][id]["lifetime_remaining_s"]
            .as_u64()
            .unwrap();
        assert!((40 * 3600..=48 * 3600).contains(&left), "{status}");
    }
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    // Terraform finds nothing to change in that.
    let plan = world.raftctl(&["plan", "--output", "json"]).code(0);
    assert_eq!(world.cloud.changes(&plan), Vec::<String>::new());

    // Somebody else is at work, on another machine: nothing is done.
    let other = "echo \"token=other/1\nholder=ann@laptop\nuntil=$(($(date +%s) + 600))\" >/opt/raftkv/demo/lock";
    let on_all = |script: &str| {
        for host in &world.farm.lock().unwrap().set.hosts {
            host.must_run(script);
        }
    };
    on_all(other);
    world
        .raftctl(&["down", "--yes"])
        .code(1)
        .says("is being changed by ann@laptop");
    assert_eq!(world.done_under_lock("down"), Vec::<String>::new());
    on_all("rm /opt/raftkv/demo/lock");
    world.raftctl(&["down", "--yes"]).code(0);
    // The last machine to go has nobody beside it who could tell.
    world.farm.lock().unwrap().done.pop();
    assert_eq!(world.done_under_lock("down"), ["remove", "remove"]);
}
