//! Ways to a host, and the rights that a login has there: those that come, go or are missing, jump
//! hosts, programs that are not quite as everywhere.

use crate::cluster::{RemoteCluster, left_behind};
use crate::support::{raftctl, replace_file};
use harness::{Test, tests};
use testhosts::{HOSTS, PLAIN, ROOT, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!(
        [HOSTS],
        rights_that_go_are_missed,
        a_home_is_not_left_for_new_rights,
        another_login_s_nodes_are_not_called_stopped,
        a_jump_host_is_gone_through,
        odd_programs_are_no_obstacle
    )
}

// Rights that are missing are told, and a cluster stays where it is when they come or go.
fn rights_that_go_are_missed() {
    let cluster = RemoteCluster::new(3, WITH_SUDO);
    let sudoers = "/etc/sudoers.d/testhost";
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.set.hosts[0].must_run(&format!("mv {sudoers} /root/kept"));
    let up = cluster.raftctl(&["up"]).code(3);
    left_behind(
        &up,
        1,
        "sudo: a password is required; let the login use sudo without a password",
    );
    // Nothing is remembered: the host itself tells.
    std::fs::remove_file(cluster.path(".raftctl/test/hosts.json")).unwrap();
    let up = cluster.raftctl(&["up"]).code(3);
    left_behind(
        &up,
        1,
        "the cluster lives in /opt/raftkv/test there, which needs root: sudo:",
    );
    cluster.set.hosts[0].must_run(&format!("mv /root/kept {sudoers}"));
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// The other way round: a cluster below a home stays there when the login may use sudo later on.
fn a_home_is_not_left_for_new_rights() {
    let cluster = RemoteCluster::new(1, PLAIN);
    let up = cluster.raftctl(&["up"]).ok();
    assert!(
        up.stderr
            .contains("no root there (sudo: a password is required)"),
        "{up:?}"
    );
    assert!(up.stderr.contains("/home/plain/.raftkv/test"), "{up:?}");
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.set.hosts[0].must_run("echo 'plain ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/plain");
    std::fs::remove_file(cluster.path(".raftctl/test/hosts.json")).unwrap();
    cluster.raftctl(&["restart", "1"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    assert!(!cluster.set.hosts[0].run("ls /opt/raftkv").status.success());
}

// A cluster that lives below another login's home is not called stopped, let alone deleted.
fn another_login_s_nodes_are_not_called_stopped() {
    let cluster = RemoteCluster::new(1, PLAIN);
    cluster.raftctl(&["up"]).ok();
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.share(elsewhere.path(), ROOT, "");
    for verb in [
        &["stop", "1"][..],
        &["kill", "1"],
        &["down", "--purge", "--yes"],
    ] {
        raftctl(elsewhere.path(), verb)
            .code(20)
            .says("was not started from this folder, or by this login");
    }
    cluster.until(1, "role", "leader");
    cluster.raftctl(&["down"]).ok();
    cluster.raftctl(&["down"]).ok();
}

// `ssh.jump` leads through another host, with the key of cluster.yaml for both.
fn a_jump_host_is_gone_through() {
    let cluster = RemoteCluster::new(2, ROOT);
    let (near, far) = (&cluster.set.hosts[0], &cluster.set.hosts[1]);
    let yaml = format!(
        "name: test\nprovider: ssh\n\
         ssh: {{user: root, identity_file: {}, jump: \"{WITH_SUDO}@{}\"}}\n\
         nodes: [{{id: 1, host: {}}}]\n",
        cluster.set.key().display(),
        near.address,
        far.address
    );
    replace_file(cluster.path("cluster.yaml"), &yaml);
    // As a host in a network of its own: from here there is no other way in.
    far.must_run(&format!(
        "nft 'table inet far {{ chain input {{ type filter hook input priority 0; iif lo accept; \
         ip saddr != {} tcp flags & (syn | ack) == syn drop; }}; }}'",
        near.address
    ));
    cluster.raftctl(&["up"]).ok();
    let from = cluster
        .raftctl(&["exec", "1", "--", "echo $SSH_CONNECTION"])
        .ok();
    assert!(
        from.stdout
            .starts_with(&format!("node 1: {} ", near.address)),
        "{from:?}"
    );
    cluster.raftctl(&["set", "k", "v"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    assert_eq!(cluster.status()["leader"], 1);
    cluster.raftctl(&["restart", "leader"]).ok();
    cluster
        .raftctl(&["bench", "--clients", "33"])
        .code(2)
        .says("--clients: at most 32 where nodes are reached through ssh");

    // What is wrong with the jump host is told in ssh's own words.
    let unknown = testhosts::unknown_name();
    let elsewhere = yaml.replace(&near.address.to_string(), &unknown);
    replace_file(cluster.path("cluster.yaml"), elsewhere);
    cluster
        .raftctl(&["exec", "1", "--", "true"])
        .code(10)
        .says(&format!("Could not resolve hostname {unknown}"))
        .says("`ssh.jump`");
}

// sudo may have something to say before it obeys, and not every flock waits for a time: a host where
// both are so is like any other, and what fails there is told in its own words and done once.
fn odd_programs_are_no_obstacle() {
    let cluster = RemoteCluster::new(1, WITH_SUDO);
    let host = &cluster.set.hosts[0];
    for (program, script) in [
        (
            "sudo",
            "echo 'sudo: unable to resolve host n1: Name or service not known' >&2\n\
             exec /usr/bin/sudo \"$@\"",
        ),
        (
            "flock",
            "case \" $* \" in *' -w '*) echo 'flock: invalid option -- w' >&2; exit 1 ;; esac\n\
             exec /usr/bin/flock \"$@\"",
        ),
    ] {
        host.must_run(&format!(
            "cat >/usr/local/bin/{program} <<'END'\n#!/bin/sh\n{script}\nEND\n\
             chmod 755 /usr/local/bin/{program}"
        ));
    }
    cluster.raftctl(&["up"]).ok();
    let fails = "echo done >>/root/done; echo own words >&2; exit 1";
    cluster
        .raftctl(&["exec", "1", "--", fails])
        .code(20)
        .says("own words");
    assert_eq!(host.must_run("cat /root/done"), "done");
    // It is the refusal that is told where sudo does not obey any more.
    host.must_run("mv /etc/sudoers.d/testhost /root/kept");
    cluster
        .raftctl(&["exec", "1", "--", "true"])
        .code(10)
        .says("sudo: a password is required; let the login use sudo");
}
