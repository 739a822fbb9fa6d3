//! `raft-node`: one node of the store. All of it is in the library beside; this only hands over the
//! exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    raft_node::process::main()
}
