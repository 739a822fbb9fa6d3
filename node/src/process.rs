//! The node's process: flags in, exit code out.
//!
//! 0: stopped by SIGTERM or SIGINT. 2: wrong usage. 3: the files, or what the other nodes say,
//! contradict what this node knows: to start it again changes nothing before an operator has
//! decided. 1: anything else. With one line on standard error that says what.
//!
//! A panic is a bug: the process is aborted, because a node of which one part has died must not go
//! on with the rest.

use crate::flags::{Flags, Settings};
use crate::server::{self, Failure};
use crate::tools;
use crate::witness;
use clap::Parser;
use clap::error::ErrorKind;
use std::io::stderr;
use std::process::{ExitCode, abort};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A supervisor must not start the node again by itself.
const NEEDS_DECISION: u8 = 3;

/// All of the process, from its arguments to its exit code. Not async, so that the code of the whole node
/// is made with this library, and not again with each program.
pub fn main() -> ExitCode {
    abort_on_panic();
    if witness::is_asked_for(std::env::args_os()) {
        return witness::main();
    }
    if tools::is_asked_for(std::env::args_os()) {
        return tools::main();
    }
    let settings = settings();
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.and_then(|wanted| wanted.parse::<Targets>().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(wanted.unwrap_or(Targets::new().with_default(LevelFilter::INFO)))
        .init();
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raft-node: {error}");
            match error
                .downcast_ref::<Failure>()
                .is_some_and(Failure::is_final)
            {
                true => ExitCode::from(NEEDS_DECISION),
                false => ExitCode::FAILURE,
            }
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
    Ok(runtime.block_on(server::run(settings))?)
}
