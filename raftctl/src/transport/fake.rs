//! A host of a test, which does with each script what the test says.

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::local::LocalTransport;
use super::{BoxFuture, Exit, Request, Transport};
use crate::error::TransportError;

/// What becomes of a script.
pub enum Answer {
    /// It was run, and this came of it.
    Ran {
        /// What it printed.
        stdout: String,
        /// What it said on standard error.
        stderr: String,
        /// Its exit status.
        status: i32,
    },
    /// This one is run on this machine in its place.
    Instead(String),
}

/// The host, as a function from a script to what becomes of it, or why it did not get there.
pub struct Fake<F>(pub &'static str, pub F);

impl<F> Transport for Fake<F>
where
    F: Fn(&Request<'_>) -> Result<Answer, TransportError> + Send + Sync,
{
    fn host(&self) -> &str {
        self.0
    }

    fn execute<'a>(
        &'a self,
        request: Request<'a>,
        stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<Exit, TransportError>> {
        Box::pin(async move {
            match (self.1)(&request)? {
                Answer::Ran {
                    stdout: text,
                    stderr,
                    status,
                } => {
                    stdout.write_all(text.as_bytes()).await.unwrap();
                    Ok(Exit { status, stderr })
                }
                Answer::Instead(script) => {
                    let request = Request {
                        script: &script,
                        ..request
                    };
                    LocalTransport.execute(request, stdout).await
                }
            }
        })
    }
}
