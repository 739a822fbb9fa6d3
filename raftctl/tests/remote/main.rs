//! Clusters on other machines, over SSH, driven as an operator drives them. The machines are namespaces
//! with an SSH server, or containers.

mod advice;
mod cluster;
mod docker;
mod hosts;
mod life;
mod load;
mod logins;
mod members;
mod others;
mod partial;
mod ssh;
#[path = "../support/mod.rs"]
mod support;
mod systemd;
#[allow(dead_code, reason = "what is tried here needs a part of it")]
#[path = "../support/terminal.rs"]
mod terminal;
mod tls;
mod trouble;
mod ways;

use std::process::ExitCode;

use harness::Program;

fn main() -> ExitCode {
    let tests = [
        hosts::tests(),
        life::tests(),
        ssh::tests(),
        docker::tests(),
        partial::tests(),
        systemd::tests(),
        tls::tests(),
        trouble::tests(),
        ways::tests(),
        advice::tests(),
        logins::tests(),
        members::tests(),
        others::tests(),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/remote");
    let program = Program::new(folder, tests.concat()).heavy();
    let program = advice::ends(program)
        .ends(&docker::CLUSTER)
        .ends(&systemd::CLUSTER);
    let hosts = life::CLUSTERS.iter();
    hosts
        .fold(program, |program, (_, cluster)| program.ends(cluster))
        .run()
}
