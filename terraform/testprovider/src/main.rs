//! Serves the stand-in for Google until it is ended, and prints how Terraform attaches to it.
//!
//! The first line on standard output is the value for `TF_REATTACH_PROVIDERS`; the second the
//! address of the Compute REST API, for `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE`.

use std::collections::VecDeque;
use std::process::ExitCode;

use testprovider::hook::Hook;
use testprovider::server::{Options, bind};

const USAGE: &str = "usage: terraform-testprovider [--listen HOST:PORT] [--state FILE] [--faults FILE] \
[--hook COMMAND]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1).collect()) {
        Ok(options) => options,
        Err(cause) => {
            eprintln!("{cause}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("terraform-testprovider: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: VecDeque<String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(flag) = arguments.pop_front() {
        let value = arguments
            .pop_front()
            .ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--listen" => options.listen = Some(value),
            "--state" => options.state = Some(value.into()),
            "--faults" => options.faults = Some(value.into()),
            "--hook" => options.hook = Hook::Command(value),
            _ => return Err(format!("unknown option {flag}")),
        }
    }
    Ok(options)
}

async fn serve(options: Options) -> Result<(), String> {
    let bound = bind(options).await?;
    println!("{}\n{}", bound.reattach(), bound.compute_endpoint());
    // Ended by a signal.
    bound
        .serve(std::future::pending())
        .await
        .map_err(|error| error.to_string())
}
