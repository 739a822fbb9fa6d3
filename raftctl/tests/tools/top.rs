//! `raftctl top` in a real terminal, which tmux holds.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Need, Test, program_is_missing, tests};
use tempfile::TempDir;

use crate::cluster::TestCluster;
use crate::support::PATIENCE;

static TMUX: Need = Need::new(|| program_is_missing("tmux", "install the package tmux"));

pub fn tests() -> Vec<Test> {
    tests!(
        [TMUX],
        a_cluster_is_watched_and_disturbed,
        the_terminal_is_given_back,
    )
}

/// A terminal with a command in it; both end with it.
struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// The command's end is written below its picture, with what the terminal is like then.
    fn start(cluster: &TestCluster, size: (u16, u16)) -> Terminal {
        let terminal = Terminal {
            folder: tempfile::tempdir().unwrap(),
        };
        let raftctl = env!("CARGO_BIN_EXE_raftctl");
        let pid = terminal.pid_file();
        let command = format!(
            "sh -c 'echo $$ > {}; exec {raftctl} top'; echo ended=$?; stty -a; exec cat",
            pid.display()
        );
        let (width, height) = (size.0.to_string(), size.1.to_string());
        let folder = cluster.folder().to_str().unwrap();
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "-c",
            folder,
            &command,
        ]);
        terminal
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S")
            .arg(self.folder.path().join("tmux"))
            .args(arguments);
        let output = tmux
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What stands there now.
    fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    #[track_caller]
    fn eventually(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let picture = self.picture();
            if is_so(&picture) {
                return picture;
            }
            assert!(started.elapsed() < PATIENCE, "never: {what}\n{picture}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// raftctl has ended as it should, and the terminal is as it was before.
    #[track_caller]
    fn is_given_back(&self) {
        let after = self.eventually("the end", |picture| picture.contains(" echo "));
        assert!(after.contains("ended=0"), "{after}");
        assert!(after.contains(" icanon"), "{after}");
        let alternate = self.tmux(&["display-message", "-p", "#{alternate_on}"]);
        assert_eq!(alternate.trim(), "0");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Whether the row of a node says so.
fn says(picture: &str, id: u64, word: &str) -> bool {
    let row = |line: &&str| line.starts_with(&format!("{id} "));
    picture
        .lines()
        .find(row)
        .is_some_and(|line| line.contains(word))
}

// The nodes are seen as they are; a key and a yes kill the chosen one, which is seen as well, and without a
// majority everything that is left is still told.
fn a_cluster_is_watched_and_disturbed() {
    let cluster = TestCluster::up(3);
    let leader = cluster.leader(|_| true);
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let terminal = Terminal::start(&cluster, (140, 30));
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
        let terminal = Terminal::start(&cluster, (80, 24));
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
