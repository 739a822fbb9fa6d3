//! What can't be done on one host does not keep the others from it: it is named with the reason,
//! the exit code is 3, and the same command brings it in once the trouble is over.

use harness::{Test, tests};
use std::process::Stdio;
use std::time::Instant;

use crate::cluster::{RemoteCluster, left_behind};
use crate::support::{PATIENCE, command, raftctl, replace_file};
use rustix::process::{Pid, Signal, kill_process};
use testhosts::{HOSTS, ROOT, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!(
        [HOSTS],
        a_taken_port_leaves_one_behind,
        a_node_that_ends_at_once_is_left_behind,
        a_dead_host_hides_nobody,
        a_silent_host_is_not_waited_for,
        a_scenario_holds_the_lock,
        every_verb_has_an_end,
        limits_hold,
        a_lost_log_is_missed_by_other_operators,
        no_second_cluster_begins_beside_a_silent_host,
        a_host_without_a_lock_is_told,
        faults_are_undone_where_hosts_answer,
        a_changed_file_is_for_all_nodes,
        a_host_lost_while_all_are_stopped_is_left_behind,
        an_upgrade_ends_before_the_majority_does
    )
}

// A port that another program has on one host: the others come up.
fn a_taken_port_leaves_one_behind() {
    let cluster = RemoteCluster::new(3, ROOT);
    let other = "/usr/sbin/sshd -f /etc/ssh/testhost_config -o PidFile=/run/other.pid -p 7400";
    cluster.set.hosts[1].must_run(other);
    let plan = cluster.raftctl(&["plan"]).ok();
    assert!(plan.stdout.contains("start nodes 1 and 3"), "{plan:?}");
    let up = cluster.raftctl(&["up"]).code(3);
    let address = &cluster.set.hosts[1].address;
    left_behind(
        &up,
        2,
        &format!("{address}: port 7400 of node 2 is in use by process"),
    );
    left_behind(&up, 2, "/usr/sbin/sshd");
    left_behind(&up, 2, "raftctl exec 2 -- ss -ltnp sport = :7400");
    let up = cluster.raftctl(&["up", "-o", "json"]).code(3).json();
    let missing = up["left_behind"].as_array().unwrap();
    assert_eq!((missing.len(), &missing[0]["id"]), (1, &2.into()), "{up:#}");
    let why = missing[0]["error"].as_str().unwrap();
    assert!(why.contains("port 7400 of node 2 is in use"), "{why}");
    cluster.raftctl(&["set", "k", "v"]).ok();
    let command = "raftctl exec 2 -- ss -ltnp sport = :7400";
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    assert!(cluster.raftctl(&words).ok().stdout.contains("sshd"));
    cluster.set.hosts[1].must_run("kill $(cat /run/other.pid)");
    cluster.raftctl(&["up"]).ok();
    cluster.until(2, "role", "follower");
}

