//! A cluster on hosts of its own, over SSH, driven as an operator drives it.

use harness::{Test, tests};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cluster::{RemoteCluster, left_behind};
use crate::load::{Load, assert_linearizable, unanswered};
use crate::support::{PATIENCE, command, replace_file};
use rustix::process::{Pid, Signal, kill_process};
use testhosts::{HOSTS, ROOT, WITH_SUDO};

pub fn tests() -> Vec<Test> {
    tests!(
        [HOSTS],
        an_upgrade_goes_unnoticed,
        a_rollback_ends_at_one_release,
        an_upgrade_is_for_stopped_nodes_too,
        a_backup_comes_back_on_hosts,
        a_packet_filter_cuts_and_heals_itself,
        a_cluster_lives_on_ipv6,
        the_scenarios_pass
    )
}

// Another binary comes under the nodes while clients go on, the leader last: no request fails or
// waits for long, and everything they saw can be explained. So it is with the way back.
fn an_upgrade_goes_unnoticed() {
    let cluster = RemoteCluster::new(3, ROOT);
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let binary = cluster.path("raft-node");
    std::fs::copy(own, &binary).unwrap();
    cluster.configure("binary: ./raft-node");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["upgrade"]).ok();

    let mut other = std::fs::read(&binary).unwrap();
    other.extend(b"another");
    std::fs::write(&binary, other).unwrap();
    // As many milliseconds would do; an outage of an election takes longer than a lease.
    let load = Load::start(&cluster.members(), 4, PATIENCE / 6);
    let leader = cluster.leader(|_| true);
    let upgrade = cluster.raftctl(&["upgrade"]).ok();
    assert_eq!(
        upgrade.stdout.matches(" upgraded\n").count(),
        3,
        "{upgrade:?}"
    );
    let last = format!("node {leader} upgraded\n");
    assert!(upgrade.stdout.ends_with(&last), "{upgrade:?}");
    let back = cluster
        .raftctl(&["upgrade", "--rollback", "--output", "json"])
        .ok();
    let back = back.json();
    let nodes = back["nodes"].as_array().unwrap().iter();
    assert_eq!(
        nodes.filter(|node| node["done"] == "rolled back").count(),
        3,
        "{back:#}"
    );
    let seen = load.stop();
    assert!(seen.len() > 100, "{}", seen.len());
    assert_eq!(unanswered(&seen), 0);
    assert_linearizable(seen);
}

/// Makes raft-node of this build with something appended the binary of a cluster; the name of its
/// release.
fn change_binary(cluster: &RemoteCluster, more: &str) -> String {
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_raftctl")).with_file_name("raft-node");
    let mut bytes = std::fs::read(own).unwrap();
    bytes.extend(more.as_bytes());
    std::fs::write(cluster.path("raft-node"), &bytes).unwrap();
    let sum = std::process::Command::new("sha256sum")
        .arg(cluster.path("raft-node"))
        .output()
        .unwrap();
    String::from_utf8(sum.stdout).unwrap()[..12].to_owned()
}

/// What the hosts have as their release, and what their nodes run.
fn releases(cluster: &RemoteCluster) -> Vec<(String, String)> {
    let one = |(host, id): (&testhosts::TestHost, u64)| {
        let base = "/opt/raftkv/test";
        let current = host.must_run(&format!("basename $(readlink {base}/bin/current)"));
        let runs = format!("sed -n s/^sha256=//p {base}/run/node_{id}.pid | cut -c 1-12");
        (current, host.must_run(&runs))
    };
    cluster.set.hosts.iter().zip(1..).map(one).collect()
}

