//! The node's process: flags in, exit code out.
//!
//! 0: stopped by SIGTERM or SIGINT. 2: wrong usage. 1: anything else, with one line on standard
//! error that says what. A panic is a bug: the process is aborted, because a node of which one
//! part has died must not go on with the rest.

use clap::Parser;
use clap::error::ErrorKind;
use raft_node::flags::{Flags, Settings};
use std::io::stderr;
use std::process::{ExitCode, abort};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    abort_on_panic();
    let settings = settings();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(false)
        .init();
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raft-node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        abort();
    }));
}

/// Ends the process where the arguments are wrong.
fn settings() -> Settings {
    let arguments = argfile::expand_args(argfile::parse_fromfile, argfile::PREFIX);
    let arguments = arguments.unwrap_or_else(|error| {
        let message = format!("a file of arguments can't be read: {error}\n");
        clap::Error::raw(ErrorKind::Io, message).exit()
    });
    let flags = Flags::parse_from(arguments);
    flags.into_settings().unwrap_or_else(|message| {
        clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n")).exit()
    })
}

/// On one thread: beside it there are those of the disk and of the dump.
fn run(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(raft_node::server::run(settings))?)
}
