//! A cluster in containers that raftctl makes, on the real engine: each story on one cluster, which it
//! leaves as it found it, up and with a leader.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use harness::{Shared, Test, stories, tests};
use testhosts::containers::{BASE, CONTAINERS, docker, sweep};

use crate::advice::{by_hand, quoted};
use crate::members::{GUESTS, MEMBERS_AND_KILLS, had_changes};
use crate::support::{Ended, command, ended, raftctl, replace_file};

/// The image from the bundled Dockerfile has one name for all clusters: whose it is depends on who
/// builds it, so all tests with that image share this cluster, one after the other.
pub static CLUSTER: Shared<Containers> = Shared::new(Containers::up);

pub fn tests() -> Vec<Test> {
    let mut tests = stories!(
        [CONTAINERS],
        &CLUSTER,
        a_plan_makes_nothing,
        up_again_has_nothing_to_do,
        a_killed_leader_is_replaced,
        a_packet_filter_works_inside,
        nodes_are_frozen_and_go_on,
        logs_come_out,
        another_binary_comes_in,
        a_backup_comes_back_in_new_containers,
        a_stopped_container_is_started,
        nobody_leaves_with_the_list,
        a_container_that_is_gone_took_its_log,
        a_container_out_of_the_network_is_put_back,
        an_engine_that_the_shell_names_is_told,
        an_engine_that_does_not_run_is_started,
        an_engine_for_others_lets_its_group_in,
        a_base_image_that_is_not_there_is_told,
        a_name_that_is_taken_is_told,
        an_orphan_is_named,
        addresses_of_containers_change,
        a_node_is_a_container_for_as_long_as_it_is_a_member,
        a_lost_disk_is_replaced_once_members_have_changed,
        members_change_in_trials,
        down_removes_what_was_made_and_nothing_else
    );
    tests.extend(tests!([CONTAINERS], what_others_made_stays));
    tests
}

/// A folder with a cluster of three containers.
pub struct Containers {
    folder: tempfile::TempDir,
    name: String,
}

impl Containers {
    fn new() -> Self {
        let containers = Containers {
            folder: tempfile::tempdir().unwrap(),
            name: format!("test{}", std::process::id()),
        };
        containers.configure(&containers.yaml());
        containers
    }

    fn up() -> Self {
        sweep();
        let containers = Containers::new();
        let down = containers.raftctl(&["down", "--purge", "--yes"]).ok();
        assert!(down.stdout.contains("is not there"), "{down:?}");
        containers.raftctl(&["up"]).ok();
        containers
    }

    fn yaml(&self) -> String {
        format!("name: {}\nprovider: docker\ntls: on\nnodes: 3\n", self.name)
    }

    fn configure(&self, yaml: &str) {
        replace_file(self.file(), yaml);
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cluster.yaml")
    }

    fn raftctl(&self, arguments: &[&str]) -> Ended {
        raftctl(self.folder.path(), arguments)
    }

    /// The container of a node.
    fn container(&self, id: u64) -> String {
        format!("raftctl-{}-{id}", self.name)
    }

    fn image(&self) -> String {
        docker(&[
            "inspect",
            "--format",
            "{{.Config.Image}}",
            &self.container(1),
        ])
    }

    /// The folder of whoever built the image.
    fn owner(&self) -> String {
        let format = "{{index .Config.Labels \"raftctl.folder\"}}";
        docker(&["image", "inspect", "--format", format, &self.image()])
    }

    fn label(&self) -> String {
        format!("label=raftctl.cluster={}", self.name)
    }

    /// How many containers of nodes there are. Whatever is made from the image has its labels, but for
    /// that of the node.
    fn count(&self) -> usize {
        let label = self.label();
        let filters = ["--filter", &label, "--filter", "label=raftctl.node"];
        let words = [&["ps", "--all", "--quiet"][..], &filters].concat();
        docker(&words).lines().count()
    }

    /// What a node's process is known by.
    fn process(&self, id: u64) -> String {
        let file = format!("/opt/raftkv/{}/run/node_{id}.pid", self.name);
        docker(&["exec", &self.container(id), "cat", &file])
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        self.configure(&self.yaml());
        let down = self.raftctl(&["down", "--purge", "--yes"]);
        assert!(std::thread::panicking() || down.code == 0, "{down:?}");
    }
}

/// A container that ends with the test.
struct Bystander(String);