// A way back leads every host to the same release, however far the way there had come, and however
// often it is gone: it can be interrupted, goes on to where it began to go, and then ends there.
fn a_rollback_ends_at_one_release() {
    let cluster = RemoteCluster::new(3, ROOT);
    // One of these binaries is none: it could not even ask for a certificate.
    cluster.configure("binary: ./raft-node\ntls: off");
    change_binary(&cluster, "first");
    cluster.raftctl(&["up"]).ok();
    let good = change_binary(&cluster, "good");
    cluster.raftctl(&["upgrade"]).ok();
    let all_good = vec![(good.clone(), good.clone()); 3];

    // One host can't take the next release.
    let bad = change_binary(&cluster, "bad");
    cluster.set.hosts[2].must_run("mv /usr/bin/gzip /usr/bin/gzip.away");
    let upgrade = cluster.raftctl(&["upgrade"]).code(3);
    assert!(
        upgrade
            .stderr
            .contains("`raftctl upgrade --rollback` goes back"),
        "{upgrade:?}"
    );
    cluster.set.hosts[2].must_run("mv /usr/bin/gzip.away /usr/bin/gzip");
    let back = format!("go back to release {good}");
    cluster.raftctl(&["upgrade", "--rollback"]).ok().says(&back);
    assert_eq!(releases(&cluster), all_good);
    let again = cluster.raftctl(&["upgrade", "--rollback"]).ok();
    assert!(
        again.stderr.contains("has this release already"),
        "{again:?}"
    );
    assert_eq!(releases(&cluster), all_good);

    cluster.raftctl(&["upgrade"]).ok();
    assert_eq!(releases(&cluster), vec![(bad.clone(), bad.clone()); 3]);
    let mut rollback = command(cluster.folder(), &["upgrade", "--rollback"]);
    let rollback = rollback.stdout(Stdio::null()).stderr(Stdio::piped());
    let rollback = rollback.spawn().unwrap();
    let started = Instant::now();
    while releases(&cluster).iter().any(|(has, _)| *has != good) {
        assert!(started.elapsed() < PATIENCE, "never switched");
    }
    kill_process(Pid::from_child(&rollback), Signal::INT).unwrap();
    let ended = rollback.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        said.contains("`raftctl upgrade --rollback` goes on from there"),
        "{said}"
    );
    // One may have been stopped just then.
    cluster.raftctl(&["start", "all"]).ok();
    let doctor = cluster.raftctl(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("`raftctl upgrade --rollback` goes on"),
        "{doctor:?}"
    );
    cluster.raftctl(&["upgrade", "--rollback"]).ok().says(&back);
    assert_eq!(releases(&cluster), all_good);

    // A release that does not even start: the way back is open to the node that it has cost.
    let broken = "#!/bin/sh\n[ \"$1\" = --version ] || exit 3\n";
    std::fs::write(cluster.path("raft-node"), broken).unwrap();
    assert_ne!(cluster.raftctl(&["upgrade"]).code, 0);
    let is_stopped = |id: &u64| cluster.of_node(*id, "process") == "stopped";
    // A host that is slow to answer has its process called unknown for a while.
    let started = Instant::now();
    let stopped = loop {
        if let Some(id) = (1..=3).find(is_stopped) {
            break id.to_string();
        }
        assert!(started.elapsed() < PATIENCE, "no node is stopped");
    };
    cluster
        .raftctl(&["upgrade", "--rollback"])
        .code(30)
        .says(&format!("`raftctl start {stopped}`"));
    cluster.raftctl(&["start", &stopped]).ok();
    cluster.raftctl(&["upgrade", "--rollback"]).ok();
    assert_eq!(releases(&cluster), all_good);
}

// A node that does not run gets the release as well, and is left as it is: it is started with it.
fn an_upgrade_is_for_stopped_nodes_too() {
    let cluster = RemoteCluster::new(5, ROOT);
    cluster.configure("binary: ./raft-node");
    let old = change_binary(&cluster, "old");
    cluster.raftctl(&["up"]).ok();
    let leader = cluster.leader(|_| true);
    let away = (leader % 5 + 1).to_string();
    cluster.raftctl(&["stop", &away]).ok();
    let new = change_binary(&cluster, "new");
    let told = format!("it does not run; `raftctl start {away}` starts it with this release");
    cluster.raftctl(&["upgrade"]).code(3).says(&told);
    cluster.until(away.parse().unwrap(), "process", "stopped");
    cluster.raftctl(&["start", &away]).ok();
    assert_eq!(releases(&cluster), vec![(new.clone(), new); 5]);

    cluster.raftctl(&["stop", &away]).ok();
    let back = cluster.raftctl(&["upgrade", "--rollback"]).code(3);
    assert!(back.stderr.contains("not rolled back on 1 of"), "{back:?}");
    cluster.raftctl(&["start", &away]).ok();
    assert_eq!(releases(&cluster), vec![(old.clone(), old); 5]);
}

