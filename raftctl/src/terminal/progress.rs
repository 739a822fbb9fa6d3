//! Telling what is being done, on standard error: a moving line where a person looks on, plain
//! lines where not.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::AbortHandle;

use crate::cluster::NodeId;
use crate::terminal::out;

/// Nobody waits longer without a word; a moving line tells all the while.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// Where talk goes. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Bars where standard error is a terminal and `NO_COLOR` is not set, else lines.
    #[must_use]
    pub fn new() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_watched = std::io::stderr().is_terminal() && !no_color && !out::is_talk_kept();
        Progress {
            bars: is_watched.then(MultiProgress::new),
        }
    }

    /// Says something that is no step.
    pub fn note(&self, text: &str) {
        match &self.bars {
            // The bars are only a view: where they can't be drawn, nothing is lost.
            Some(bars) => bars.suspend(|| out::say(text)),
            None => out::say(text),
        }
    }

    /// A line for each host, which tells what is done there; nothing where nobody looks on.
    #[must_use]
    pub fn hosts(&self, hosts: impl IntoIterator<Item = (NodeId, String)>) -> Hosts {
        let bar = |bars: &MultiProgress, (id, name): (NodeId, String)| {
            let bar = bars.add(ProgressBar::new(0));
            bar.set_style(style(PHASE));
            bar.set_prefix(format!("node {id} on {name}"));
            (id, bar)
        };
        let bars = self.bars.as_ref();
        let bars = bars.map(|bars| hosts.into_iter().map(|host| bar(bars, host)).collect());
        Hosts {
            bars: bars.unwrap_or_default(),
        }
    }

    /// Begins a step.
    #[must_use]
    pub fn begin(&self, text: &str) -> Running {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            bar.set_style(style.expect("the template is right, and has no variables"));
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(80));
            bar
        });
        let waiting = match &bar {
            Some(_) => None,
            None => tell_if_quiet(text),
        };
        Running {
            progress: self.clone(),
            bar,
            waiting,
            text: text.to_owned(),
            since: Instant::now(),
        }
    }
}

/// Says once what is being done, when nothing was said for a while. Of several steps that go on at a time
/// the first tells, and another one when it has been quiet for as long again.
fn tell_if_quiet(text: &str) -> Option<AbortHandle> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let (text, began) = (text.to_owned(), Instant::now());
    let telling = runtime.spawn(async move {
        loop {
            let quiet =
                out::quiet_for().map_or(began.elapsed(), |quiet| quiet.min(began.elapsed()));
            if quiet >= QUIET_MAX {
                return out::say(&format!("{text}: under way"));
            }
            tokio::time::sleep(QUIET_MAX - quiet).await;
        }
    });
    Some(telling.abort_handle())
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

/// A host and its phase.
const PHASE: &str = "  {prefix:32} {msg}";
/// A host's line while bytes are sent to it.
const UPLOAD: &str = "  {prefix:32} {msg} {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}";

/// A step whose amount is known.
const AMOUNT: &str = "{spinner} {msg} {bar:30} {elapsed}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are right")
}

/// What becomes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// So many bytes of so many have been handed over.
    Sent(u64, u64),
    /// It has arrived and is in use, or it has failed.
    Ended(bool),
}

/// A line for each host; they go with this value.
pub struct Hosts {
    bars: BTreeMap<NodeId, ProgressBar>,
}

impl Hosts {
    /// Tells what is done with nodes now, or what has become of them.
    pub fn phase(&self, ids: &[NodeId], phase: &str) {
        for bar in ids.iter().filter_map(|id| self.bars.get(id)) {
            bar.set_style(style(PHASE));
            bar.set_message(phase.to_owned());
        }
    }

    /// What moves the bars of uploads.
    #[must_use]
    pub fn watch(&self) -> Arc<dyn Fn(NodeId, Upload) + Send + Sync> {
        let bars = self.bars.clone();
        Arc::new(move |id, upload| {
            let Some(bar) = bars.get(&id) else { return };
            match upload {
                Upload::Sent(sent, size) if sent < size => {
                    if bar.length() != Some(size) {
                        bar.set_style(style(UPLOAD));
                        bar.set_length(size);
                        bar.set_message("sending");
                    }
                    bar.set_position(sent);
                    return;
                }
                Upload::Sent(..) => bar.set_message("sent, being checked"),
                Upload::Ended(true) => bar.set_message("shipped"),
                Upload::Ended(false) => bar.set_message("failed"),
            }
            bar.set_style(style(PHASE));
        })
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}

/// A step that is being done. Dropped without [`Self::done`], it leaves no line: the error that
/// ended it says more.
pub struct Running {
    progress: Progress,
    bar: Option<ProgressBar>,
    /// Says what is being done where there is no bar.
    waiting: Option<AbortHandle>,
    text: String,
    since: Instant,
}

impl Running {
    /// Tells how far it is; nothing where nobody looks on.
    pub fn tell(&self, more: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {more}", self.text));
        }
    }

    /// Tells how much is done of what there is to do; nothing where nobody looks on.
    pub fn amount(&self, done: u64, all: u64, unit: &str) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != Some(all) {
            bar.set_style(style(AMOUNT));
            bar.set_length(all);
        }
        bar.set_position(done);
        let left = all.saturating_sub(done);
        bar.set_message(format!("{}: {left} {unit} to go", self.text));
    }

    /// The step is done.
    pub fn done(self) {
        let seconds = self.since.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(waiting) = &self.waiting {
            waiting.abort();
        }
        self.progress
            .note(&format!("{} ({seconds:.1} s)", self.text));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.abort();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
