//! `raftctl top` in a real terminal, which tmux holds.

use std::process::Command;

use harness::{Test, tests};

use crate::cluster::TestCluster;
use crate::terminal::{TMUX, Terminal, says};

pub fn tests() -> Vec<Test> {
    tests!(
        [TMUX],
        a_cluster_is_watched_and_disturbed,
        the_terminal_is_given_back,
    )
}

// The nodes are seen as they are; a key and a yes kill the chosen one, which is seen as well, and without a
// majority everything that is left is still told.
fn a_cluster_is_watched_and_disturbed() {
    let cluster = TestCluster::up(3);
    let leader = cluster.leader(|_| true);
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let terminal = Terminal::start(cluster.folder(), (140, 30));
    terminal.eventually("the roles", |picture| {
        says(picture, leader, "leader") && followers.iter().all(|id| says(picture, *id, "follower"))
    });
    terminal.eventually("a promise", |picture| {
        says(picture, followers[0], &format!("node {leader} 1."))
    });
    cluster.raftctl(&["set", "a", "b"]).ok();
    terminal.eventually("memory, and a write and its flush", |picture| {
        says(picture, leader, " MiB") && says(picture, leader, "ms")
    });

    terminal.press(&followers[0].to_string());
    terminal.press("k");
    let asked = format!("Kill node {}?", followers[0]);
    terminal.eventually("the question", |picture| picture.contains(&asked));
    terminal.press("n");
    terminal.eventually("no question", |picture| !picture.contains(&asked));
    assert_ne!(cluster.pid(followers[0]), None);
    terminal.press("k");
    terminal.press("y");
    let killed = format!("node {} was killed", followers[0]);
    terminal.eventually("a dead node", |picture| {
        says(picture, followers[0], "dead") && picture.contains(&killed)
    });

    terminal.press(&leader.to_string());
    terminal.press("p");
    terminal.press("y");
    terminal.eventually("a dead majority", |picture| {
        says(picture, leader, "paused") && picture.contains("RaftkvNoLease")
    });
    assert!(
        says(&terminal.picture(), followers[1], "candidate")
            || says(&terminal.picture(), followers[1], "follower")
    );
    terminal.press("r");
    terminal.press("y");
    terminal.eventually("a leader again", |picture| {
        picture.contains("RaftkvNoLease is over")
    });

    // Cut off, the leader loses its lease; healed, somebody has one again.
    let leader = cluster.leader(|_| true);
    terminal.press(&leader.to_string());
    terminal.press("c");
    terminal.press("y");
    terminal.eventually("a cut", |picture| says(picture, leader, "cut off from"));
    terminal.press("h");
    terminal.press("y");
    terminal.eventually("no cut", |picture| {
        picture.contains("the links of 2 nodes are whole")
    });
    terminal.press("q");
    terminal.is_given_back();
}

// However it ends, the terminal is as it was: by Ctrl-C, and by SIGTERM.
fn the_terminal_is_given_back() {
    let cluster = TestCluster::up(1);
    let start = || {
        let terminal = Terminal::start(cluster.folder(), (80, 24));
        terminal.eventually("the leader", |picture| says(picture, 1, "leader"));
        let alternate = terminal.tmux(&["display-message", "-p", "#{alternate_on}"]);
        assert_eq!(alternate.trim(), "1");
        terminal
    };
    let interrupted = start();
    interrupted.press("C-c");
    interrupted.is_given_back();
    let ended = start();
    let pid = std::fs::read_to_string(ended.pid_file()).unwrap();
    let kill = Command::new("kill").args(["-TERM", pid.trim()]).status();
    assert!(kill.unwrap().success());
    ended.is_given_back();
}
