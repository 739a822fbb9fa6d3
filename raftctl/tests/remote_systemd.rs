//! A cluster on hosts with systemd.

mod support;
// Each test file uses its own part of them.
#[allow(dead_code)]
#[path = "support/testcontainers.rs"]
mod testcontainers;
#[allow(dead_code)]
#[path = "support/testhosts.rs"]
mod testhosts;

use std::path::Path;
use std::time::Instant;

use support::{PATIENCE, raftctl};
use testcontainers::TestContainers;

/// A cluster.yaml of these hosts.
fn configure(folder: &Path, set: &TestContainers) {
    let mut text = format!(
        "name: test\nprovider: ssh\nssh: {{user: root, identity_file: {}}}\nnodes:\n",
        set.key().display()
    );
    for (at, address) in set.addresses.iter().enumerate() {
        text.push_str(&format!("  - {{id: {}, host: {address}}}\n", at + 1));
    }
    std::fs::write(folder.join("cluster.yaml"), text).unwrap();
}

// systemd looks after the nodes: they run as a user of their own, are told ready, come back when
// they fail, and stay dead when an operator kills them. `down --purge` leaves no unit behind.
#[test]
fn systemd_looks_after_nodes() {
    let Some(set) = TestContainers::start(3) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &set);
    let must = |at: usize, script: &str| set.must_run(at, script);
    let eventually = |what: &str, is_so: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < PATIENCE, "never: {what}");
        }
    };

    raftctl(folder.path(), &["up"]).ok();
    let show = "systemctl show --property ActiveState --value raftkv-test-1";
    eventually("told ready", &|| must(0, show) == "active");
    let owner = "stat -c %U /proc/$(sed -n s/^pid=//p /opt/raftkv/test/run/node_1.pid)";
    assert_eq!(must(0, owner), "raftkv");
    let confined = "systemctl show raftkv-test-1 -p Type -p NoNewPrivileges -p ProtectSystem \
                    -p CapabilityBoundingSet | sort | tr '\\n' ' '";
    assert_eq!(
        must(0, confined),
        "CapabilityBoundingSet= NoNewPrivileges=yes ProtectSystem=strict Type=notify"
    );
    raftctl(folder.path(), &["up"]).ok().says("nothing to do");

    // A crash: systemd starts the node again, and raftctl knows the new process.
    let pid = "sed -n s/^pid=//p /opt/raftkv/test/run/node_1.pid";
    let first = must(0, pid);
    must(0, &format!("kill -ABRT {first}"));
    eventually("started again", &|| {
        must(0, pid) != first && must(0, show) == "active"
    });
    raftctl(folder.path(), &["up"]).ok();

    // A kill: dead until told otherwise, however often systemd would try.
    raftctl(folder.path(), &["kill", "1"]).ok();
    eventually("given up", &|| {
        must(0, show) != "active" && must(0, show) != "activating"
    });
    assert!(!set.run(0, &format!("kill -0 $({pid})")).status.success());
    eventually("called stopped", &|| {
        let status = raftctl(folder.path(), &["status", "--output", "json"]).ok();
        status.json()["nodes"][0]["process"] == "stopped"
    });
    raftctl(folder.path(), &["restart", "1"]).ok();
    raftctl(folder.path(), &["restart", "all"]).ok();
    // Nor is one started that systemd was about to start again.
    eventually("told ready", &|| must(0, show) == "active");
    must(0, &format!("kill -9 $({pid})"));
    raftctl(folder.path(), &["kill", "1"]).ok();
    assert_eq!(must(0, show), "inactive");
    raftctl(folder.path(), &["up"]).ok();

    // A freeze is no failure, and a boot starts what was not ended by an operator.
    raftctl(folder.path(), &["pause", "2"]).ok();
    assert_eq!(must(1, "systemctl is-active raftkv-test-2"), "active");
    raftctl(folder.path(), &["resume", "2"]).ok();
    raftctl(folder.path(), &["stop", "3"]).ok();
    set.reboot(1);
    set.reboot(2);
    eventually("started at boot", &|| {
        set.run(1, "systemctl is-active raftkv-test-2")
            .status
            .success()
    });
    assert!(
        !set.run(2, "systemctl is-active raftkv-test-3")
            .status
            .success()
    );
    raftctl(folder.path(), &["up"]).ok();

    // A log that disappears under a node is missed by systemd, too.
    must(
        2,
        "rm /opt/raftkv/test/logs_node_3/logs.txt; kill -9 $(sed -n s/^pid=//p /opt/raftkv/test/run/node_3.pid)",
    );
    eventually("given up", &|| {
        set.run(2, "systemctl is-failed raftkv-test-3")
            .status
            .success()
    });
    assert!(
        !set.run(2, "ls /opt/raftkv/test/logs_node_3/logs.txt")
            .status
            .success()
    );
    raftctl(folder.path(), &["start", "3"])
        .code(2)
        .says("the log of node 3 is gone");

    raftctl(folder.path(), &["down", "--purge", "--yes"]).ok();
    for at in 0..3 {
        assert!(
            !set.run(at, "ls /etc/systemd/system/raftkv-*")
                .status
                .success()
        );
        assert!(!set.run(at, "ls -d /opt/raftkv").status.success());
        assert!(!set.run(at, "id raftkv").status.success());
    }
}

