//! A cluster on hosts with systemd.

use harness::{Shared, Test, stories, tests};
use std::path::Path;
use std::time::Instant;

use crate::support::{Ended, PATIENCE, raftctl};
use testhosts::containers::{CONTAINERS, TestContainers};

/// Three hosts with a cluster that is up: each story leaves it as it found it.
pub static CLUSTER: Shared<Units> = Shared::new(Units::up);

pub fn tests() -> Vec<Test> {
    let mut tests = stories!(
        [CONTAINERS],
        &CLUSTER,
        nodes_are_confined_and_tell_when_they_are_ready,
        the_sandbox_has_a_good_mark,
        a_crashed_node_is_started_again,
        a_killed_node_is_dead_until_told,
        a_kill_forestalls_a_new_try,
        a_stuck_node_is_started_again_and_a_frozen_one_is_not,
        the_journal_has_events_by_their_fields,
        a_boot_starts_what_nobody_ended,
        a_lost_log_is_missed_by_systemd,
        purge_leaves_no_unit_behind
    );
    tests.extend(tests!(
        [CONTAINERS],
        a_strict_umask_keeps_no_node_out,
        a_node_without_its_binary_says_so,
        root_is_not_led_astray_by_a_node
    ));
    tests
}

/// The state of node 1's unit.
const SHOW: &str = "systemctl show --property ActiveState --value raftkv-test-1";
/// The process of node 1.
const PID: &str = "sed -n s/^pid=//p /opt/raftkv/test/run/node_1.pid";

/// Containers with systemd, and an operator's folder.
pub struct Units {
    set: TestContainers,
    folder: tempfile::TempDir,
}

impl Units {
    fn up() -> Self {
        let units = Units {
            set: TestContainers::start(3),
            folder: tempfile::tempdir().unwrap(),
        };
        configure(units.folder.path(), &units.set);
        units.raftctl(&["up"]).ok();
        units
    }

    fn raftctl(&self, arguments: &[&str]) -> Ended {
        raftctl(self.folder.path(), arguments)
    }

    /// Waits until node 1 has said that it is ready.
    #[track_caller]
    fn until_ready(&self) {
        eventually("told ready", || self.set.must_run(0, SHOW) == "active");
    }
}

/// Waits until something is so.
#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
    }
}

/// A cluster.yaml of these hosts.
pub fn configure(folder: &Path, set: &TestContainers) {
    let mut text = format!(
        "name: test\nprovider: ssh\ntls: on\nssh: {{user: root, identity_file: {}}}\nnodes:\n",
        set.key().display()
    );
    for (at, address) in set.addresses.iter().enumerate() {
        text.push_str(&format!("  - {{id: {}, host: {address}}}\n", at + 1));
    }
    std::fs::write(folder.join("cluster.yaml"), text).unwrap();
}

// Nodes run as a user of their own, confined, and tell when they are ready.
fn nodes_are_confined_and_tell_when_they_are_ready(cluster: &Units) {
    cluster.until_ready();
    let owner = "stat -c %U /proc/$(sed -n s/^pid=//p /opt/raftkv/test/run/node_1.pid)";
    assert_eq!(cluster.set.must_run(0, owner), "raftkv");
    let confined = "systemctl show raftkv-test-1 -p Type -p NoNewPrivileges -p ProtectSystem \
                    -p CapabilityBoundingSet | sort | tr '\\n' ' '";
    assert_eq!(
        cluster.set.must_run(0, confined),
        "CapabilityBoundingSet= NoNewPrivileges=yes ProtectSystem=strict Type=notify"
    );
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}

/// The worst mark that the sandbox may get, from 0 (nothing can be done) to 10 (everything).
const EXPOSURE_MAX: f64 = 2.0;

