//! Scenarios: files of steps and expectations, run against a cluster.

use crate::cli::Options;
use crate::error::{Error, Result};
use crate::ops::Context;

/// The flags of `scenario`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {}

/// Runs it.
///
/// # Errors
/// A scenario that failed, or one that can't be read.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    let _ = (context, options, arguments);
    Err(Error::Other("not available".into()))
}
