//! What raftctl shows to people, where more than a Rust toolchain is needed to look at it: a terminal, a
//! browser.

#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../local/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/terminal.rs"]
mod terminal;
mod timeline;
mod top;

use std::process::ExitCode;

use harness::Program;

fn main() -> ExitCode {
    let tests = [timeline::tests(), top::tests()];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools");
    Program::new(folder, tests.concat()).run()
}