impl Drop for Bystander {
    fn drop(&mut self) {
        // A failed test may have ended before there was one.
        let _ = std::process::Command::new("docker")
            .args(["rm", "--force", &self.0])
            .output();
    }
}

// A plan shows image, containers and nodes, and makes nothing. The image is built anew, unless someone
// else built it before.
fn a_plan_makes_nothing(cluster: &Containers) {
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    let format = "{{.Repository}}:{{.Tag}}";
    let images = docker(&["images", "--format", format, "raftctl-host"]);
    let plan = cluster.raftctl(&["plan"]).ok();
    let built = plan.stdout.split_once("build image ").map(|(_, rest)| {
        let name = rest.split(' ').next().unwrap();
        assert!(name.starts_with("raftctl-host:"), "{plan:?}");
        name
    });
    let is_there = images.lines().any(|image| Some(image) == built);
    assert!(
        !is_there && (built.is_some() || !images.is_empty()),
        "{plan:?}"
    );
    assert!(
        plan.stdout.contains("make a container for node 3"),
        "{plan:?}"
    );
    assert!(
        plan.stdout.contains("ship raft-node to nodes 1, 2 and 3"),
        "{plan:?}"
    );
    assert_eq!(cluster.count(), 0, "a plan makes nothing");
    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stdout.contains("leader: node"), "{up:?}");
    assert_eq!(cluster.count(), 3);
    if built.is_some() {
        assert_eq!(cluster.owner(), cluster.folder.path().to_str().unwrap());
    }
}

fn up_again_has_nothing_to_do(cluster: &Containers) {
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(plan.stdout.contains("nothing to do"), "{plan:?}");
}

fn a_killed_leader_is_replaced(cluster: &Containers) {
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["kill", "leader"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["up"]).ok();
}

fn a_packet_filter_works_inside(cluster: &Containers) {
    let cut = ["partition", "1|2,3", "--packet-filter", "--for", "50s"];
    cluster.raftctl(&cut).ok();
    let tables = || {
        let list = "nft list tables | grep raftkv; hostname";
        cluster.raftctl(&["exec", "1", "--", list]).ok().stdout
    };
    assert!(tables().contains("table inet raftkv_"), "{}", tables());
    cluster.raftctl(&["heal"]).ok();
    assert_eq!(tables(), "node 1: n1\n");
}

fn nodes_are_frozen_and_go_on(cluster: &Containers) {
    cluster.raftctl(&["pause", "followers"]).ok();
    let status = cluster.raftctl(&["status"]).ok();
    assert!(status.stdout.contains("paused"), "{status:?}");
    cluster.raftctl(&["resume", "all"]).ok();
    cluster.raftctl(&["set", "frozen", "no"]).ok();
}

fn logs_come_out(cluster: &Containers) {
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["logs", "--all", "--into", "got"]).ok();
    let log = cluster.folder.path().join("got/logs_node_3/logs.txt");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("\nSET k v "), "{log}");
}

// The containers of a backup are made for it, and it is the same cluster but for its id.
fn a_backup_comes_back_in_new_containers(cluster: &Containers) {
    cluster.raftctl(&["set", "kept", "in a backup"]).ok();
    cluster.raftctl(&["backup", "--overwrite", "b"]).ok();
    cluster.raftctl(&["restore", "b"]).code(2).says("is there");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    let restored = cluster
        .raftctl(&["restore", "b", "--output", "json"])
        .ok()
        .json();
    assert_eq!(restored["left_behind"].as_array().map(Vec::len), Some(0));
    let value = cluster.raftctl(&["get", "kept"]).ok().stdout;
    assert_eq!(value, "in a backup\n");
    cluster.raftctl(&["del", "kept"]).ok();
}

fn another_binary_comes_in(cluster: &Containers) {
    let own = Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let mut other = std::fs::read(own).unwrap();
    other.extend(b"another");
    let binary = cluster.folder.path().join("raft-node");
    std::fs::write(&binary, other).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    cluster.configure(&format!("{}binary: ./raft-node\n", cluster.yaml()));
    let upgrade = cluster.raftctl(&["upgrade"]).ok();
    let upgraded = upgrade.stdout.matches(" upgraded").count();
    assert_eq!(upgraded, 3, "{upgrade:?}");
    cluster.raftctl(&["upgrade", "--rollback"]).ok();
    cluster.configure(&cluster.yaml());
    cluster.raftctl(&["up"]).ok();
}

