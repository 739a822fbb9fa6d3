//! What SSH servers refuse on the way to a host, or at its end: each is told in ssh's own words and costs
//! no more than it has to.

use harness::{Test, tests};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::advice::quoted;
use crate::cluster::RemoteCluster;
use crate::support::{PATIENCE, command, replace_file};
use crate::terminal::{TMUX, Terminal, says};
use testhosts::{HOSTS, PLAIN, ROOT};

pub fn tests() -> Vec<Test> {
    let ways = tests!(
        [HOSTS],
        a_jump_host_is_asked_once_and_may_be_a_member,
        one_session_at_a_time_is_enough,
        silence_and_a_home_without_programs_are_told
    );
    let watched = tests!([HOSTS, TMUX], a_cluster_is_watched_through_a_jump_host);
    [ways, watched].concat()
}

/// Writes a cluster.yaml whose first host is the jump host of all, itself included.
fn through_the_first(cluster: &RemoteCluster, login: &str) {
    let gate = cluster.set.hosts[0].address;
    let mut text = format!(
        "name: test\nprovider: ssh\ntls: on\nssh: {{user: {ROOT}, identity_file: {}, jump: \"{login}@{gate}\"}}\n\
         nodes:\n",
        cluster.set.key().display()
    );
    for (id, host) in (1..).zip(&cluster.set.hosts) {
        text.push_str(&format!("  - {{id: {id}, host: {}}}\n", host.address));
    }
    replace_file(cluster.path("cluster.yaml"), text);
}

// A jump host may be a member. One that refuses the login refuses it once for all hosts behind it; one
// that forbids forwarding is told with its own words, and so is a host that does; and when all is well
// the same command goes on.
fn a_jump_host_is_asked_once_and_may_be_a_member() {
    let cluster = RemoteCluster::new(3, ROOT);
    let gate = &cluster.set.hosts[0];
    through_the_first(&cluster, "nobody");
    let up = cluster.raftctl(&["up"]).code(10);
    assert!(up.stderr.contains("nobody@10.77."), "{up:?}");
    assert!(
        up.stderr.contains("Permission denied (publickey)"),
        "{up:?}"
    );
    let log = gate.log();
    let failed = log
        .lines()
        .filter(|line| line.contains("user nobody") && line.contains("[preauth]"));
    // Once by the connection, of whose way nothing is heard, and once to hear it.
    assert!(failed.count() <= 2, "{log}");

    through_the_first(&cluster, ROOT);
    gate.configure_sshd("AllowTcpForwarding no");
    let up = cluster.raftctl(&["up"]).code(10);
    assert!(up.stderr.contains("administratively prohibited"), "{up:?}");
    assert!(up.stderr.contains("AllowTcpForwarding yes"), "{up:?}");

    gate.configure_sshd("");
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["set", "k", "v"]).ok();
    assert_eq!(cluster.raftctl(&["get", "k"]).ok().stdout, "v\n");
    // A host behind it that lets nobody through to its client port.
    cluster.set.hosts[2].configure_sshd("AllowTcpForwarding no");
    cluster.set.hosts[2].cut_sessions();
    let doctor = cluster.raftctl(&["doctor"]).code(40);
    let why = "ssh says: administratively prohibited";
    assert!(doctor.stdout.contains(why), "{doctor:?}");
    assert!(
        doctor.stdout.contains("AllowTcpForwarding yes"),
        "{doctor:?}"
    );
}

