//! One Terraform, from its start to its end.
//!
//! It runs in a process group of its own: neither Ctrl-C in the terminal nor the terminal's end reaches it.
//! And raftctl does not pass the first interruption on while something may be in the making: Google's
//! provider asks every few seconds how far Google is, and whatever ends one of these questions makes it
//! drop what is being made, which then stands at Google and in no state. So raftctl says what is waited
//! for, and ends when Terraform has ended. Who insists gets his way: the second interruption goes to
//! Terraform as one SIGINT, the third kills it; both say what comes of it.
//!
//! What it writes goes to a file that raftctl reads along, and not through a pipe: Terraform lives on
//! when raftctl is killed, and would be ended by the broken pipe before its state is saved.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::events::{self, Diagnostic, Event};
use super::open_changes::OpenChanges;
use crate::error::{Error, Result};
use crate::local::interrupt::Interruptions;

/// Who watches a run.
pub type Watch<'a> = &'a mut (dyn FnMut(&Event) + Send);

/// What is kept of what Terraform writes: a plan of a hundred nodes is two megabytes.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// How often it is looked whether Terraform has written more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A terminal's end is told by several, and keys bounce: what comes sooner is the same interruption.
const INSIST_AFTER: Duration = Duration::from_secs(1);

/// After so long without a word it is said what is waited for, and again after the longer time.
const QUIET_MAX: Duration = Duration::from_secs(2);
const QUIET_AGAIN: Duration = Duration::from_secs(30);

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It looks, and can be ended at any time.
    Reads,
    /// It makes, changes and deletes.
    Changes,
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote beside that.
    pub stderr: String,
    /// What it called wrong.
    pub problems: Vec<Diagnostic>,
    /// What it has begun.
    pub begun: OpenChanges,
    /// How often the operator asked for an end.
    pub interruptions: u32,
}

/// Where a command writes: each a file to write to, and the same to read from.
pub struct Written {
    /// Standard output.
    pub out: (File, File),
    /// Standard error.
    pub errors: (File, File),
    /// Standard input, for a file that has to stay open as long as it runs.
    pub input: Option<File>,
}

/// Runs it to its end. `again` is the command that goes on after an interruption.
///
/// # Errors
/// It can't be started, or writes what raftctl does not know.
pub async fn run(
    mut command: Command,
    effect: Effect,
    again: &str,
    files: Written,
    mut watch: Option<Watch<'_>>,
) -> Result<Outcome> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let cannot = |error: std::io::Error| Error::Cloud(format!("cannot run {program}: {error}"));
    let Written {
        out: (stdout, output),
        errors: (stderr, errors),
        input,
    } = files;
    // Before it starts, so that none is missed.
    let mut interruptions = Interruptions::new();
    let mut child = command
        .process_group(0)
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(cannot)?;
    let is_followed = watch.is_some();
    let mut following = Following::default();
    let mut asked = Asked::default();
    let mut quiet = Quiet::new(effect);
    let status = loop {
        if is_followed {
            following.read(&output, &mut watch);
            quiet.heed(&following);
            if let Some(text) = quiet.text(&following.begun) {
                say(&mut watch, text);
            }
        }
        tokio::select! {
            status = child.wait() => break status.map_err(cannot)?,
            () = interruptions.next() => {
                if let Some(text) = asked.once_more(effect, &child, again, &following.begun) {
                    say(&mut watch, text);
                }
            }
            // Nobody tells when a file has grown.
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    };
    if is_followed {
        following.end(&output, &mut watch)?;
    }
    Ok(Outcome {
        code: status.code(),
        signal: status.signal(),
        stdout: if is_followed {
            String::new()
        } else {
            read_all(&output)
        },
        stderr: read_all(&errors),
        problems: following.problems,
        begun: following.begun,
        interruptions: asked.count,
    })
}

fn say(watch: &mut Option<Watch<'_>>, text: String) {
    match watch {
        Some(watch) => watch(&Event::Note(text)),
        // The terminal may be gone.
        None => drop(writeln!(std::io::stderr(), "{text}")),
    }
}

/// How often the operator has asked for an end.
#[derive(Default)]
struct Asked {
    count: u32,
    last: Option<Instant>,
}

