//! A script in an envelope.
//!
//! A login shell may print before it runs what it was asked to (a `.bashrc` that greets), and a
//! connection that breaks looks much like a command that failed. So what is sent marks the
//! beginning of the script's output with a line that nobody else can know, and ends with another
//! that holds the exit status. Without the second, the end has not been seen.
//!
//! A login shell need not be a POSIX shell either: csh allows no line break between quotes, fish reads
//! a quote within quotes in its own way. So the script travels in base64, where there is nothing to
//! misread, and in several words, which may be short then; what is around that reads the same in all of
//! them.

use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWrite;

use crate::scripts::shell::quote;

/// With whose rights a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Root's, where the login is root's or `sudo` gives them without a password; else the login's.
    Best,
    /// Those of the login.
    Login,
    /// Root's, by `sudo`.
    Sudo,
}

/// What an unpolluted answer begins with at most: a login shell that prints more than this is
/// given up.
const NOISE_BYTES_MAX: usize = 256 << 10;

/// The longest word that a login shell is given: BSD's csh takes none of 8 KiB.
const WORD_BYTES_MAX: usize = 4000;

/// One script on its way.
pub struct Envelope {
    mark: String,
}

impl Envelope {
    /// A new one, with a mark of its own.
    #[must_use]
    pub fn new() -> Self {
        Envelope {
            mark: format!("raftctl-{:016x}", rand::random::<u64>()),
        }
    }

    /// What the login shell is given.
    #[must_use]
    pub fn command(&self, script: &str, rights: Rights) -> String {
        // What sudo itself says comes before the mark, as what a login shell says.
        let run = match rights {
            Rights::Login => r#"sh -c "$1" sh "$2""#,
            Rights::Sudo => r#"sudo -n sh -c "$1" sh "$2""#,
            Rights::Best => {
                r#"if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then sudo -n sh -c "$1" sh "$2"; else sh -c "$1" sh "$2"; fi"#
            }
        };
        let mark = &self.mark;
        let begin = format!(r#"printf "\n{mark}\n"; printf "\n{mark}\n" >&2; exec sh -c "$1""#);
        let outer = format!(
            "set -- {} {}; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; \
             {run}; printf \"\\n{mark} %d\\n\" $? >&2",
            quote(&begin),
            quote(script)
        );
        let wrapped = STANDARD.encode(outer);
        let words = wrapped.as_bytes().chunks(WORD_BYTES_MAX);
        // It is base64, and so in one piece wherever it is cut.
        let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
        let words = words.join(" ");
        format!(r#"exec sh -c 'eval "$(printf %s "$@" | base64 -d)"' sh {words}"#)
    }

    /// A filter for standard output that lets the script's own output pass to `sink`.
    pub fn filter<'a>(&self, sink: &'a mut (dyn AsyncWrite + Send + Unpin)) -> Filter<'a> {
        Filter {
            mark: format!("\n{}\n", self.mark).into_bytes(),
            noise: Some(Vec::new()),
            rest: Vec::new(),
            sink,
        }
    }

    /// Takes standard error apart.
    #[must_use]
    pub fn open(&self, stderr: &str) -> Opened {
        let begin = format!("\n{}\n", self.mark);
        let end = format!("\n{} ", self.mark);
        let (noise, text) = stderr.split_once(&begin).unwrap_or(("", stderr));
        let Some((own, trailer)) = text.rsplit_once(&end) else {
            return Opened {
                status: None,
                stderr: format!("{noise}{text}").trim().to_owned(),
            };
        };
        Opened {
            status: trailer
                .lines()
                .next()
                .and_then(|number| number.parse().ok()),
            stderr: own.to_owned(),
        }
    }
}

/// What standard error held.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The script's exit status; absent where its end has not been seen.
    pub status: Option<i32>,
    /// What the script said; where its end has not been seen, everything.
    pub stderr: String,
}

/// Lets pass what follows the mark.
pub struct Filter<'a> {
    mark: Vec<u8>,
    /// What came so far, until the mark is found.
    noise: Option<Vec<u8>>,
    /// What follows the mark in the piece that held it, and has not been passed on yet.
    rest: Vec<u8>,
    sink: &'a mut (dyn AsyncWrite + Send + Unpin),
}