// A node that ends right after its start is left behind with what it printed.
fn a_node_that_ends_at_once_is_left_behind() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.set.hosts[2].must_run("mkdir -p /opt/raftkv/test/logs_node_3/logs.txt");
    let up = cluster.raftctl(&["up"]).code(3);
    left_behind(&up, 3, "ended; it printed last:");
    left_behind(&up, 3, "logs.txt");
    cluster.raftctl(&["set", "k", "v"]).ok();

    // With another one in trouble there is no majority, and that is an error.
    cluster.raftctl(&["down"]).code(0);
    cluster.set.hosts[1].must_run("mv /opt/raftkv/test/logs_node_2/logs.txt /opt/kept; mkdir /opt/raftkv/test/logs_node_2/logs.txt");
    let up = cluster.raftctl(&["up", "--allow-data-loss"]);
    assert!(
        up.stderr.contains("and the others are no majority"),
        "{up:?}"
    );
    assert_eq!(up.code, 30, "{up:?}");
    cluster.raftctl(&["down"]).ok();

    for host in &cluster.set.hosts[1..] {
        host.must_run("rmdir /opt/raftkv/test/logs_node_*/logs.txt");
    }
    cluster.set.hosts[1].must_run("mv /opt/kept /opt/raftkv/test/logs_node_2/logs.txt");
    cluster.raftctl(&["up"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// Verbs that look after many nodes do so for all whose hosts answer.
fn a_dead_host_hides_nobody() {
    let mut cluster = RemoteCluster::new(3, WITH_SUDO);
    cluster.raftctl(&["up"]).ok();
    cluster.set.hosts[1].die();
    let status = cluster.raftctl(&["status"]).ok();
    let note = format!(
        "node 2: {}: cannot be reached",
        cluster.set.hosts[1].address
    );
    assert!(status.stdout.contains(&note), "{status:?}");
    // With one more away there would be no majority: nothing is shipped, nothing restarted.
    let upgrade = cluster.raftctl(&["upgrade"]).code(30);
    assert!(
        upgrade.stderr.contains("bring node 2 back first"),
        "{upgrade:?}"
    );
    left_behind(
        &cluster.raftctl(&["restart", "all"]).code(3),
        2,
        "cannot be reached",
    );
    cluster.raftctl(&["kill", "1"]).ok();
    let start = cluster.raftctl(&["start", "all"]).code(3);
    left_behind(&start, 2, "cannot be reached");
    assert!(start.stdout.contains("node 1 started"), "{start:?}");
    assert!(
        start.stdout.contains("node 3 was running already"),
        "{start:?}"
    );
    left_behind(&cluster.raftctl(&["down"]).code(3), 2, "cannot be reached");
    cluster.until(1, "process", "stopped");
    cluster.until(3, "process", "stopped");
    // What is deleted is deleted on the others, and the next time on that one.
    let purge = cluster.raftctl(&["down", "--purge", "--yes"]).code(3);
    left_behind(&purge, 2, "cannot be reached");
    assert!(
        !cluster.set.hosts[2]
            .run("ls -d /opt/raftkv")
            .status
            .success()
    );
    cluster.set.revive(1);
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert!(
        !cluster.set.hosts[1]
            .run("ls -d /opt/raftkv")
            .status
            .success()
    );
    cluster.raftctl(&["up"]).ok();

    // Nothing of the cluster is left on any host, and nothing that was there before is gone.
    cluster.set.hosts[0].must_run("mkdir -p /opt/raftkv/other");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    assert_eq!(cluster.set.hosts[0].must_run("ls -A /opt/raftkv"), "other");
    for host in &cluster.set.hosts[1..] {
        assert!(!host.run("ls -d /opt/raftkv").status.success());
    }
    cluster.raftctl(&["up"]).ok();
}

// A host that was never reached, and drops every packet, costs a status little, whatever
// `limits.connect` is; and an `up` no more than that.
fn a_silent_host_is_not_waited_for() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.configure("limits: {connect: 20s}");
    cluster.raftctl(&["up"]).ok();
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.share(elsewhere.path(), ROOT, "limits: {connect: 1h}");
    // A cable that is pulled is noticed after a while: this never is.
    let silent =
        "nft 'table inet silent { chain input { type filter hook input priority 0; drop; }; }'";
    cluster.set.hosts[0].must_run(silent);
    let status = raftctl(elsewhere.path(), &["status"]).ok();
    assert!(status.took < PATIENCE, "{status:?}");
    let silent = format!(
        "node 1: {}: cannot be reached: no answer within 1300 ms; is it switched on",
        cluster.set.hosts[0].address
    );
    assert!(status.stdout.contains(&silent), "{status:?}");
    cluster.share(elsewhere.path(), ROOT, "limits: {connect: 2s}");
    left_behind(
        &raftctl(elsewhere.path(), &["up"]).code(3),
        1,
        "timed out; is it switched on, and does a firewall let you in?",
    );
    // What concerns the others is not kept waiting for long, and the lock is free afterwards.
    let restart = raftctl(elsewhere.path(), &["restart", "2,3"]).ok();
    assert!(restart.took < PATIENCE, "{restart:?}");
    cluster.set.hosts[0].must_run("nft delete table inet silent");
    cluster.raftctl(&["restart", "1"]).ok();
}

// While a scenario plays, nobody else starts or stops nodes.
fn a_scenario_holds_the_lock() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    let arguments = ["scenario", "chaos", "--duration", "50s", "--clients", "2"];
    let mut chaos = command(cluster.folder(), &arguments);
    let mut chaos = chaos
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let is_locked = "grep -q scenario /opt/raftkv/test/lock";
    while !cluster.set.hosts[0].run(is_locked).status.success() {
        assert!(started.elapsed() < PATIENCE, "never locked");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.share(elsewhere.path(), ROOT, "");
    let doctor = raftctl(elsewhere.path(), &["doctor"]);
    assert!(
        doctor.stdout.contains("the cluster is locked by"),
        "{doctor:?}"
    );
    let stop = raftctl(elsewhere.path(), &["stop", "all"]).code(1);
    assert!(stop.stderr.contains("`raftctl scenario`"), "{stop:?}");
    kill_process(Pid::from_child(&chaos), Signal::INT).unwrap();
    chaos.wait().unwrap();
    raftctl(elsewhere.path(), &["restart", "all"]).ok();

    // Whoever has lost the lock, as after a long sleep, stops: someone else may have had it.
    let mut chaos = command(cluster.folder(), &arguments);
    let chaos = chaos
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !cluster.set.hosts[0].run(is_locked).status.success() {
        assert!(started.elapsed() < PATIENCE, "never locked");
    }
    cluster.set.hosts[0].must_run("rm /opt/raftkv/test/lock");
    let output = chaos.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the lock was lost"), "{stderr}");
    assert!(
        stderr.contains("resumed and started by `raftctl up`"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(1));
}

// A verb as a whole has a bound, also where it changes nothing.
fn every_verb_has_an_end() {
    let cluster = RemoteCluster::new(1, ROOT);
    // One script has, too; what is told of it is its own.
    let exec = cluster
        .raftctl(&[
            "exec",
            "1",
            "--timeout",
            "5s",
            "--",
            "echo half >&2; sleep 600",
        ])
        .code(10)
        .says("half");
    assert!(!exec.stderr.contains("raftctl-"), "{exec:?}");
    cluster.configure("limits: {total: 1s}");
    let exec = cluster
        .raftctl(&["exec", "1", "--", "sleep", "600"])
        .code(1);
    assert!(
        exec.stderr
            .contains("`raftctl exec` is not done within 1s (limits.total"),
        "{exec:?}"
    );
}

// The bounds of cluster.yaml hold: how many hosts are worked on at a time, how many are sent a
// binary, how long a script may take.
fn limits_hold() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.configure("limits: {hosts: 1, uploads: 1, step: 20s}");
    for host in &cluster.set.hosts {
        host.slow_down(20_000);
    }
    let mut up = command(cluster.folder(), &["up"]);
    let mut up = up
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_taking = |host: &testhosts::TestHost| {
        let upload = "test -s /opt/raftkv/test/bin/releases/.incoming.*/raft-node";
        host.run(upload).status.success()
    };
    let mut most = 0;
    while up.try_wait().unwrap().is_none() {
        // Those that take it in both looks did so at the same time, between them.
        let look = || -> Vec<bool> { cluster.set.hosts.iter().map(is_taking).collect() };
        let taking = look()
            .into_iter()
            .zip(look())
            .filter(|both| *both == (true, true));
        most = most.max(taking.count());
    }
    assert!(up.wait().unwrap().success());
    assert_eq!(most, 1);

    // One after the other: each begins when the one before has ended.
    let script = "date +%s%N; sleep 0.3; date +%s%N";
    let exec = cluster.raftctl(&["exec", "all", "--", script]).ok();
    let moment = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let moments: Vec<u64> = exec.stdout.lines().map(moment).collect();
    let mut spans: Vec<&[u64]> = moments.chunks(2).collect();
    spans.sort();
    assert!(
        spans.windows(2).all(|pair| pair[0][1] <= pair[1][0]),
        "{exec:?}"
    );

    cluster.configure("limits: {step: 1s}");
    let late = cluster.raftctl(&["exec", "1", "--", "sleep 600"]).code(10);
    assert!(late.stderr.contains("no answer within 1000 ms"), "{late:?}");
}

// Whoever looks, and whatever this machine remembers: a member that has lost its log is missed by
// every verb that would start it, and a cluster that someone else deleted is not.
fn a_lost_log_is_missed_by_other_operators() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.share(elsewhere.path(), ROOT, "");
    cluster.raftctl(&["stop", "2"]).ok();
    cluster.set.hosts[1].must_run("rm -r /opt/raftkv");
    left_behind(
        &raftctl(elsewhere.path(), &["up"]).code(3),
        2,
        "the log of node 2 is gone",
    );
    raftctl(elsewhere.path(), &["start", "2"])
        .code(2)
        .says("the log of node 2 is gone");
    cluster
        .raftctl(&["start", "2"])
        .code(2)
        .says("the log of node 2 is gone");
    raftctl(elsewhere.path(), &["up", "--allow-data-loss"]).ok();
    cluster.until(2, "role", "follower");

    raftctl(elsewhere.path(), &["down", "--purge", "--yes"]).ok();
    cluster.raftctl(&["up"]).ok();
}