// Whatever umask root logs in with: the nodes' user reads what it runs, nobody else reads its data,
// and what was made under a strict umask before is opened to it.
#[test]
fn a_strict_umask_keeps_no_node_out() {
    let Some(set) = TestContainers::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &set);
    set.must_run(0, "echo umask 077 >/root/.bashrc");
    let umask = raftctl(folder.path(), &["exec", "1", "--", "umask"]).ok();
    assert_eq!(umask.stdout, "node 1: 0077\n");
    raftctl(folder.path(), &["up"]).ok();
    set.must_run(
        0,
        "runuser -u raftkv cat /opt/raftkv/test/bin/current/sha256",
    );
    let modes = "cd /opt/raftkv/test/logs_node_1 && stat -c %a . logs.txt | xargs";
    assert_eq!(set.must_run(0, modes), "750 640");

    raftctl(folder.path(), &["stop", "1"]).ok();
    set.must_run(
        0,
        "chmod -R go= /opt/raftkv/test/bin; chmod 700 /opt/raftkv /opt/raftkv/test",
    );
    raftctl(folder.path(), &["start", "1"]).ok();
    raftctl(folder.path(), &["set", "k", "v"]).ok();
}

// A node that systemd can't start says why, is not tried again in vain, and what is said to mend it
// does.
#[test]
fn a_node_without_its_binary_says_so() {
    let Some(set) = TestContainers::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &set);
    raftctl(folder.path(), &["up"]).ok();
    for (gone, cause) in [
        ("raft-node", "raft-node is not there"),
        ("sha256", "its release is not whole"),
    ] {
        raftctl(folder.path(), &["stop", "1"]).ok();
        set.must_run(0, &format!("rm /opt/raftkv/test/bin/releases/*/{gone}"));
        let start = raftctl(folder.path(), &["start", "1"]).says(cause);
        assert!(start.stderr.contains("`raftctl up` brings it"), "{start:?}");
        let tries = "systemctl show raftkv-test-1 -p NRestarts --value";
        assert_eq!(set.must_run(0, tries), "0");
        raftctl(folder.path(), &["up"]).ok();
    }
}

// Whoever has taken over a node has the rights of its user and no others: root neither writes where
// a link of that user leads, nor ends another's process that its pid file names.
#[test]
fn root_is_not_led_astray_by_a_node() {
    let Some(set) = TestContainers::start(1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &set);
    raftctl(folder.path(), &["up"]).ok();
    let run = "cd /opt/raftkv/test/run";
    let must = |script: &str| set.must_run(0, &format!("{run} && {script}"));
    let as_node = |script: &str| must(&format!("runuser -u raftkv -- sh -c '{script}'"));

    // An earlier version gave all of the folder to that user.
    must("chown -R raftkv: . && chmod 755 .");
    let links = "for name in args.new launch.new pid.new log held; do \
                   rm -f node_1.$name; ln -s /etc/kept node_1.$name || exit 1; \
                 done; rm -f starting; ln -s /etc/kept starting";
    must("echo untouched >/etc/kept");
    as_node(links);
    raftctl(folder.path(), &["kill", "1"]).ok();
    as_node(links);
    raftctl(folder.path(), &["start", "1"]).ok();
    assert_eq!(must("cat /etc/kept"), "untouched");
    assert_eq!(must("stat -c \"%U %a\" ."), "root 1775");
    let owners = "stat -c %U node_1.args node_1.launch node_1.data | xargs";
    assert_eq!(must(owners), "root root root");

    // Nothing of root's can be taken away any more, and links still lead nowhere.
    as_node("! rm -f node_1.args 2>/dev/null && ! mv node_1.data x 2>/dev/null");
    as_node("for name in args.new launch.new held; do ln -sf /etc/kept node_1.$name; done");
    raftctl(folder.path(), &["restart", "1"]).ok();
    raftctl(folder.path(), &["kill", "1"]).ok();
    raftctl(folder.path(), &["start", "1"]).ok();
    assert_eq!(must("cat /etc/kept"), "untouched");

    must("systemd-run --quiet --unit other sleep 1000");
    let other = must("systemctl show other -p MainPID --value");
    let forged = must(&format!(
        "echo pid={other} start=$(cut -d \" \" -f 22 /proc/{other}/stat) \
         boot=$(cat /proc/sys/kernel/random/boot_id) executable=$(readlink /proc/{other}/exe)"
    ));
    as_node(&format!("printf \"%s\\n\" {forged} >node_1.pid"));
    // systemd knows its own: the node ends, whatever the file says, and nobody else.
    raftctl(folder.path(), &["kill", "1"]).ok();
    must(&format!("kill -0 {other}"));
    let state = must("systemctl show --property ActiveState --value raftkv-test-1");
    assert_eq!(state, "inactive");
    raftctl(folder.path(), &["up"]).ok();
}
