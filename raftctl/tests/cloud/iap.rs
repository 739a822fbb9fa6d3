//! A cluster whose machines have no external address: SSH comes through Identity-Aware Proxy, whose
//! end of gcloud is a stand-in here. All else is real, and takes no other way.

use std::path::Path;

use crate::cloud::{GCLOUD, TERRAFORM, ended, which};
use crate::farm::World;
use harness::{Test, tests};
use testhosts::{HOSTS, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!(
        [TERRAFORM, GCLOUD, HOSTS],
        everything_goes_through_identity_aware_proxy
    )
}

/// Lets tunnels be opened, where lists need no gcloud to start.
pub fn open_tunnels(world: &World) {
    world.cloud.list_quickly();
    let bin = world.cloud.folder.path().join("bin");
    let listing = bin.join("listing");
    std::fs::rename(bin.join("gcloud"), &listing).unwrap();
    world.cloud.install("gcloud", &gcloud(world, &listing));
}

/// Does for tunnels what gcloud does, and leaves everything else to `others`: bytes between its own standard input and
/// output and a port of the machine.
fn gcloud(world: &World, others: &Path) -> String {
    format!(
        "#!/bin/bash
if [ \"$1 $2\" != 'compute start-iap-tunnel' ]; then exec {} \"$@\"; fi
cd {} || exit 1
echo \"$*\" >>tunnels
if [ -e refused ]; then cat refused >&2; exit 1; fi
if [ -e slow ]; then sleep \"$(cat slow)\"; fi
address=$(cat \"$3\") && exec 3<>\"/dev/tcp/$address/$4\" || exit 1
# As the real one, it ends with ssh, also where the machine says nothing any more.
exec 2>/dev/null
cat <&3 & reader=$!
trap 'kill $reader' EXIT HUP INT TERM
cat >&3
",
        others.display(),
        world.farm.lock().unwrap().addresses.path().display()
    )
}

// No machine can be reached from outside; scripts, files, clients and operators get there all the
// same, each through the tunnel that gcloud opens for the machine, and for nothing but SSH.
fn everything_goes_through_identity_aware_proxy() {
    let yaml = format!(
        "\
name: demo
provider: gcp
nodes: 3
ssh: {{user: {WITH_SUDO}}}
gcp:
  project: my-project
  zones: [us-central1-a, us-central1-b, us-central1-c]
  ssh_via: iap
"
    );
    let world = World::new(&yaml, 3);
    world
        .cloud
        .install("gcloud", &gcloud(&world, &which("gcloud")));
    let up = world.raftctl(&["up"]).code(0);
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    let google = &world.cloud.provider.google;
    for (id, instance) in google.of_type("google_compute_instance") {
        let access = &instance.state["network_interface"][0]["access_config"];
        assert!(
            access.as_array().is_none_or(Vec::is_empty),
            "{id}: {access}"
        );
    }

    world.raftctl(&["set", "name1", "Jaggu"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    let leader = world.leader(|_| true);
    world.raftctl(&["kill", "leader"]).code(0);
    world.leader(|id| id != leader);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");
    world.raftctl(&["restart", &leader.to_string()]).code(0);
    let uptime = world.raftctl(&["ssh", "2", "hostname"]).code(0);
    assert!(uptime.stdout.starts_with('n'), "{uptime:?}");
    // After a while without work ssh has hung up, and several gcloud at a time take long to start: who
    // leads is told all the same.
    let folder = world.farm.lock().unwrap().addresses.path().to_owned();
    let hang_up = || {
        let own = world.cloud.folder.path().join(".raftctl/demo/ssh_config");
        let pattern = ["-f", own.to_str().unwrap()];
        ended(world.cloud.program("pkill", &pattern)).code(0);
    };
    std::fs::write(folder.join("slow"), "6").unwrap();
    hang_up();
    let status = world.raftctl(&["status", "--output", "json"]).code(0);
    assert!(status.json()["leader"].is_u64(), "{status:?}");
    std::fs::remove_file(folder.join("slow")).unwrap();
    // What gcloud says in the way of ssh is told, with what to do.
    hang_up();
    let refused = "ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [4033: 'not authorized'].\n";
    std::fs::write(folder.join("refused"), refused).unwrap();
    world
        .raftctl(&["exec", "1", "--", "true"])
        .code(10)
        .says("[4033: 'not authorized']")
        .says("roles/iap.tunnelResourceAccessor");
    std::fs::remove_file(folder.join("refused")).unwrap();
    // The machine is off for a while, and the tunnel with it.
    world.raftctl(&["restart", "2", "--vm"]).code(0);
    assert_eq!(world.raftctl(&["get", "name1"]).code(0).stdout, "Jaggu\n");

    let tunnels = world.farm.lock().unwrap().addresses.path().join("tunnels");
    let tunnels = std::fs::read_to_string(tunnels).unwrap();
    for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        let own = format!(
            "compute start-iap-tunnel raft-demo-{name} 22 --listen-on-stdin --verbosity=error \
             --project=my-project --zone=us-central1-{zone}"
        );
        assert!(tunnels.lines().any(|line| line == own), "{own}: {tunnels}");
    }
    assert!(
        tunnels
            .lines()
            .all(|line| line.contains(" 22 --listen-on-stdin ")),
        "{tunnels}"
    );
    world.raftctl(&["down", "--yes"]).code(0);
    assert_eq!(world.cloud.count(), 0);
}
