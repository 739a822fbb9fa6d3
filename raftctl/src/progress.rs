//! Telling what is being done, on standard error: a moving line where a person looks on, plain
//! lines where not.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cluster::NodeId;

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
        let is_watched = std::io::stderr().is_terminal() && !no_color;
        Progress {
            bars: is_watched.then(MultiProgress::new),
        }
    }

    /// Says something that is no step.
    pub fn note(&self, text: &str) {
        match &self.bars {
            // The bars are only a view: where they can't be drawn, nothing is lost.
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// A bar for each upload; nothing where nobody looks on.
    #[must_use]
    pub fn uploads(&self, ids: &[NodeId]) -> Uploads {
        let bar = |bars: &MultiProgress, id: &NodeId| {
            let bar = bars.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template("  node {msg} {bar:30} {bytes}/{total_bytes}");
            bar.set_style(style.expect("the template is right"));
            bar.set_message(id.to_string());
            (*id, bar)
        };
        let bars = self.bars.iter();
        Uploads {
            bars: bars
                .flat_map(|bars| ids.iter().map(move |id| bar(bars, id)))
                .collect(),
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
        Running {
            progress: self.clone(),
            bar,
            text: text.to_owned(),
            since: Instant::now(),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

/// Bars of uploads; they go with this value.
pub struct Uploads {
    bars: BTreeMap<NodeId, ProgressBar>,
}

impl Uploads {
    /// What moves the bars: a node, the bytes that have been sent, and all there are.
    #[must_use]
    pub fn watch(&self) -> Arc<dyn Fn(NodeId, u64, u64) + Send + Sync> {
        let bars = self.bars.clone();
        Arc::new(move |id, sent, size| {
            if let Some(bar) = bars.get(&id) {
                bar.set_length(size);
                bar.set_position(sent);
            }
        })
    }
}

impl Drop for Uploads {
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
    text: String,
    since: Instant,
}

impl Running {
    /// The step is done.
    pub fn done(self) {
        let seconds = self.since.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress
            .note(&format!("{} ({seconds:.1} s)", self.text));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