impl Asked {
    /// Does what the next interruption asks for; what to say of it.
    fn once_more(
        &mut self,
        effect: Effect,
        child: &Child,
        again: &str,
        begun: &OpenChanges,
    ) -> Option<String> {
        if self.last.is_some_and(|last| last.elapsed() < INSIST_AFTER) {
            return None;
        }
        self.last = Some(Instant::now());
        self.count += 1;
        let doing = match (begun.doing(), begun.to_follow()) {
            (doing, 0) if doing.is_empty() => "what was planned".to_owned(),
            (doing, count) if doing.is_empty() => format!("the {count} changes that are planned"),
            (doing, 0) => doing,
            (doing, count) => format!("{doing}, and {count} more after that"),
        };
        match (effect, self.count) {
            (Effect::Reads, 1 | 2) => {
                signal(child, Signal::INT);
                Some("interrupted; waiting for Terraform to end".into())
            }
            (Effect::Changes, 1) => Some(format!(
                "interrupted; raftctl ends when Terraform is done with {doing}\n  \
                 (Ctrl-C once more makes Terraform let go of it at once: Google goes on, and `{again}` has to look for \
                 it then)"
            )),
            (Effect::Changes, 2) => {
                signal(child, Signal::INT);
                Some(format!(
                    "Terraform is asked to let go of: {doing}; Google goes on with it, and `{again}` looks for it\n  \
                     (Ctrl-C once more kills Terraform, whose state may then lack what was done last)"
                ))
            }
            _ => {
                kill(child);
                Some(format!(
                    "Terraform is killed while at: {doing}; `{again}` looks for it"
                ))
            }
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// To Terraform alone: its providers hear of it from Terraform.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = pid(child) {
        // A process that has just ended needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// With its providers.
fn kill(child: &Child) {
    if let Some(pid) = pid(child) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Says what is waited for where Terraform does not: Google's provider tries for minutes, without a word,
/// where Google is busy or does not answer.
struct Quiet {
    effect: Effect,
    seen: usize,
    since: Instant,
    /// When it is said again.
    next: Option<Duration>,
}

impl Quiet {
    fn new(effect: Effect) -> Self {
        Quiet {
            effect,
            seen: 0,
            since: Instant::now(),
            next: None,
        }
    }

    /// Takes note of what has been heard.
    fn heed(&mut self, following: &Following) {
        if following.count != self.seen {
            *self = Quiet {
                seen: following.count,
                ..Quiet::new(self.effect)
            };
        }
    }

    fn text(&mut self, begun: &OpenChanges) -> Option<String> {
        let quiet = self.since.elapsed();
        // What is being made has a line of its own, which says that it goes on.
        let is_shown = self.effect == Effect::Changes && !begun.doing().is_empty();
        let first = if is_shown { QUIET_AGAIN } else { QUIET_MAX };
        if quiet < self.next.unwrap_or(first) {
            return None;
        }
        self.next = Some(quiet + QUIET_AGAIN);
        let seconds = quiet.as_secs();
        let at = match self.effect {
            Effect::Changes => begun.doing(),
            Effect::Reads => match begun.reading() {
                reading if reading.is_empty() => reading,
                reading => format!("look at {reading}"),
            },
        };
        let at = if at.is_empty() { at } else { format!(": {at}") };
        Some(format!(
            "Terraform has been waiting for Google for {seconds} s{at} (where Google is busy or does not answer, its \
             provider goes on trying for some minutes)"
        ))
    }
}

/// Reads lines as they are written, shows each event, and keeps what is wrong.
#[derive(Default)]
struct Following {
    /// A line that is not complete yet.
    begun_line: Vec<u8>,
    begun: OpenChanges,
    problems: Vec<Diagnostic>,
    /// How many events tell of progress.
    count: usize,
    format: Option<events::UnknownFormat>,
}

impl Following {
    /// What has been written since.
    fn read(&mut self, from: &File, watch: &mut Option<Watch<'_>>) {
        // How the command fared is told by its exit code, also where this can't be read.
        let _ = from.take(TEXT_BYTES_MAX).read_to_end(&mut self.begun_line);
        while let Some(end) = self.begun_line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun_line.drain(..=end).collect();
            self.line(&String::from_utf8_lossy(&line), watch);
        }
    }

    fn line(&mut self, line: &str, watch: &mut Option<Watch<'_>>) {
        match events::parse(line.trim()) {
            Ok(None) => {}
            Ok(Some(event)) => {
                self.begun.see(&event);
                if !matches!(event, Event::Going(..)) {
                    self.count += 1; // That it goes on is no news.
                }
                if let Some(watch) = watch {
                    watch(&event);
                }
                if let Event::Problem(problem) = event {
                    self.problems.push(problem);
                }
            }
            Err(unknown) => self.format = Some(unknown),
        }
    }

    fn end(&mut self, from: &File, watch: &mut Option<Watch<'_>>) -> Result<()> {
        self.read(from, watch);
        let rest = std::mem::take(&mut self.begun_line);
        self.line(&String::from_utf8_lossy(&rest), watch);
        match self.format.take() {
            Some(unknown) => Err(Error::Cloud(unknown.to_string())),
            None => Ok(()),
        }
    }
}

fn read_all(from: &File) -> String {
    let mut bytes = Vec::new();
    // As above.
    let _ = from.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines come in pieces, and each is seen once, as soon as it is complete; the last need not end.
    #[test]
    fn lines_are_followed_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let mut seen = 0;
        let mut count = |_: &Event| seen += 1;
        let mut watch: Option<Watch<'_>> = Some(&mut count);
        let line = |summary: &str| {
            format!(
                r#"{{"type":"diagnostic","diagnostic":{{"severity":"error","summary":"{summary}","detail":""}}}}"#
            )
        };
        let mut following = Following::default();
        let first = line("one") + "\n";
        writer.write_all(&first.as_bytes()[..20]).unwrap();
        following.read(&reader, &mut watch);
        assert!(following.problems.is_empty());
        writer.write_all(&first.as_bytes()[20..]).unwrap();
        following.read(&reader, &mut watch);
        assert_eq!(following.problems.len(), 1);
        writer.write_all(line("two").as_bytes()).unwrap();
        following.end(&reader, &mut watch).unwrap();
        assert_eq!(following.problems[1].summary, "two");
        assert_eq!(seen, 2);
    }

    fn files(folder: &std::path::Path) -> Written {
        let pair = |name: &str| {
            let path = folder.join(name);
            (File::create(&path).unwrap(), File::open(&path).unwrap())
        };
        Written {
            out: pair("out"),
            errors: pair("errors"),
            input: None,
        }
    }

    // Who waits without a word is told for what, soon where nothing is changed, and not all the time.
    #[test]
    fn silence_is_broken() {
        let mut begun = OpenChanges::default();
        let mut quiet = Quiet::new(Effect::Reads);
        assert_eq!(quiet.text(&begun), None);
        quiet.since = Instant::now().checked_sub(QUIET_MAX).unwrap();
        let text = quiet.text(&begun).unwrap();
        assert!(text.contains("waiting for Google for 2 s ("), "{text}");
        assert_eq!(quiet.text(&begun), None, "once is enough for a while");
        let disk = events::parse(
            r#"{"type":"refresh_start","hook":{"resource":{"addr":"google_compute_disk.data[\"n2\"]","resource_type":"google_compute_disk","resource_key":"n2"},"id_value":"x"}}"#,
        );
        begun.see(&disk.unwrap().unwrap());
        quiet.since = Instant::now().checked_sub(QUIET_AGAIN * 2).unwrap();
        let text = quiet.text(&begun).unwrap();
        assert!(text.contains("look at data disk n2"), "{text}");
        // A change that has not begun is told as soon; one that has is shown beside this.
        let mut quiet = Quiet::new(Effect::Changes);
        quiet.since = Instant::now().checked_sub(QUIET_MAX).unwrap();
        assert!(quiet.text(&begun).is_some());
        let machine = events::parse(
            r#"{"type":"apply_start","hook":{"resource":{"addr":"google_compute_disk.data[\"n2\"]","resource_type":"google_compute_disk","resource_key":"n2"},"action":"create"}}"#,
        );
        begun.see(&machine.unwrap().unwrap());
        let mut quiet = Quiet::new(Effect::Changes);
        quiet.since = Instant::now().checked_sub(QUIET_MAX).unwrap();
        assert_eq!(quiet.text(&begun), None);
    }

    // What ends a command by a signal is no exit code, and no success.
    #[tokio::test]
    async fn a_killed_command_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "kill -KILL $$"]);
        let files = files(folder.path());
        let outcome = run(command, Effect::Changes, "raftctl up", files, None);
        let outcome = outcome.await.unwrap();
        assert_eq!((outcome.code, outcome.signal), (None, Some(9)));
    }
}
