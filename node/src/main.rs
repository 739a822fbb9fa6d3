//! `raft-node`: one node of the store. All of it is in the library beside; this only hands over the
//! exit code.

use std::process::ExitCode;

/// A request is some dozen small allocations, and glibc's malloc takes an eighth of a node's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // With them the allocator's memory is filled two megabytes at a time: half as much again, for values that come
    // and go, and a new node's time goes into clearing it. Where that can't be switched off, it is only larger.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    raft_node::process::main()
}
