//! Clusters on Google Cloud with real Terraform and real gcloud; Google itself is a stand-in.

mod backups;
mod bucket;
mod by_hand;
mod check;
mod cloud;
mod company;
mod each_kind;
mod farm;
mod host_keys;
mod iap;
mod interrupted;
mod machines;
mod members;
mod members_beside;
mod provider;
mod refused;
mod rules;
#[allow(dead_code, reason = "the operator here has another environment")]
#[path = "../support/mod.rs"]
mod support;
mod systemd;
mod terraform;
mod times;

use std::process::ExitCode;

use harness::Program;

fn main() -> ExitCode {
    let tests = [
        machines::tests(),
        backups::tests(),
        bucket::tests(),
        by_hand::tests(),
        check::tests(),
        company::tests(),
        each_kind::tests(),
        host_keys::tests(),
        iap::tests(),
        interrupted::tests(),
        members::tests(),
        members_beside::tests(),
        provider::tests(),
        refused::tests(),
        rules::tests(),
        systemd::tests(),
        terraform::tests(),
        times::tests(),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud");
    Program::new(folder, tests.concat()).heavy().run()
}