// While the host of a member that had a log can't be asked, no other cluster begins beside it: neither
// where the others lost all they had, nor where the cluster was deleted on them.
fn no_second_cluster_begins_beside_a_silent_host() {
    let mut cluster = RemoteCluster::new(3, ROOT);
    let refused = |cluster: &RemoteCluster| {
        let why = "node 3 had a log, and its host can't be asked";
        for verb in [&["plan"][..], &["up"], &["start", "1"]] {
            cluster.raftctl(verb).code(2).says(why);
        }
        assert!(
            !cluster.set.hosts[0]
                .run("ls /opt/raftkv/test/run/*.pid")
                .status
                .success()
        );
    };
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.set.hosts[2].die();
    cluster.raftctl(&["down"]).code(3);
    for host in &cluster.set.hosts[..2] {
        host.must_run("mv /opt/raftkv /opt/kept");
    }
    refused(&cluster);
    for host in &cluster.set.hosts[..2] {
        host.must_run("rm -rf /opt/raftkv; mv /opt/kept /opt/raftkv");
    }
    cluster.raftctl(&["up"]).code(3);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");

    cluster.raftctl(&["down", "--purge", "--yes"]).code(3);
    refused(&cluster);
    // The host is back, and says that it has something.
    cluster.set.revive(2);
    cluster
        .raftctl(&["up"])
        .code(2)
        .says("the log of node 1 is gone");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    cluster.raftctl(&["up"]).ok();

    // Whoever knows better may begin anew.
    cluster.set.hosts[2].die();
    cluster.raftctl(&["down", "--purge", "--yes"]).code(3);
    cluster.raftctl(&["up", "--allow-data-loss"]).code(3);
    cluster.raftctl(&["set", "k", "w"]).ok();
}

