//! The module under real Terraform and its stand-in for Google, the stand-in under the real gcloud, and
//! the startup script on a real disk.

mod module;
mod readme;
mod rest;
mod settings;
mod standin;
mod startup;
mod support;

use std::process::ExitCode;

use harness::Program;

fn main() -> ExitCode {
    let tests = [
        module::tests(),
        readme::tests(),
        rest::tests(),
        settings::tests(),
        standin::tests(),
        startup::tests(),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    Program::new(folder, tests.concat()).run()
}