fn a_stopped_container_is_started(cluster: &Containers) {
    cluster.raftctl(&["set", "k", "v"]).ok();
    let first = cluster.container(1);
    docker(&["stop", "--time", "1", &first]);
    let stopped = cluster.raftctl(&["status"]).ok();
    let note = format!("{first}: cannot be reached: the container does not run; `raftctl up`");
    assert!(stopped.stdout.contains(&note), "{stopped:?}");
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// Fewer nodes: nothing is removed, since the others hold what was acknowledged.
fn nobody_leaves_with_the_list(cluster: &Containers) {
    cluster.configure(&cluster.yaml().replace("nodes: 3", "nodes: 1"));
    for verb in ["plan", "up"] {
        cluster
            .raftctl(&[verb])
            .code(2)
            .says("most of the nodes that vote now");
    }
    // What raftctl does not remember is no node that it could ask to leave.
    let memory = format!(".raftctl/{}/nodes.json", cluster.name);
    let memory = cluster.folder.path().join(memory);
    let text = std::fs::read_to_string(&memory).unwrap();
    std::fs::remove_file(&memory).unwrap();
    for verb in ["plan", "up"] {
        cluster
            .raftctl(&[verb])
            .code(2)
            .says("nodes that are not in cluster.yaml");
    }
    std::fs::write(&memory, text).unwrap();
    cluster.configure(&cluster.yaml());
    assert_eq!(cluster.count(), 3);
}

/// Another cluster in place of one whose members have changed: whose log names directories lets no container begin
/// anew, and stories come in any order.
fn begin_anew(cluster: &Containers) {
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    let memory = format!(".raftctl/{}/nodes.json", cluster.name);
    let memory = cluster.folder.path().join(memory);
    assert!(!memory.exists() || std::fs::remove_file(memory).is_ok());
    cluster.configure(&cluster.yaml());
    cluster.raftctl(&["up"]).ok();
}

// A node that is added becomes a container and a voter; one that leaves takes its container with it.
fn a_node_is_a_container_for_as_long_as_it_is_a_member(cluster: &Containers) {
    a_node_comes_and_goes(cluster);
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    begin_anew(cluster);
}

fn a_node_comes_and_goes(cluster: &Containers) {
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster
        .raftctl(&["add"])
        .ok()
        .says("make a container for node 4");
    assert_eq!(cluster.count(), 4);
    cluster.raftctl(&["transfer", "4"]).ok();
    let removed = cluster.raftctl(&["remove", "4"]).ok();
    let removed = removed.says("node 4 has left; its host is deleted");
    assert!(removed.stdout.contains("survives 1 failure"), "{removed:?}");
    assert_eq!(cluster.count(), 3);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// Members have changed, so the log names the directories of the nodes. A container that is gone took one with it,
// and no other one is let in under that id, whatever is accepted: another node takes its place.
fn a_lost_disk_is_replaced_once_members_have_changed(cluster: &Containers) {
    a_node_comes_and_goes(cluster);
    // The leader, so that nobody leads when the others are asked.
    cluster.raftctl(&["transfer", "3"]).ok();
    docker(&["rm", "--force", &cluster.container(3)]);
    for up in [&["up"][..], &["up", "--allow-data-loss"]] {
        let refused = cluster.raftctl(up).code(3);
        assert!(
            refused.stderr.contains("`raftctl replace 3`"),
            "{refused:?}"
        );
    }
    let replaced = cluster.raftctl(&["replace", "3"]).ok();
    assert!(
        replaced.stdout.contains("survives 1 failure"),
        "{replaced:?}"
    );
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    begin_anew(cluster);
}

// A container that is gone took a log with it: the others serve, and nobody begins with nothing in
// its place without being told to.
fn a_container_that_is_gone_took_its_log(cluster: &Containers) {
    cluster.raftctl(&["set", "k", "v"]).ok();
    docker(&["rm", "--force", &cluster.container(3)]);
    let status = cluster.raftctl(&["status"]).ok();
    assert!(
        status.stdout.contains("there is no such container"),
        "{status:?}"
    );
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    let up = cluster.raftctl(&["up"]).code(3);
    assert!(up.stderr.contains("the log of node 3 is gone"), "{up:?}");
    cluster.raftctl(&["up", "--allow-data-loss"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}

// A container that somebody took out of the network is told, and what is said to mend it does.
fn a_container_out_of_the_network_is_put_back(cluster: &Containers) {
    let network = format!("raftctl-{}", cluster.name);
    docker(&["network", "disconnect", &network, &cluster.container(2)]);
    let ask = ["exec", "2", "--", "hostname"];
    let told = cluster.raftctl(&ask).code(10).says("is not in the network");
    by_hand(&quoted(&told.stderr, "docker network connect "));
    assert_eq!(cluster.raftctl(&ask).ok().stdout, "node 2: n2\n");
    cluster.raftctl(&["up"]).ok();
}

// A shell that names another engine is what is wrong, and not this machine's.
fn an_engine_that_the_shell_names_is_told(cluster: &Containers) {
    let mut plan = command(cluster.folder.path(), &["plan"]);
    plan.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let output = plan.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert_eq!(quoted(&said, "unset "), "unset DOCKER_HOST");
    // That is how all other stories run.
    cluster.raftctl(&["plan"]).ok();
}

/// A shell in which the engine's socket is not to be seen, as while the engine does not run; what it
/// starts with `systemctl start docker` brings the socket back.
const STOPPED: &str = "mkdir shadow bin && mount --bind shadow $(dirname $(readlink -f /var/run/docker.sock)) && \
                       printf '#!/bin/sh\n[ \"$*\" = \"start docker\" ] && umount %s\n' \
                       $(dirname $(readlink -f /var/run/docker.sock)) >bin/systemctl && \
                       chmod 755 bin/systemctl && PATH=$PWD/bin:$PATH && ";

// An engine of this machine that does not run is started as it is told. The one of this machine runs on: a
// mount namespace hides its socket.
fn an_engine_that_does_not_run_is_started(cluster: &Containers) {
    let within = |script: &str| {
        let elsewhere = tempfile::tempdir().unwrap();
        let script = format!(
            "{STOPPED}cd {} && {script}",
            cluster.folder.path().display()
        );
        let mut shell = std::process::Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &script]);
        shell
            .current_dir(elsewhere.path())
            .env_remove("DOCKER_HOST");
        ended(shell)
    };
    let raftctl = env!("CARGO_BIN_EXE_raftctl");
    let told = within(&format!("{raftctl} plan")).code(10);
    let start = quoted(&told.stderr, "systemctl ");
    let look = quoted(&told.stderr, "docker ");
    assert_ne!(within(&look).code, 0, "the state is not what it should be");
    let plan = within(&format!("{start} && {look} && {raftctl} plan")).ok();
    assert!(plan.stdout.contains("nothing to do"), "{plan:?}");
}

// Whoever may not talk to the engine is told which group may, and a member of it may.
fn an_engine_for_others_lets_its_group_in(_: &Containers) {
    let copy = tempfile::tempdir().unwrap();
    let yaml = copy.path().join("cluster.yaml");
    std::fs::write(&yaml, "name: others\nprovider: docker\nnodes: 1\n").unwrap();
    std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // Nobody else may have a way to where the programs are made.
    let raftctl = Path::new(env!("CARGO_BIN_EXE_raftctl"));
    for name in ["raftctl", "raft-node"] {
        std::fs::copy(raftctl.with_file_name(name), copy.path().join(name)).unwrap();
    }
    let plan = |groups: &[&str]| {
        let mut plan = std::process::Command::new("setpriv");
        plan.args(["--reuid=65534", "--regid=65534"]).args(groups);
        plan.args(["./raftctl", "plan"]);
        plan.current_dir(copy.path()).env("HOME", copy.path());
        ended(plan)
    };
    let told = plan(&["--clear-groups"]).code(10);
    told.says("permission denied")
        .says("add yourself to the group docker");
    let group = std::fs::metadata("/var/run/docker.sock").unwrap().gid();
    let plan = plan(&[&format!("--groups={group}")]).ok();
    assert!(
        plan.stdout.contains("make a container for node 1"),
        "{plan:?}"
    );
}

// A base image that no registry has is named, the two commands tell what is amiss, and one that is here
// will do.
fn a_base_image_that_is_not_there_is_told(_: &Containers) {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("based{}", std::process::id());
    let configure = |image: &str| {
        let yaml =
            format!("name: {name}\nprovider: docker\nnodes: 1\ndocker: {{image: {image}}}\n");
        std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    };
    // Nothing listens there: the engine says so at once.
    let absent = "127.0.0.1:1/absent";
    configure(absent);
    let told = raftctl(folder.path(), &["up"]).code(10).stderr;
    assert!(
        told.contains("127.0.0.1:1") && told.contains("`docker.image`"),
        "{told}"
    );
    let pull = format!("{} {absent}", quoted(&told, "docker pull"));
    let pulled = std::process::Command::new("sh")
        .args(["-c", &pull])
        .output()
        .unwrap();
    assert!(!pulled.status.success(), "{pulled:?}");
    let images = quoted(&told, "docker images");
    let here = format!("raftctl-test-{name}:here");
    docker(&["tag", BASE, &here]);
    by_hand(&format!(
        "{images} --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -qx {here}"
    ));
    configure(&here);
    let up = raftctl(folder.path(), &["up"]);
    raftctl(folder.path(), &["down", "--purge", "--yes"]).ok();
    docker(&["rmi", &here]);
    up.ok();
}

// A container of another's that has the name of one of ours is named; with it gone, the plan is made.
fn a_name_that_is_taken_is_told(cluster: &Containers) {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("taken{}", std::process::id());
    let yaml = format!("name: {name}\nprovider: docker\nnodes: 1\n");
    std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    let other = Bystander(format!("raftctl-{name}-1"));
    docker(&["create", "--name", &other.0, &cluster.image(), "true"]);
    let told = raftctl(folder.path(), &["plan"]);
    assert_ne!(told.code, 0, "{told:?}");
    let look = quoted(&told.stderr, "docker inspect ");
    assert_eq!(look, format!("docker inspect {}", other.0));
    by_hand(&look);
    drop(other);
    raftctl(folder.path(), &["plan"]).ok();
}

// A container whose folder is gone is an orphan. Those of a cluster.yaml of another name are none.
fn an_orphan_is_named(cluster: &Containers) {
    let orphan = Bystander(format!("raftctl-{}-orphan", cluster.name));
    let image = cluster.image();
    let labels = [
        "raftctl.cluster=x",
        "raftctl.folder=/nowhere",
        "raftctl.node=1",
    ];
    let labels = labels.map(|label| ["--label", label]).concat();
    let words = [
        &["create", "--name", &orphan.0][..],
        &labels,
        &[&image, "true"],
    ];
    docker(&words.concat());
    let other_name = cluster.folder.path().join("prod.yaml");
    std::fs::rename(cluster.file(), &other_name).unwrap();
    let doctor = cluster.raftctl(&["--config", other_name.to_str().unwrap(), "doctor"]);
    let advice = format!("docker rm --force --volumes {}", orphan.0);
    assert_eq!(quoted(&doctor.stdout, "docker rm "), advice);
    by_hand(&advice);
    let doctor = cluster.raftctl(&["--config", other_name.to_str().unwrap(), "doctor"]);
    std::fs::rename(&other_name, cluster.file()).unwrap();
    assert!(
        !doctor.stdout.contains("whose folder is gone"),
        "{doctor:?}"
    );
}

// Containers get other addresses when they are started in another order, and have none while they do
// not run. Their nodes go by names: nobody is refused or restarted for that.
fn addresses_of_containers_change(cluster: &Containers) {
    let container = |id: u64| cluster.container(id);
    let address = |id: u64| {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", format, &container(id)])
    };
    cluster.raftctl(&["set", "k", "v"]).ok();

    docker(&["stop", "--time", "1", &container(3)]);
    cluster.raftctl(&["restart", "2"]).ok();
    cluster.raftctl(&["start", "1"]).ok();
    let untouched = cluster.process(1);
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(plan.stdout.contains("start node 3 "), "{plan:?}");
    assert!(!plan.stdout.contains("stop "), "{plan:?}");
    let before = [2, 3].map(address);
    docker(&["stop", "--time", "1", &container(2)]);
    docker(&["start", &container(3)]);
    docker(&["start", &container(2)]);
    assert_ne!([2, 3].map(address), before);
    let up = cluster.raftctl(&["up"]).ok();
    assert!(
        up.stdout.contains(&format!("{}:7500", address(3))),
        "{up:?}"
    );
    assert_eq!(cluster.process(1), untouched, "it was not restarted");
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");

    let network = format!("raftctl-{}", cluster.name);
    docker(&["network", "disconnect", &network, &container(3)]);
    let up = cluster.raftctl(&["up"]).ok();
    assert!(
        up.stderr
            .contains("put the container of node 3 into the network"),
        "{up:?}"
    );
    let up = cluster.raftctl(&["up"]).ok();
    assert!(up.stderr.contains("nothing to do"), "{up:?}");
    assert_eq!(cluster.process(1), untouched, "it was not restarted");
}

// Trials bring nodes and take them away again, in containers that are made for them: a scenario, and chaos whose changes
// strike beside other faults. Nothing of them is left.
fn members_change_in_trials(cluster: &Containers) {
    let ids = || {
        let status = cluster.raftctl(&["status", "--output", "json"]).ok().json();
        status["membership"]["voters"].clone()
    };
    let before = ids();
    std::fs::write(cluster.folder.path().join("guests.yaml"), GUESTS).unwrap();
    cluster.raftctl(&["scenario", "run", "./guests.yaml"]).ok();
    assert_eq!((ids(), cluster.count()), (before.clone(), 3));
    had_changes(&cluster.raftctl(MEMBERS_AND_KILLS));
    assert_eq!((ids(), cluster.count()), (before, 3));
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    begin_anew(cluster);
}

// `down` asks, and then removes what was made, and nothing else: neither another container with a name
// like ours nor an image that someone else built.
fn down_removes_what_was_made_and_nothing_else(cluster: &Containers) {
    let bystander = Bystander(format!("raftctl-{}-bystander", cluster.name));
    let image = cluster.image();
    docker(&["create", "--name", &bystander.0, &image, "true"]);
    let is_ours = cluster.owner() == cluster.folder.path().to_str().unwrap();

    cluster.raftctl(&["down"]).code(2).says("say --yes");
    assert_eq!(cluster.count(), 3);
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert_eq!(cluster.count(), 0);
    assert_eq!(
        docker(&["inspect", "--format", "{{.Name}}", &bystander.0]),
        format!("/{}", bystander.0)
    );
    let label = cluster.label();
    let networks = docker(&["network", "ls", "--quiet", "--filter", &label]);
    assert_eq!(networks, "");
    // Now nobody needs the image any more. One that someone else built stays.
    drop(bystander);
    let down = cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    let removed = format!("removed image {image}");
    assert_eq!(down.stderr.contains(&removed), is_ours, "{down:?}");
    cluster.raftctl(&["up"]).ok();
}

// `down --purge` removes the image that the cluster had built, not one that another did. A cluster of
// the same name in another folder is left alone, and named.
fn what_others_made_stays() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("others{}", std::process::id());
    let base = format!("raftctl-test-{name}");
    let yaml = format!("name: {name}\nprovider: docker\nnodes: 1\ndocker: {{image: {base}}}\n");
    std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    let raftctl = |arguments: &[&str]| raftctl(folder.path(), arguments);
    let plan = raftctl(&["plan"]).ok().stdout;
    let image = plan.split_once("build image ").unwrap().1;
    let image = image.split(' ').next().unwrap();

    // An empty archive is an image, too.
    let empty = folder.path().join("image.tar");
    std::fs::write(&empty, [0; 1024]).unwrap();
    let cluster = format!("raftctl.cluster={name}");
    let import = |folder: &str| {
        let change = format!("LABEL {cluster} raftctl.folder={folder}");
        docker(&[
            "import",
            "--change",
            &change,
            empty.to_str().unwrap(),
            image,
        ]);
    };
    import("/elsewhere");
    let container = format!("raftctl-{name}-1");
    let words = ["create", "--name", &container, "--label", &cluster];
    let words = [
        &words[..],
        &["--label", "raftctl.folder=/elsewhere", image, "true"],
    ]
    .concat();
    docker(&words);
    let down = raftctl(&["down", "--purge", "--yes"]).ok();
    docker(&["rm", &container]);
    assert!(down.stdout.contains("is not there"), "{down:?}");
    assert!(
        down.stderr.contains("left alone: that of /elsewhere"),
        "{down:?}"
    );

    let has_image = || !docker(&["images", "--quiet", image]).is_empty();
    assert!(has_image());
    docker(&["image", "rm", image]);
    import(folder.path().to_str().unwrap());
    raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(!has_image());
}