// A host that answers but can't be locked is told with its cause, and is no obstacle: it must be
// possible to mend it.
fn a_host_without_a_lock_is_told() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.set.hosts[1].must_run("mkdir /opt/raftkv/test/lock.new");
    let restart = cluster.raftctl(&["restart", "1"]).ok();
    let address = &cluster.set.hosts[1].address;
    let note = format!("going on without a lock there: {address}: cannot lock the cluster: ");
    assert!(restart.stderr.contains(&note), "{restart:?}");
    assert!(restart.stderr.contains("lock.new"), "{restart:?}");
    cluster.set.hosts[1].must_run("rmdir /opt/raftkv/test/lock.new");
    let restart = cluster.raftctl(&["restart", "1"]).ok();
    assert!(!restart.stderr.contains("without a lock"), "{restart:?}");
}

// A host that does not answer keeps a scenario from undoing nothing on the others. One that is back
// soon is put right, too; else it is named, with what is left to do.
fn faults_are_undone_where_hosts_answer() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    let scenario = "scenario: stuck\ntitle: for ever\nnodes: 3\nsteps:\n- wait_for_leader: {as: chief}\n\
                    - kill: 1\n- pause: 2\n- expect_role: {nodes: \"1\", role: leader, within: 10m}\n";
    std::fs::write(cluster.path("stuck.yaml"), scenario).unwrap();
    let play = || {
        let mut playing = command(cluster.folder(), &["scenario", "run", "stuck.yaml"]);
        let playing = playing.stdout(Stdio::null()).stderr(Stdio::piped());
        let playing = playing.spawn().unwrap();
        cluster.until(1, "process", "stopped");
        cluster.until(2, "process", "paused");
        playing
    };
    let process = |at: usize| {
        let stat = "sed 's/.*) \\(.\\).*/\\1/' /proc/$(sed -n s/pid=//p /opt/raftkv/test/run/node_*.pid)/stat";
        cluster.set.hosts[at].must_run(stat)
    };
    let mut playing = play();
    cluster.set.hosts[1].plug(false);
    kill_process(Pid::from_child(&playing), Signal::INT).unwrap();
    let started = Instant::now();
    // Node 1 was started: it does not wait for the other.
    while !cluster.set.hosts[0]
        .run("ls /opt/raftkv/test/run/node_1.pid")
        .status
        .success()
    {
        assert!(started.elapsed() < PATIENCE, "node 1 is not started");
    }
    assert_eq!(playing.try_wait().unwrap(), None);
    cluster.set.hosts[1].plug(true);
    let output = playing.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("interrupted; the cluster is as it was before"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(1));

    let playing = play();
    cluster.set.hosts[2].plug(false);
    kill_process(Pid::from_child(&playing), Signal::INT).unwrap();
    let output = playing.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("not put back on 1 of the nodes:\n  node 3: "),
        "{stderr}"
    );
    assert!(
        stderr.contains("`raftctl resume all`, `raftctl start all`, `raftctl heal`"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(3));
    for at in [0, 1] {
        assert_ne!(process(at), "T", "node {} is frozen", at + 1);
    }
    cluster.set.hosts[2].plug(true);
    cluster.raftctl(&["up"]).ok();
}

