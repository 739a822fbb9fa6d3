//! Starting gcloud, the one place for it: what it reads from the environment, what counts as an
//! answer, and when it is asked again.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::Gcloud;
use crate::error::{Error, Result};
use crate::providers::gcp::causes::{Cause, Names};
use crate::providers::gcp::environment;

/// A machine that does not react to the power button is cut off by Google after 90 s.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(300);

/// A question takes a second; the first one after an update of gcloud some more, and on a busy machine
/// each of several that start together takes a minute.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(120);

/// When it is said that one takes long, and how often again: nobody waits longer without a word.
const TELL: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// How often a question is asked once more: whoever looks on waits 7 s at most for it.
const QUESTION_AGAIN_MAX: u32 = 3;

/// How often a change is tried once more, 31 s in all: half of it done is worse than a wait.
const CHANGE_AGAIN_MAX: u32 = 5;

/// The first pause; each is twice the one before.
const PAUSE: Duration = Duration::from_secs(1);

/// One call of gcloud.
pub(super) struct Call<'a> {
    /// What it is for: "list the machines".
    purpose: &'a str,
    arguments: &'a [&'a str],
    time_max: Duration,
    again_max: u32,
    /// Whether to add the project of the cluster.
    in_project: bool,
}

impl<'a> Call<'a> {
    /// A question, which changes nothing.
    pub(super) fn question(purpose: &'a str, arguments: &'a [&'a str]) -> Self {
        Call {
            purpose,
            arguments,
            time_max: QUESTION_TIME_MAX,
            again_max: QUESTION_AGAIN_MAX,
            in_project: true,
        }
    }

    /// A change that may be done twice: it names what it changes, and what it makes of it.
    pub(super) fn change(purpose: &'a str, arguments: &'a [&'a str]) -> Self {
        Call {
            time_max: CHANGE_TIME_MAX,
            again_max: CHANGE_AGAIN_MAX,
            ..Call::question(purpose, arguments)
        }
    }

    /// The same with a project of its own among the arguments, or with none.
    pub(super) fn anywhere(self) -> Self {
        Call {
            in_project: false,
            ..self
        }
    }
}

impl Gcloud {
    /// Calls gcloud, and again for a while where Google asks for that.
    ///
    /// # Errors
    /// gcloud is missing or fails; what it tells is not all.
    pub(super) async fn run(&self, call: &Call<'_>) -> Result<String> {
        let deadline = Instant::now() + call.time_max;
        let mut asked = 0;
        loop {
            let cause = match Box::pin(self.once(call, deadline)).await? {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            let pause = pause(asked, rand::random());
            let is_passing = matches!(cause, Cause::Passing(_));
            if !is_passing || asked == call.again_max || Instant::now() + pause >= deadline {
                return Err(self.failed(call, &cause));
            }
            asked += 1;
            (self.tell)(&format!(
                "{}: {cause}; again in {} s",
                call.purpose,
                pause.as_secs_f64().ceil()
            ));
            tokio::time::sleep(pause).await;
        }
    }

    /// Calls gcloud once.
    async fn once(&self, call: &Call<'_>, deadline: Instant) -> Result<Result<String, Cause>> {
        let purpose = call.purpose;
        let mut command = self.command(call);
        let output = tokio::time::timeout_at(deadline, command.output());
        let time_max = call.time_max.as_secs();
        let tell = |waited: Duration| {
            (self.tell)(&format!(
                "{purpose}: no answer from Google for {} s; it is given {time_max} s",
                waited.as_secs()
            ));
        };
        match wait_and_tell(output, TELL, tell).await {
            Ok(Ok(output)) => Ok(answer(&output)),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::Cloud(format!(
                    "cannot {purpose}: gcloud is not installed; get it at https://cloud.google.com/sdk/docs/install"
                )))
            }
            Ok(Err(error)) => Err(Error::Cloud(format!("cannot {purpose}: gcloud: {error}"))),
            Err(_) => Err(Error::Cloud(format!(
                "cannot {purpose}: no answer from Google within {time_max} s; see \
                     https://status.cloud.google.com and run this again"
            ))),
        }
    }

    fn command(&self, call: &Call<'_>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("gcloud");
        command.args(call.arguments);
        if call.in_project {
            command.arg(format!("--project={}", self.project));
        }
        command
            .arg("--quiet")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        environment::for_gcloud(&mut command);
        command
    }

    fn failed(&self, call: &Call<'_>, cause: &Cause) -> Error {
        let names = Names {
            project: &self.project,
            // gcloud knows no state.
            terraform: "terraform",
            bucket: "",
        };
        let next = match cause {
            Cause::Other(_) => {
                let project = match call.in_project {
                    true => format!(" --project={}", self.project),
                    false => String::new(),
                };
                let arguments = call.arguments.join(" ");
                format!(
                    "`gcloud {arguments}{project} --log-http` shows what was asked and answered"
                )
            }
            known => known.next(&names),
        };
        Error::Cloud(format!("cannot {}: {cause}\n  {next}", call.purpose))
    }
}

/// Waits for something; `tell` hears how long that takes: after the first time, and then every other.
pub(in crate::providers::gcp) async fn wait_and_tell<T>(
    work: impl Future<Output = T>,
    [after, every]: [Duration; 2],
    mut tell: impl FnMut(Duration),
) -> T {
    let mut work = std::pin::pin!(work);
    let since = Instant::now();
    let mut next = since + after;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep_until(next) => {
                tell(next - since);
                next += every;
            }
        }
    }
}