impl Filter<'_> {
    /// What came in place of the script's output, where the script never began.
    #[must_use]
    pub fn noise(&self) -> Option<String> {
        let noise = self.noise.as_ref()?;
        Some(String::from_utf8_lossy(noise).trim().to_owned())
    }

    fn pass_rest(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.rest.is_empty() {
            match Pin::new(&mut *self.sink).poll_write(context, &self.rest) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(count)) => drop(self.rest.drain(..count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Filter<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        std::task::ready!(self.pass_rest(context))?;
        let this = &mut *self;
        let Some(noise) = &mut this.noise else {
            return Pin::new(&mut *this.sink).poll_write(context, bytes);
        };
        noise.extend_from_slice(bytes);
        let found = noise
            .windows(this.mark.len())
            .position(|part| part == this.mark);
        if let Some(at) = found {
            this.rest = noise.split_off(at + this.mark.len());
            this.noise = None;
        } else if noise.len() > NOISE_BYTES_MAX {
            let message = "the login shell prints without end";
            return Poll::Ready(Err(std::io::Error::other(message)));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.pass_rest(context))?;
        Pin::new(&mut *self.sink).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::task::ready!(self.pass_rest(context))?;
        Pin::new(&mut *self.sink).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tokio::io::AsyncWriteExt;

    use super::*;

    // A real shell that greets first and a script with every kind of quote in it: only the
    // script's own output and status come out, in whatever pieces they arrive.
    #[tokio::test]
    async fn only_the_script_speaks() {
        let envelope = Envelope::new();
        let script = "echo \"it's\" '\"$HOME\"'; echo oops >&2; exit 7";
        let command = envelope.command(script, Rights::Login);
        let greeting = "echo Welcome!; printf 'last login' >&2; ";
        let output = Command::new("sh")
            .args(["-c", &format!("{greeting}{command}")])
            .output();
        let output = output.unwrap();
        let opened = envelope.open(&String::from_utf8_lossy(&output.stderr));
        assert_eq!((opened.status, &*opened.stderr), (Some(7), "oops\n"));
        for piece_bytes in [1, 7, 4096] {
            let mut own = Vec::new();
            let mut filter = envelope.filter(&mut own);
            for piece in output.stdout.chunks(piece_bytes) {
                filter.write_all(piece).await.unwrap();
            }
            filter.flush().await.unwrap();
            assert_eq!(filter.noise(), None);
            assert_eq!(String::from_utf8(own).unwrap(), "it's \"$HOME\"\n");
        }
    }

    // Whatever shell a login has: those that are there of the ones that are asked for under CI.
    #[test]
    fn login_shells_need_not_be_posix() {
        let script = "quoted() { echo \"it's\" '!x' '\\' \"'\"; }\n! quoted || exit 9\n";
        // As long as the longest that raftctl has.
        let script = format!("{}{script}", "# something to skip over\n".repeat(2000));
        for shell in ["sh", "bash", "dash", "bsd-csh", "tcsh", "fish"] {
            let envelope = Envelope::new();
            let command = envelope.command(&script, Rights::Login);
            let output = match Command::new(shell).args(["-c", &command]).output() {
                Ok(output) => output,
                Err(_) if std::env::var_os("CI").is_none() => {
                    eprintln!("LEFT OUT: {shell} is not installed");
                    continue;
                }
                Err(error) => panic!("{shell}: {error}"),
            };
            let opened = envelope.open(&String::from_utf8_lossy(&output.stderr));
            assert_eq!((opened.status, &*opened.stderr), (Some(9), ""), "{shell}");
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.ends_with("\nit's !x \\ '\n"), "{shell}: {said}");
        }
    }

    // A login shell that refuses shows what it said; a script that was cut off has no status.
    #[tokio::test]
    async fn a_missing_beginning_or_end_is_seen() {
        let envelope = Envelope::new();
        let mut own = Vec::new();
        let mut filter = envelope.filter(&mut own);
        filter
            .write_all(b"This account is not available.\n")
            .await
            .unwrap();
        assert_eq!(filter.noise().unwrap(), "This account is not available.");
        let cut = format!("\n{}\nhalf a wo", envelope.mark);
        let opened = envelope.open(&cut);
        assert_eq!((opened.status, &*opened.stderr), (None, "half a wo"));
    }
}