// Nodes are never started one by one with what only some of them would have: another lease. And a file that has
// never had a member makes it leave only when it is told to.
fn a_changed_file_is_for_all_nodes() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    let elsewhere = tempfile::tempdir().unwrap();
    cluster.share(elsewhere.path(), ROOT, "");
    let file = elsewhere.path().join("cluster.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let fewer: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("id: 3"))
        .collect();
    replace_file(&file, fewer.join("\n"));
    // Also where it is the one that leads.
    for leader in ["1", "3"] {
        cluster.raftctl(&["transfer", leader]).ok();
        for verb in ["plan", "up"] {
            raftctl(elsewhere.path(), &[verb])
                .code(2)
                .says("this cluster.yaml has never had node 3, which the cluster has")
                .says("`raftctl remove 3`");
        }
    }
    cluster.configure("lease: 3s");
    let doctor = cluster.raftctl(&["doctor"]).code(40);
    assert!(
        doctor.stdout.contains("wrong: cluster.yaml has changed"),
        "{doctor:?}"
    );
    cluster
        .raftctl(&["restart", "2"])
        .code(2)
        .says("--lease-ms 2000 -> 3000");
    for id in 1..=3 {
        cluster.until(id, "process", "running");
    }
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["restart", "2"]).ok();
}

// The connection to one host breaks while all are stopped to be given another lease: the others go on.
fn a_host_lost_while_all_are_stopped_is_left_behind() {
    let cluster = RemoteCluster::new(3, ROOT);
    // The login's shell ends without a word where it is to stop the node.
    cluster.set.hosts[1].must_run(
        "cat >/usr/local/bin/lossy <<'END'
#!/bin/sh
script=$(printf %s \"${2##* }\" | base64 -d 2>/dev/null)
case $script in *' TERM CONT'*) [ ! -e /run/lossy ] || exit 255 ;; esac
exec /bin/sh \"$@\"
END
         chmod 755 /usr/local/bin/lossy; usermod --shell /usr/local/bin/lossy root",
    );
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.set.hosts[1].must_run("touch /run/lossy");
    cluster.configure("lease: 3s");
    let up = cluster.raftctl(&["up"]).code(3);
    left_behind(&up, 2, "");
    cluster.leader(|id| id != 2);
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    cluster.set.hosts[1].must_run("rm /run/lossy");
    cluster.raftctl(&["up"]).ok();
    cluster.until(2, "role", "follower");
}

// A node that does not answer counts as one that is away, whatever its process does: the others are
// not restarted without it.
fn an_upgrade_ends_before_the_majority_does() {
    let cluster = RemoteCluster::new(3, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["transfer", "1"]).ok();
    // Peers and ssh get in.
    let closed = "nft 'table inet closed { chain input { type filter hook input priority 0; \
                  tcp dport 7500 drop; }; }'";
    cluster.set.hosts[2].must_run(closed);
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let mut other = std::fs::read(own).unwrap();
    other.extend(b"another");
    std::fs::write(cluster.path("raft-node"), other).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(cluster.path("raft-node"), executable).unwrap();
    cluster.configure("binary: ./raft-node");
    let pid = || cluster.set.hosts[1].must_run("grep ^pid= /opt/raftkv/test/run/node_2.pid");
    let before = pid();
    cluster
        .raftctl(&["upgrade"])
        .code(30)
        .says("node 3 does not answer now, so without node 2 there would be no majority");
    assert_eq!(pid(), before);
    cluster.set.hosts[2].must_run("nft delete table inet closed");
    cluster.raftctl(&["upgrade"]).ok();
}
