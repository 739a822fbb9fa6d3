//! `raft-node`: one node of the store. All of it is in the library beside; this only hands over the
//! exit code.

use std::process::ExitCode;

/// A request is some dozen small allocations, and glibc's malloc takes an eighth of a node's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    raft_node::process::main()
}