/// What gcloud answered. An older one warns of what it did not find out, and ends well.
fn answer(output: &Output) -> Result<String, Cause> {
    let said = String::from_utf8_lossy(&output.stderr);
    let is_partial = said.contains("Some requests did not succeed");
    if output.status.success() && !is_partial {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Cause::of(&said))
}

/// How long to wait before asking again: doubled each time, and up to a quarter longer, so that not
/// all who were refused come back at once. `luck` is any number.
fn pause(asked: u32, luck: u32) -> Duration {
    let whole = PAUSE * 2_u32.saturating_pow(asked.min(CHANGE_AGAIN_MAX));
    whole + whole.mul_f64(f64::from(luck) / f64::from(u32::MAX) / 4.0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    // What is waited in all is bounded, and no pause is shorter than the one before.
    #[test]
    fn pauses_grow_and_end() {
        let in_all: Duration = (0..CHANGE_AGAIN_MAX).map(|asked| pause(asked, 0)).sum();
        assert_eq!(in_all, Duration::from_secs(31));
        let longest: Duration = (0..CHANGE_AGAIN_MAX)
            .map(|asked| pause(asked, u32::MAX))
            .sum();
        assert!(longest < Duration::from_secs(39), "{longest:?}");
        assert!(pause(1, 0) > pause(0, u32::MAX));
    }

    // Whoever waits long hears of it, again and again, and of what was waited for at once.
    #[tokio::test]
    async fn a_long_wait_is_told() {
        let times = [Duration::from_millis(2), Duration::from_millis(1)];
        let (done, waiting) = tokio::sync::oneshot::channel();
        let (mut done, mut told) = (Some(done), Vec::new());
        let tell = |waited| {
            told.push(waited);
            if told.len() == 3 {
                done.take().unwrap().send("answer").unwrap();
            }
        };
        assert_eq!(wait_and_tell(waiting, times, tell).await, Ok("answer"));
        assert_eq!(told, [2, 3, 4].map(Duration::from_millis));
        let tell = |_| panic!("nobody waits");
        assert_eq!(wait_and_tell(async { 1 }, times, tell).await, 1);
    }

    // A list that is not whole is none, also where gcloud ends well with it: an empty list must mean
    // that nothing is there.
    #[test]
    fn half_a_list_is_none() {
        let output = |code: i32, stderr: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: b"[]".to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        };
        let silent = "WARNING: Some requests did not succeed.\n - Some resources of zones/us-central1-a could not be \
                      reached.\n";
        let cause = answer(&output(0, silent)).unwrap_err();
        assert_eq!(cause, Cause::PlaceSilent("us-central1-a".into()));
        let unused = "WARNING: The following filter keys were not present in any resource : labels.raft-cluster\n";
        assert_eq!(answer(&output(0, unused)), Ok("[]".into()));
        assert!(answer(&output(1, "ERROR: (gcloud) no")).is_err());
    }
}
