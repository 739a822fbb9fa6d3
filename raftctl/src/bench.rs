//! The load generator.

use crate::cli::Options;
use crate::error::{Error, Result};
use crate::ops::Context;

/// The flags of `bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {}

/// Runs it.
///
/// # Errors
/// No leader within the timeout, invalid input.
pub async fn run(context: &Context, options: &Options, arguments: Arguments) -> Result<()> {
    let _ = (context, options, arguments);
    Err(Error::Other("not available".into()))
}
