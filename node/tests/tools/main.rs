//! The node as a process, where more than a Rust toolchain is needed to try it.

#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../support/authority.rs"]
mod authority;
#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../process/cluster.rs"]
mod cluster;
mod examples;
mod full_disks;
mod metrics;
#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../process/scraping.rs"]
mod scraping;
#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../process/secured.rs"]
mod secured;
mod watchdog;

use std::process::ExitCode;

use harness::Program;

/// Runs a test that waits for others, on a runtime of its own.
fn on_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

fn main() -> ExitCode {
    let tests = [
        examples::tests(),
        full_disks::tests(),
        metrics::tests(),
        watchdog::tests(),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools");
    Program::new(folder, tests.concat()).run()
}