// `raftctl top` goes through a jump host, too: all nodes are seen; without a majority, two hosts being gone, what is left
// is still told and can still be disturbed; and when the hosts come back, so does the rest.
fn a_cluster_is_watched_through_a_jump_host() {
    let mut cluster = RemoteCluster::new(3, ROOT);
    through_the_first(&cluster, ROOT);
    cluster.raftctl(&["up"]).ok();
    cluster.raftctl(&["transfer", "2"]).ok();
    let terminal = Terminal::start(cluster.folder(), (140, 30));
    terminal.eventually("the roles", |picture| {
        says(picture, 2, "leader") && [1, 3].iter().all(|id| says(picture, *id, "follower"))
    });
    terminal.eventually("a promise", |picture| says(picture, 3, "node 2 "));
    let (gate, log) = (cluster.set.hosts[0].address, cluster.set.hosts[2].log());
    let logins: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("Accepted publickey"))
        .collect();
    let from = format!(" from {gate} port ");
    assert!(!logins.is_empty(), "{log}");
    assert!(
        logins.iter().all(|line| line.contains(&from)),
        "past the jump host: {log}"
    );

    for dead in [1, 2] {
        cluster.set.hosts[dead].die();
    }
    terminal.eventually("a dead majority", |picture| {
        let is_alone = says(picture, 1, "candidate") || says(picture, 1, "follower");
        is_alone && picture.contains("RaftkvNoLease") && !says(picture, 2, "leader")
    });
    for (key, is_paused) in [("p", true), ("r", false)] {
        for press in ["1", key, "y"] {
            terminal.press(press);
        }
        terminal.eventually("the one that is left, as it is told", |picture| {
            says(picture, 1, "paused") == is_paused
        });
    }
    for dead in [1, 2] {
        cluster.set.revive(dead);
    }
    cluster.raftctl(&["up"]).ok();
    terminal.eventually("a leader again", |picture| {
        (1..=3).all(|id| says(picture, id, "leader") || says(picture, id, "follower"))
    });
    terminal.press("q");
    terminal.is_given_back();
}

// Many calls at once share one connection, also where the server allows one session at a time: none
// fails, and no other connection is left over.
fn one_session_at_a_time_is_enough() {
    const CALLS: usize = 5;
    let cluster = RemoteCluster::new(1, ROOT);
    let host = &cluster.set.hosts[0];
    host.configure_sshd("MaxSessions 1");
    let start = |_| {
        let mut raftctl = command(cluster.folder(), &["exec", "1", "--", "echo here"]);
        raftctl
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let calls: Vec<_> = (0..CALLS).map(start).collect();
    for call in calls {
        let output = call.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"node 1: here\n");
    }
    let connections = || {
        let count = "ps -C sshd -o args= | grep -c '^sshd: root' || :";
        host.must_run(count).parse::<usize>().unwrap()
    };
    let started = Instant::now();
    // A session that has just ended may still be on its way out.
    while connections() > 1 {
        assert!(
            started.elapsed() < PATIENCE,
            "{} connections",
            connections()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(connections(), 1);
}

// A login that runs no commands and says nothing is told all the same, and so is a folder that lets no
// programs run.
fn silence_and_a_home_without_programs_are_told() {
    let cluster = RemoteCluster::new(1, PLAIN);
    let host = &cluster.set.hosts[0];
    host.must_run("mount -t tmpfs -o noexec,mode=755 tmpfs /home/plain");
    host.must_run(
        "mkdir -p -m 700 /home/plain/.ssh && cp /root/.ssh/authorized_keys /home/plain/.ssh/ && \
         chown -R plain: /home/plain",
    );
    let up = cluster.raftctl(&["up"]).code(20);
    assert!(
        up.stderr.contains("lets no programs run (noexec)"),
        "{up:?}"
    );
    // The command that it names ends that, as it stands there.
    host.must_run(&quoted(&up.stderr, "mount -o "));
    cluster.raftctl(&["up"]).ok();
    host.must_run("sed -i '/^plain:/s,/bin/bash,/bin/false,' /etc/passwd");
    // A connection that is open keeps the shell that the login had.
    host.cut_sessions();
    let exec = cluster.raftctl(&["exec", "1", "--", "true"]).code(10);
    assert!(
        exec.stderr.contains("its login shell runs no commands"),
        "{exec:?}"
    );
    assert!(
        exec.stderr.contains("without a word, as /bin/false does"),
        "{exec:?}"
    );
}