// systemd's own judge gives the sandbox a good mark, the one that the page on security tells.
fn the_sandbox_has_a_good_mark(cluster: &Units) {
    let judge = "systemd-analyze security --no-pager raftkv-test-1.service";
    let told = cluster.set.must_run(0, judge);
    let line = told
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    let words = line.unwrap_or_else(|| panic!("{told}")).split_whitespace();
    let mark: f64 = words.filter_map(|word| word.parse().ok()).next().unwrap();
    assert!(mark <= EXPOSURE_MAX, "{told}");
    let page = std::fs::read_to_string("../docs/security.md").unwrap();
    assert!(
        page.contains(&format!("gives it {mark:.1} (")),
        "{mark}: {told}"
    );
}

// A crash: systemd starts the node again, and raftctl knows the new process.
fn a_crashed_node_is_started_again(cluster: &Units) {
    let first = cluster.set.must_run(0, PID);
    cluster.set.must_run(0, &format!("kill -ABRT {first}"));
    eventually("started again", || {
        cluster.set.must_run(0, PID) != first && cluster.set.must_run(0, SHOW) == "active"
    });
    cluster.raftctl(&["up"]).ok();
}

// A kill: dead until told otherwise, however often systemd would try.
fn a_killed_node_is_dead_until_told(cluster: &Units) {
    cluster.raftctl(&["kill", "1"]).ok();
    eventually("given up", || {
        let state = cluster.set.must_run(0, SHOW);
        state != "active" && state != "activating"
    });
    let lives = format!("kill -0 $({PID})");
    assert!(!cluster.set.run(0, &lives).status.success());
    eventually("called stopped", || {
        let status = cluster.raftctl(&["status", "--output", "json"]).ok();
        status.json()["nodes"][0]["process"] == "stopped"
    });
    cluster.raftctl(&["restart", "1"]).ok();
    cluster.raftctl(&["restart", "all"]).ok();
    cluster.until_ready();
}

// Nor is one started that systemd was about to start again.
fn a_kill_forestalls_a_new_try(cluster: &Units) {
    cluster.until_ready();
    cluster.set.must_run(0, &format!("kill -9 $({PID})"));
    cluster.raftctl(&["kill", "1"]).ok();
    assert_eq!(cluster.set.must_run(0, SHOW), "inactive");
    cluster.raftctl(&["up"]).ok();
}

// A node whose loop stands still is started again by systemd, which says why. One that is frozen on purpose is not,
// however long that lasts; and when it goes on, it is watched as before.
fn a_stuck_node_is_started_again_and_a_frozen_one_is_not(cluster: &Units) {
    let must = |script: &str| cluster.set.must_run(0, script);
    let unit = "cat /etc/systemd/system/raftkv-test-1.service";
    assert!(must(unit).contains("\nWatchdogSec=30\n"), "{}", must(unit));
    let folder = "/run/systemd/system/raftkv-test-1.service.d";
    must(&format!(
        "mkdir {folder} && printf '[Service]\nWatchdogSec=3\n' >{folder}/soon.conf && systemctl daemon-reload"
    ));
    cluster.raftctl(&["restart", "1"]).ok();
    cluster.until_ready();

    let first = must(PID);
    let is_watched =
        || must("systemctl show raftkv-test-1 -p WatchdogTimestampMonotonic --value") != "0";
    let state = || must(&format!("sed -n 's/^State:.//p' /proc/{first}/status"));
    eventually("watched", is_watched);
    cluster.raftctl(&["pause", "1", "--for", "10s"]).ok();
    assert!(state().starts_with('T'), "{}", state());
    assert!(!is_watched());
    eventually("gone on", || !state().starts_with('T'));
    assert_eq!(must(PID), first);
    eventually("watched again", is_watched);

    must(&format!("kill -STOP {first}"));
    eventually("started again", || {
        must(PID) != first && must(SHOW) == "active"
    });
    let why = must("journalctl --quiet --no-pager --unit raftkv-test-1");
    assert!(why.contains("Watchdog timeout (limit 3s)!"), "{why}");
    assert!(why.contains("Failed with result 'watchdog'"), "{why}");
    must(&format!("rm -r {folder} && systemctl daemon-reload"));
    cluster.raftctl(&["restart", "1"]).ok();
    cluster.raftctl(&["up"]).ok().says("nothing to do");
}

