//! A cluster in containers that raftctl makes, on the real engine.

mod support;
// Each test file uses its own part of them.
#[allow(dead_code)]
#[path = "support/testcontainers.rs"]
mod testcontainers;
#[allow(dead_code)]
#[path = "support/testhosts.rs"]
mod testhosts;

use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use support::raftctl;
use testcontainers::{docker, missing};
use testhosts::left_out;

/// The image from the bundled Dockerfile has one name for all clusters: whose it is depends on who
/// builds it, so one test at a time may.
fn bundled_image() -> MutexGuard<'static, ()> {
    static IMAGE: Mutex<()> = Mutex::new(());
    // A test that failed has said so.
    IMAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what a failed test leaves.
struct Cleanup<'a>(&'a std::path::Path, &'a str);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::process::Command::new("docker")
                .args(["rm", "--force", self.1])
                .output();
        }
        let down = raftctl(self.0, &["down", "--purge", "--yes"]);
        assert!(std::thread::panicking() || down.code == 0, "{down:?}");
    }
}

// From nothing to a leader: image from the bundled Dockerfile, network, containers, and then the
// path of any hosts. Again, and nothing is left to do. A partition by packet filter works inside.
// A container that was stopped is started again; one that was removed is missed, and so is one whose
// node left cluster.yaml. `down` removes what was made, and nothing else.
#[test]
fn a_cluster_lives_in_containers() {
    if let Some(why) = missing() {
        return left_out(&why);
    }
    let _image = bundled_image();
    let folder = tempfile::tempdir().unwrap();
    let name = format!("test{}", std::process::id());
    let yaml = format!("name: {name}\nprovider: docker\nnodes: 3\n");
    let file = folder.path().join("cluster.yaml");
    std::fs::write(&file, &yaml).unwrap();
    let raftctl = |arguments: &[&str]| raftctl(folder.path(), arguments);

    let down = raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(down.stdout.contains("is not there"), "{down:?}");
    // The image is built anew, unless someone else built it before.
    let format = "{{.Repository}}:{{.Tag}}";
    let images = docker(&["images", "--format", format, "raftctl-host"]);
    let plan = raftctl(&["plan"]).ok();
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
    let label = format!("label=raftctl.cluster={name}");
    // Whatever is made from the image has its labels, but for that of the node.
    let count = || {
        let filters = ["--filter", &label, "--filter", "label=raftctl.node"];
        let words = [&["ps", "--all", "--quiet"][..], &filters].concat();
        docker(&words).lines().count()
    };
    assert_eq!(count(), 0, "a plan makes nothing");

    // Another container with a name like ours is none of our business.
    let bystander = format!("raftctl-{name}-bystander");
    let cleanup = Cleanup(folder.path(), &bystander);
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
    raftctl(&["partition", "1|2,3", "--packet-filter", "--for", "50s"]).ok();
    let tables = || {
        raftctl(&["exec", "1", "--", "nft list tables | grep raftkv; hostname"])
            .ok()
            .stdout
    };
    assert!(tables().contains("table inet raftkv_"), "{}", tables());
    raftctl(&["heal"]).ok();
    assert_eq!(tables(), "node 1: n1\n");
    raftctl(&["pause", "followers"]).ok();
    raftctl(&["resume", "all"]).ok();
    raftctl(&["logs", "--all", "--into", "got"]).ok();
    let log = std::fs::read_to_string(folder.path().join("got/logs_node_3/logs.txt")).unwrap();
    assert!(log.contains("\nSET k v "), "{log}");

    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let mut other = std::fs::read(own).unwrap();
    other.extend(b"another");
    let binary = folder.path().join("raft-node");
    std::fs::write(&binary, other).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&file, format!("{yaml}binary: ./raft-node\n")).unwrap();
    let upgrade = raftctl(&["upgrade"]).ok();
    assert_eq!(
        upgrade.stdout.matches(" upgraded").count(),
        3,
        "{upgrade:?}"
    );

    docker(&["stop", "--time", "1", &first]);
    let stopped = raftctl(&["status"]).ok();
    let note = format!("{first}: cannot be reached: the container does not run; `raftctl up`");
    assert!(stopped.stdout.contains(&note), "{stopped:?}");
    raftctl(&["up"]).ok();
    assert_eq!(raftctl(&["get", "k"]).ok().stdout, "v\n");

    // Fewer nodes: nothing is removed, since the others hold what was acknowledged.
    let fewer = yaml.replace("nodes: 3", "nodes: 1");
    std::fs::write(&file, fewer).unwrap();
    for verb in ["plan", "up"] {
        raftctl(&[verb])
            .code(2)
            .says("nodes that are not in cluster.yaml");
    }
    std::fs::write(&file, &yaml).unwrap();
    assert_eq!(count(), 3);

    // A container that is gone took a log with it: the others serve, and nobody begins with
    // nothing in its place without being told to.
    let third = format!("raftctl-{name}-3");
    docker(&["rm", "--force", &third]);
    let status = raftctl(&["status"]).ok();
    assert!(
        status.stdout.contains("there is no such container"),
        "{status:?}"
    );
    assert_eq!(raftctl(&["get", "k"]).ok().stdout, "v\n");
    let up = raftctl(&["up"]).code(3);
    assert!(up.stderr.contains("the log of node 3 is gone"), "{up:?}");
    raftctl(&["up", "--allow-data-loss"]).ok();
    raftctl(&["up"]).ok().says("nothing to do");

    // A container whose folder is gone is an orphan. Those of a cluster.yaml of another name are none.
    let folder_label = "raftctl.folder=/nowhere";
    let orphan = format!("raftctl-{name}-orphan");
    let words = [
        "create",
        "--name",
        &orphan,
        "--label",
        "raftctl.cluster=x",
        "--label",
        folder_label,
        "--label",
        "raftctl.node=1",
    ];
    docker(&[&words[..], &[&image, "true"]].concat());
    let other_name = folder.path().join("prod.yaml");
    std::fs::rename(&file, &other_name).unwrap();
    let doctor = raftctl(&["--config", other_name.to_str().unwrap(), "doctor"]);
    std::fs::rename(&other_name, &file).unwrap();
    docker(&["rm", &orphan]);
    let advice = format!("`docker rm --force --volumes {orphan}`");
    assert!(doctor.stdout.contains(&advice), "{doctor:?}");

    raftctl(&["down"]).code(2).says("say --yes");
    drop(cleanup);
    assert_eq!(count(), 0);
    assert_eq!(
        docker(&["inspect", "--format", "{{.Name}}", &bystander]),
        format!("/{bystander}")
    );
    docker(&["rm", &bystander]);
    // Now nobody needs the image any more. One that someone else built stays.
    let down = raftctl(&["down", "--purge", "--yes"]).ok();
    let removed = format!("removed image {image}");
    assert_eq!(down.stderr.contains(&removed), built.is_some(), "{down:?}");
    let networks = docker(&["network", "ls", "--quiet", "--filter", label.as_str()]);
    assert_eq!(networks, "");
}

