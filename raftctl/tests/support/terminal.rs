//! `raftctl top` in a real terminal, which tmux holds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Need, program_is_missing};
use tempfile::TempDir;

use crate::support::PATIENCE;

/// What such a terminal needs.
pub static TMUX: Need = Need::new(|| program_is_missing("tmux", "install the package tmux"));

/// A terminal with a command in it; both end with it.
pub struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// The command's end is written below its picture, with what the terminal is like then.
    pub fn start(folder: &Path, size: (u16, u16)) -> Terminal {
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
        let folder = folder.to_str().unwrap();
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

    pub fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    pub fn tmux(&self, arguments: &[&str]) -> String {
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
    pub fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    #[track_caller]
    pub fn eventually(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
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
    pub fn is_given_back(&self) {
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
pub fn says(picture: &str, id: u64, word: &str) -> bool {
    let row = |line: &&str| line.starts_with(&format!("{id} "));
    picture
        .lines()
        .find(row)
        .is_some_and(|line| line.contains(word))
}