// What dump.txt tells of rare things stands in the journal, to be found by its fields.
fn the_journal_has_events_by_their_fields(cluster: &Units) {
    cluster.raftctl(&["transfer"]).ok();
    let status = cluster.raftctl(&["status", "--output", "json"]).ok().json();
    let leader = status["leader"].as_u64().unwrap();
    let term = &status["term"];
    let host = usize::try_from(leader).unwrap() - 1;
    let look = format!(
        "journalctl --quiet --no-pager --output json RAFT_EVENT=BecameLeader RAFT_TERM={term}"
    );
    eventually("in the journal", || {
        !cluster.set.must_run(host, &look).is_empty()
    });
    let entry = cluster.set.must_run(host, &look);
    let entry: serde_json::Value = serde_json::from_str(entry.lines().next().unwrap()).unwrap();
    let message = format!("Node {leader} became the leader for term {term}.");
    assert_eq!(entry["MESSAGE"], message);
    assert_eq!(entry["RAFT_NODE"], leader.to_string());
    assert_eq!(
        entry["_SYSTEMD_UNIT"],
        format!("raftkv-test-{leader}.service")
    );
    let frequent =
        "journalctl --quiet --no-pager --output json RAFT_EVENT=Received RAFT_EVENT=Committed";
    assert_eq!(cluster.set.must_run(host, frequent), "");
}

// A boot starts what was not ended by an operator.
fn a_boot_starts_what_nobody_ended(cluster: &Units) {
    cluster.raftctl(&["stop", "3"]).ok();
    cluster.set.reboot(1);
    cluster.set.reboot(2);
    let is_active = |at: usize| {
        let ask = format!("systemctl is-active raftkv-test-{}", at + 1);
        cluster.set.run(at, &ask).status.success()
    };
    eventually("started at boot", || is_active(1));
    assert!(!is_active(2));
    cluster.raftctl(&["up"]).ok();
}

// A log that disappears under a node is missed by systemd, too.
fn a_lost_log_is_missed_by_systemd(cluster: &Units) {
    let (log, pid) = (
        "/opt/raftkv/test/logs_node_3/logs.txt",
        "/opt/raftkv/test/run/node_3.pid",
    );
    let lose = format!("mv {log} /root/kept; kill -9 $(sed -n s/^pid=//p {pid})");
    cluster.set.must_run(2, &lose);
    eventually("given up", || {
        let failed = "systemctl is-failed raftkv-test-3";
        cluster.set.run(2, failed).status.success()
    });
    assert!(!cluster.set.run(2, &format!("ls {log}")).status.success());
    cluster
        .raftctl(&["start", "3"])
        .code(2)
        .says("the log of node 3 is gone");
    cluster.set.must_run(2, &format!("mv /root/kept {log}"));
    cluster.raftctl(&["start", "3"]).ok();
}

// `down --purge` leaves neither unit nor folder nor user behind.
fn purge_leaves_no_unit_behind(cluster: &Units) {
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    for at in 0..3 {
        for left in [
            "ls /etc/systemd/system/raftkv-*",
            "ls -d /opt/raftkv",
            "id raftkv",
        ] {
            assert!(!cluster.set.run(at, left).status.success(), "{left}");
        }
    }
    cluster.raftctl(&["up"]).ok();
}

// Whatever umask root logs in with: the nodes' user reads what it runs, nobody else reads its data,
// and what was made under a strict umask before is opened to it.
fn a_strict_umask_keeps_no_node_out() {
    let set = TestContainers::start(1);
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
fn a_node_without_its_binary_says_so() {
    let set = TestContainers::start(1);
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
fn root_is_not_led_astray_by_a_node() {
    let set = TestContainers::start(1);
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
