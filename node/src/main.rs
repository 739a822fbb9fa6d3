//! `raft-node`: one node of the store. All of it is in the library beside; this only hands over the
//! exit code.

use std::process::ExitCode;

/// A request is some dozen small allocations, and glibc's malloc takes an eighth of a node's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The kernel would give the allocator two megabytes where it wants a page: with values that come and go a node
    // becomes half as large again, and one that joins spends half of its time on clearing memory. Where this is
    // refused, it is only larger.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    raft_node::process::main()
}