// Containers get other addresses when they are started in another order, and have none while they do
// not run. Their nodes go by names: nobody is refused or restarted for that.
#[test]
fn addresses_of_containers_change() {
    if let Some(why) = missing() {
        return left_out(&why);
    }
    let _image = bundled_image();
    let folder = tempfile::tempdir().unwrap();
    let name = format!("moves{}", std::process::id());
    let yaml = format!("name: {name}\nprovider: docker\nnodes: 3\n");
    std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    let raftctl = |arguments: &[&str]| raftctl(folder.path(), arguments);
    let _cleanup = Cleanup(folder.path(), "nobody");
    let container = |id: u64| format!("raftctl-{name}-{id}");
    let address = |id: u64| {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", format, &container(id)])
    };
    let process = |id: u64| {
        let file = format!("/opt/raftkv/{name}/run/node_{id}.pid");
        docker(&["exec", &container(id), "cat", &file])
    };
    raftctl(&["up"]).ok();
    raftctl(&["set", "k", "v"]).ok();

    docker(&["stop", "--time", "1", &container(3)]);
    raftctl(&["restart", "2"]).ok();
    raftctl(&["start", "1"]).ok();
    let untouched = process(1);
    let plan = raftctl(&["plan"]).ok();
    assert!(plan.stdout.contains("start node 3 "), "{plan:?}");
    assert!(!plan.stdout.contains("stop "), "{plan:?}");
    let before = [2, 3].map(address);
    docker(&["stop", "--time", "1", &container(2)]);
    docker(&["start", &container(3)]);
    docker(&["start", &container(2)]);
    assert_ne!([2, 3].map(address), before);
    let up = raftctl(&["up"]).ok();
    assert!(
        up.stdout.contains(&format!("{}:7500", address(3))),
        "{up:?}"
    );
    assert_eq!(process(1), untouched, "it was not restarted");
    assert_eq!(raftctl(&["get", "k"]).ok().stdout, "v\n");

    let network = format!("raftctl-{name}");
    docker(&["network", "disconnect", &network, &container(3)]);
    let up = raftctl(&["up"]).code(3);
    assert!(up.stderr.contains("docker network connect"), "{up:?}");
    docker(&["network", "connect", &network, &container(3)]);
    raftctl(&["up"]).ok();
    assert_eq!(process(1), untouched, "it was not restarted");
}

// `down --purge` removes the image that the cluster had built, not one that another did. A cluster of
// the same name in another folder is left alone, and named.
#[test]
fn what_others_made_stays() {
    if let Some(why) = missing() {
        return left_out(&why);
    }
    let _image = bundled_image();
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
