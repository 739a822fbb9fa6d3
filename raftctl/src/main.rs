//! `raftctl`: puts a Raft key-value cluster on real machines, and operates it. All of it is in the
//! library beside; this only hands over the command line and the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftctl::main()
}
