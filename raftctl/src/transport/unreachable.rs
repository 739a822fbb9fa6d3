//! A host that can't be talked to, with the reason.
//!
//! It stands in an inventory like any other, so that whoever works on many hosts is told of it as
//! of one that fails, and nobody waits for it a second time.

use tokio::io::AsyncWrite;

use super::{BoxFuture, Exit, Request, Transport};
use crate::error::TransportError;

/// A host on which nothing can be run.
pub struct Unreachable {
    name: String,
    /// How to log in by hand, where that may help.
    shell: Option<Vec<String>>,
    why: TransportError,
}

impl Unreachable {
    /// A host that the operator knows as `name`.
    #[must_use]
    pub fn new(name: String, shell: Option<Vec<String>>, why: TransportError) -> Self {
        Unreachable { name, shell, why }
    }
}

impl Transport for Unreachable {
    fn host(&self) -> &str {
        &self.name
    }

    fn shell_command(&self) -> Option<Vec<String>> {
        self.shell.clone()
    }

    fn execute<'a>(
        &'a self,
        _: Request<'a>,
        _: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<Exit, TransportError>> {
        Box::pin(async { Err(self.why.clone()) })
    }
}
