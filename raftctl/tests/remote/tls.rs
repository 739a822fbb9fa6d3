//! TLS on hosts of their own: keys are made there and stay there, and everything goes on as without.

use harness::{Test, tests};
use std::fs;
use std::path::Path;

use crate::cluster::RemoteCluster;
use crate::support::raftctl;
use testhosts::containers::{CONTAINERS, TestContainers};
use testhosts::{HOSTS, ROOT, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    let mut tests = tests!([HOSTS], hosts_keep_their_keys, hosts_go_over_to_tls);
    tests.extend(tests!([HOSTS], a_colleague_connects));
    tests.extend(tests!([CONTAINERS], units_speak_tls));
    tests
}

/// Whether any file below a folder holds this text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, text),
            false => {
                fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
            }
        }
    })
}

// Each host makes its node's key, for the node alone to read, and this machine never sees it; certificates
// are renewed and the authority changed without a restart.
fn hosts_keep_their_keys() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.configure("tls: on");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    let base = "/opt/raftkv/test";
    for (host, id) in cluster.set.hosts.iter().zip(1..) {
        let key = format!("{base}/tls_node_{id}/node.key");
        assert_eq!(host.must_run(&format!("stat -c %a {key}")), "600");
        let secret = host.must_run(&format!("sed -n 2p {key}"));
        assert!(secret.len() > 30, "{secret}");
        assert!(!holds(cluster.folder(), &secret), "node {id}'s key is here");
        let arguments = host.must_run(&format!("cat {base}/run/node_{id}.args"));
        assert!(arguments.contains(&format!("--tls\n{base}/tls_node_{id}")));
    }
    let pid = || cluster.set.hosts[0].must_run(&format!("sed -n s/^pid=//p {base}/run/node_1.pid"));
    let before = pid();
    cluster.raftctl(&["certs", "renew"]).ok();
    cluster.raftctl(&["certs", "rotate"]).ok();
    cluster.raftctl(&["certs", "rotate", "--finish"]).ok();
    assert_eq!(pid(), before);
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    cluster.raftctl(&["kill", "leader"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["restart", "all"]).ok();
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    for host in &cluster.set.hosts {
        let left = host.must_run(&format!("ls -d {base}/tls_* 2>/dev/null || echo none"));
        assert_eq!(left, "none");
    }
}

// Where raftctl is not root it goes the same way, from clear text by way of both.
fn hosts_go_over_to_tls() {
    let cluster = RemoteCluster::new(3, WITH_SUDO);
    let reminder = "the nodes speak clear text, and whoever reaches their ports may do everything";
    cluster.configure("tls: off");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["check"]).ok().says(reminder);
    let status = cluster.raftctl(&["status"]).ok().stdout;
    assert!(status.contains(reminder), "{status}");
    cluster.raftctl(&["set", "k", "v"]).ok();
    // A file without the word means TLS, and yet nobody's `up` changes what was started in clear text.
    cluster.configure("# tls: not said");
    for verb in [&["plan"][..], &["up"], &["restart", "1"]] {
        cluster
            .raftctl(verb)
            .code(2)
            .says(
                "nodes 1, 2 and 3 speak in clear text so far, and cluster.yaml does not say `tls`",
            )
            .says("write `tls: off` to go on so");
    }
    cluster.configure("tls: off");
    cluster.raftctl(&["up"]).ok().says("nothing to do");
    for word in ["both", "on"] {
        cluster.configure(&format!("tls: {word}"));
        let plan = cluster.raftctl(&["plan"]).ok().stdout;
        assert_eq!(plan.matches("restart node").count(), 3, "{plan}");
        cluster.raftctl(&["up"]).ok();
        assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    }
    let ssl = cluster.status()["nodes"][0]["tls"].clone();
    assert_eq!(ssl["clear_too"], false, "{ssl}");
}

// A colleague has cluster.yaml and a login on the hosts, and not the authority: with a certificate that was issued where
// that is, everything works that needs no other certificate; what needs one says where to go, and changes nothing.
fn a_colleague_connects() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    let folder = tempfile::tempdir().unwrap();
    cluster.write(folder.path(), ROOT, "");
    let colleague = |arguments: &[&str]| raftctl(folder.path(), arguments);
    for verb in [&["up"][..], &["plan"], &["restart", "1"]] {
        colleague(verb).code(2).says("`raftctl certs use`");
    }
    assert!(
        !folder.path().join(".raftctl/test/tls").exists(),
        "no other authority is made"
    );
    let issue = ["certs", "issue", "--role", "admin", "--into"];
    let certs = tempfile::tempdir().unwrap();
    let into = certs.path().to_str().unwrap();
    cluster.raftctl(&[&issue[..], &[into, "al"]].concat()).ok();
    let own = certs.path().join("al.pem");
    colleague(&["certs", "use", own.to_str().unwrap()]).ok();
    assert_eq!(colleague(&["get", "k"]).ok().stdout, "v\n");
    colleague(&["up"]).ok().says("nothing to do");
    colleague(&["kill", "1"]).ok();
    assert!(colleague(&["plan"]).ok().stdout.contains("1. start node 1"));
    colleague(&["up"]).ok();
    colleague(&["restart", "all"]).ok();
    // The certificate of a node is gone: another one is made where the authority is.
    cluster.set.hosts[0].must_run("rm /opt/raftkv/test/tls_node_1/node.pem");
    colleague(&["restart", "1"])
        .code(2)
        .says("certificates are made where the cluster was brought up first");
    assert_eq!(cluster.of_node(1, "process"), "running");
    cluster
        .raftctl(&["up"])
        .ok()
        .says("give node 1 a certificate (none yet)");
    colleague(&["restart", "1"]).ok();
    assert!(!folder.path().join(".raftctl/test/tls/ca.key").exists());
}

// With systemd the key is the nodes' user's, in a folder that is root's.
fn units_speak_tls() {
    let set = TestContainers::start(3);
    let folder = tempfile::tempdir().unwrap();
    crate::systemd::configure(folder.path(), &set);
    let raftctl = |arguments: &[&str]| raftctl(folder.path(), arguments);
    raftctl(&["up"]).ok();
    raftctl(&["set", "k", "v"]).ok();
    let tls = "/opt/raftkv/test/tls_node_1";
    let stat = |path: &str| set.must_run(0, &format!("stat -c '%U %a' {path}"));
    assert_eq!(stat(&format!("{tls}/node.key")), "raftkv 600");
    assert_eq!(stat(tls), "root 750");
    raftctl(&["certs", "renew"]).ok();
    raftctl(&["restart", "all"]).ok();
    assert_eq!(stat(&format!("{tls}/node.key")), "raftkv 600");
    assert_eq!(raftctl(&["get", "k"]).ok().stdout, "v\n");
    raftctl(&["down", "--purge", "--yes"]).ok();
    assert_eq!(
        set.must_run(0, &format!("ls -d {tls} 2>/dev/null || echo none")),
        "none"
    );
}
