//! raftctl drives real Terraform: plans, refusals, failures in Terraform's own words, Ctrl-C.
//! Instances are entries in a file here; `machines` puts hosts behind them.

mod down;
mod ended;
mod plans;
mod shared;
mod starts;
mod strays;

use std::io::Read;
use std::process::{Child, Stdio};

use crate::cloud::Cloud;
use harness::Test;
use rustix::process::Signal;

pub fn tests() -> Vec<Test> {
    [
        down::tests(),
        ended::tests(),
        plans::tests(),
        shared::tests(),
        starts::tests(),
        strays::tests(),
    ]
    .concat()
}

const FIVE: &str = "\
name: demo
provider: gcp
timing: wan
nodes: 5
binary: /bin/true
gcp:
  project: my-project
  zones: [us-central1-a, us-central1-b, us-east1-b]
  ssh_via: external
  operator_cidrs: [127.0.0.1/32]
  lifetime: 12h
";

/// A Google that holds nothing, whose lists need no gcloud to start: it is Terraform that is tested here.
fn made_of(yaml: &str) -> Cloud {
    let cloud = Cloud::new(yaml);
    cloud.list_quickly();
    cloud
}

/// `raftctl down` with a terminal of its own, whose exit code is passed on.
fn down_on_a_terminal(cloud: &Cloud) -> Child {
    // In the shell's place: some shells wait for it, are interrupted as well, and end with 130.
    let down = format!("exec {} down", env!("CARGO_BIN_EXE_raftctl"));
    let terminal = ["--foreground", "600", "script", "-qec", &down, "/dev/null"];
    let mut terminal = cloud.program("timeout", &terminal);
    terminal.stdin(Stdio::piped()).spawn().unwrap()
}

/// What is written until some words come.
fn read_until(from: &mut impl Read, words: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(words.as_bytes()) {
        let said = String::from_utf8_lossy(&text);
        assert_eq!(from.read(&mut byte).unwrap(), 1, "it ends with {said}");
        text.extend(byte);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn interrupt(pid: u32) {
    signal(pid, Signal::INT);
}

fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
