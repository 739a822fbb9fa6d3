//! This machine as a host: scripts run in a child `sh`.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::{BoxFuture, Exit, Request, STDERR_BYTES_MAX, Transport, feed};
use crate::error::TransportError;

/// Runs scripts on the machine that raftctl runs on.
#[derive(Debug, Default)]
pub struct LocalTransport;

impl LocalTransport {
    /// How this host is called in messages.
    pub const HOST: &str = "this machine";
}

impl Transport for LocalTransport {
    fn host(&self) -> &str {
        Self::HOST
    }

    fn execute<'a>(
        &'a self,
        request: Request<'a>,
        stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<Exit, TransportError>> {
        Box::pin(async move {
            let child = Command::new("sh")
                .arg("-c")
                .arg(request.script)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                // A group of its own: Ctrl-C reaches raftctl alone, which decides what is undone,
                // and giving up ends all that the script had started in the foreground.
                .process_group(0)
                .spawn()
                .map_err(|error| TransportError::Unreachable {
                    host: Self::HOST.into(),
                    cause: format!("cannot start sh: {error}"),
                })?;
            let mut stderr = Vec::new();
            let run = attend(child, &request, stdout, &mut stderr);
            match tokio::time::timeout(request.deadline, run).await {
                Ok(result) => Ok(Exit {
                    status: result?,
                    stderr: String::from_utf8_lossy(&stderr).into_owned(),
                }),
                Err(_) => Err(TransportError::Deadline {
                    host: Self::HOST.into(),
                    purpose: request.purpose.into(),
                    deadline: request.deadline,
                    stderr: String::from_utf8_lossy(&stderr).into_owned(),
                }),
            }
        })
    }
}

/// Ends a script's process group when dropped before the script's end was seen.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // ESRCH: all of the group is gone, which is what is wanted. The leader has not been
            // waited for, so its number can't belong to anyone else.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Feeds and drains a child until it ends; its exit status.
async fn attend(
    mut child: Child,
    request: &Request<'_>,
    stdout: &mut (dyn AsyncWrite + Send + Unpin),
    stderr: &mut Vec<u8>,
) -> Result<i32, TransportError> {
    let answer_error = |error: std::io::Error| TransportError::Answer {
        host: LocalTransport::HOST.into(),
        purpose: request.purpose.into(),
        cause: error.to_string(),
    };
    let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut group = Group(leader);
    let mut input = child.stdin.take().expect("stdin was asked to be piped");
    let mut output = child.stdout.take().expect("stdout was asked to be piped");
    let mut errors = child.stderr.take().expect("stderr was asked to be piped");
    let feeding = async {
        let fed = feed(request, &mut input).await;
        drop(input); // The script sees the end of its input.
        fed
    };
    let copying = async {
        tokio::io::copy(&mut output, stdout).await?;
        stdout.flush().await
    };
    tokio::try_join!(feeding, copying, keep_end(&mut errors, stderr)).map_err(answer_error)?;
    let status = child.wait().await.map_err(answer_error)?;
    group.0 = None;
    Ok(exit_status(status))
}

/// Reads to the end, keeping only the last [`STDERR_BYTES_MAX`] bytes.
pub(crate) async fn keep_end(
    from: &mut (dyn AsyncRead + Send + Unpin),
    kept: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        kept.extend_from_slice(&piece[..count]);
        if kept.len() > STDERR_BYTES_MAX {
            kept.drain(..kept.len() - STDERR_BYTES_MAX);
        }
    }
}

fn exit_status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        // A process that was waited for has ended in one of the two ways.
        (None, None) => 255,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn local() -> Box<dyn Transport> {
        Box::new(LocalTransport)
    }

    // A script gets its input, and both of its outputs and its exit status come back.
    #[tokio::test]
    async fn a_script_runs_with_input_and_answers() {
        let script = "cat; echo oops >&2; exit 7";
        let request = Request::new("test", script, DEADLINE).with_stdin(Arc::from(*b"in\n"));
        let output = local().run(request).await.unwrap();
        assert_eq!(
            (output.status, &*output.stdout, &*output.stderr),
            (7, "in\n", "oops\n")
        );
    }

    // A script that hangs costs its deadline, no more, and what it said is not lost.
    #[tokio::test]
    async fn a_hanging_script_is_given_up() {
        let started = Instant::now();
        let script = "echo waiting for godot >&2; sleep 60";
        let request = Request::new("hang", script, Duration::from_millis(300));
        let error = local().run(request).await.unwrap_err();
        assert!(matches!(&error, TransportError::Deadline { stderr, .. }
            if stderr.contains("godot")));
        assert!(started.elapsed() < Duration::from_secs(20), "{error}");
    }

    // A process that a script leaves behind does not keep the caller waiting.
    #[tokio::test]
    async fn a_process_left_behind_does_not_hold_the_caller() {
        let started = Instant::now();
        let script = "sleep 60 </dev/null >/dev/null 2>&1 & echo left";
        let output = local().run(Request::new("leave", script, DEADLINE)).await;
        assert_eq!(output.unwrap().stdout, "left\n");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    // A script that does not read its input, however much, still gives its answer.
    #[tokio::test]
    async fn unread_input_is_no_error() {
        let request =
            Request::new("ignore", "exit 3", DEADLINE).with_stdin(Arc::from(vec![b'x'; 4 << 20]));
        assert_eq!(local().run(request).await.unwrap().status, 3);
    }

    // An endless answer is refused, not kept in memory.
    #[tokio::test]
    async fn an_endless_answer_is_refused() {
        let script = "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done";
        let error = local().run(Request::new("flood", script, DEADLINE)).await;
        assert!(matches!(error, Err(TransportError::Answer { .. })));
    }
}