// A packet filter cuts the leader off under load: another one leads, what clients saw can be
// explained, and the filter takes itself away when its time is over, with no raftctl around.
fn a_packet_filter_cuts_and_heals_itself() {
    let cluster = RemoteCluster::new(3, WITH_SUDO);
    cluster.raftctl(&["up"]).ok();
    let leader = cluster.leader(|_| true);
    let load = Load::start(&cluster.members(), 4, PATIENCE);
    cluster
        .raftctl(&["partition", "leader", "--packet-filter", "--for", "20s"])
        .ok();
    let table = format!("nft list table inet raftkv_test_{leader}");
    let host = &cluster.set.hosts[usize::try_from(leader).unwrap() - 1];
    assert!(host.must_run(&table).contains("tcp dport 7400 drop"));
    let doctor = cluster.raftctl(&["doctor"]);
    let found = "a packet filter of raftctl cuts off nodes 1, 2 and 3; `raftctl heal`";
    assert!(doctor.stdout.contains(found), "{doctor:?}");
    let note = format!("node {leader}: cut off by a packet filter of raftctl (`raftctl heal`)");
    let status = cluster.raftctl(&["status"]).ok();
    assert!(status.stdout.contains(&note), "{status:?}");
    cluster.leader(|id| id != leader);
    let started = Instant::now();
    while host.run(&table).status.success() {
        assert!(started.elapsed() < PATIENCE, "the filter stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.until(leader, "role", "follower");
    let seen = load.stop();
    assert!(seen.len() > 100, "{}", seen.len());
    assert_linearizable(seen);

    cluster
        .raftctl(&["partition", "1|2,3", "--packet-filter"])
        .ok();
    cluster.raftctl(&["heal"]).ok();
    for host in &cluster.set.hosts {
        assert_eq!(host.must_run("nft list tables"), "");
    }
    for node in cluster.status()["nodes"].as_array().unwrap() {
        assert_eq!(node["packet_filter"], false, "{node}");
    }
}

// Hosts that have IPv6 addresses alone are hosts like any others.
fn a_cluster_lives_on_ipv6() {
    let cluster = RemoteCluster::new(3, ROOT);
    let mut yaml = format!(
        "name: test\nprovider: ssh\nssh: {{user: root, identity_file: {}}}\nnodes:\n",
        cluster.set.key().display()
    );
    for (at, host) in cluster.set.hosts.iter().enumerate() {
        yaml.push_str(&format!(
            "  - {{id: {}, host: \"{}\"}}\n",
            at + 1,
            host.address_v6
        ));
    }
    replace_file(cluster.path("cluster.yaml"), yaml);
    let up = cluster.raftctl(&["up"]).ok();
    assert!(
        up.stdout
            .contains(&format!("[{}]:7500", cluster.set.hosts[0].address_v6)),
        "{up:?}"
    );
    cluster.raftctl(&["set", "k", "v"]).ok();
    cluster.raftctl(&["kill", "leader"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
}

// The six scenarios, on hosts of their own.
fn the_scenarios_pass() {
    let cluster = RemoteCluster::new(5, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["scenario", "run", "all"]).ok();
}

// A backup of a cluster on other machines becomes a new one there, after the old one was deleted, and not
// before; then the new one loses two of its members, and goes on with what the third has, while one host is
// away.
fn a_backup_comes_back_on_hosts() {
    let mut cluster = RemoteCluster::new(3, WITH_SUDO);
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "two words"]).ok();
    cluster.raftctl(&["backup", "b"]).ok();
    cluster
        .raftctl(&["restore", "b"])
        .code(2)
        .says("node 2 is there");
    cluster.raftctl(&["stop", "all"]).ok();
    cluster
        .raftctl(&["restore", "b"])
        .code(2)
        .says("holds data");
    cluster.raftctl(&["down", "--purge", "--yes"]).ok();
    cluster.raftctl(&["restore", "b"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "two words\n");
    let before = cluster.of_node(1, "cluster_id");

    cluster.raftctl(&["kill", "all"]).ok();
    cluster.set.hosts[1].must_run("rm -rf /opt/raftkv/test/logs_node_2");
    cluster.set.hosts[2].die();
    let recover = ["recover", "--lose-majority", "--yes-lose", "test"];
    let recovered = cluster.raftctl(&recover).code(3);
    left_behind(&recovered, 3, "");
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "two words\n");
    assert_ne!(cluster.of_node(1, "cluster_id"), before);
    cluster.set.revive(2);
    let mixed = cluster.raftctl(&["up"]).code(2);
    assert!(mixed.stderr.contains(&before), "{mixed:?}");
}
