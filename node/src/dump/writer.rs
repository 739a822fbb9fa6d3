//! The thread that renders and writes.

use super::journal::Journal;
use super::queue::{Batch, Queue, Run};
use crate::disk::{Directory, DiskError, RotatingFile};
use crate::raft::NodeId;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Size at which `dump.txt` is set aside.
const DUMP_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Between two writes. What comes later than this after the write before goes out at once: a process
/// that is killed loses what it had not handed to the kernel, and nothing of what it had. What
/// comes sooner is gathered into one write.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the node waits for the last lines: standard output may be stuck.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The running thread. Dropped, it writes what was told and ends.
#[derive(Debug)]
pub struct DumpThread {
    queue: Arc<Queue>,
    ended: Receiver<()>,
}

impl DumpThread {
    pub(super) fn start(
        id: NodeId,
        directory: &Directory,
        quiet: bool,
        queue: Arc<Queue>,
    ) -> Result<Self, DiskError> {
        let file = RotatingFile::open(directory, "dump", DUMP_BYTES_MAX)?;
        let mut writer = Writer {
            id,
            file,
            file_failed: false,
            to_stdout: !quiet,
            journal: Journal::of_this_process(),
        };
        let (end, ended) = sync_channel(1);
        let of_thread = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("dump".into())
            .spawn(move || {
                writer.run(&of_thread);
                // Nobody listens any more when the node did not wait that long.
                end.send(()).ok();
            })
            .map_err(DiskError::at("start a thread for", directory.path()))?;
        Ok(DumpThread { queue, ended })
    }
}

impl Drop for DumpThread {
    fn drop(&mut self) {
        self.queue.close();
        if self.ended.recv_timeout(CLOSE_TIMEOUT).is_err() {
            tracing::warn!("the last lines of dump.txt were not written in time");
        }
    }
}

struct Writer {
    id: NodeId,
    file: RotatingFile,
    file_failed: bool,
    to_stdout: bool,
    journal: Journal,
}

impl Writer {
    fn run(&mut self, queue: &Queue) {
        let mut written_at: Option<Instant> = None;
        loop {
            queue.wait();
            if let Some(early) = written_at.and_then(|at| GATHER.checked_sub(at.elapsed())) {
                std::thread::sleep(early);
            }
            let now = SystemTime::now();
            let batch = queue.take(now);
            let closed = batch.closed;
            let (dump, sentences) = self.render(batch, now);
            self.write(&dump, &sentences);
            written_at = Some(Instant::now());
            if closed {
                return;
            }
        }
    }

    /// The lines for `dump.txt` and those for standard output, in the order of their times.
    fn render(&self, batch: Batch, now: SystemTime) -> (String, String) {
        let mut lines: Vec<(SystemTime, String, String)> = Vec::new();
        for (time, happening) in batch.happenings {
            let (sentence, fields) = happening.render(self.id);
            if self.journal.is_open() && happening.frequent().is_none() {
                self.journal
                    .tell(self.id, &happening.name(), &sentence, &fields);
            }
            lines.push((time, sentence, fields));
        }
        for run in batch.runs {
            let sentence = run.kind.render_many(self.id, run.count);
            lines.push((run.last_time, sentence, run_fields(&run)));
        }
        if batch.dropped > 0 {
            let sentence = format!("Node {} left {} lines out here.", self.id, batch.dropped);
            lines.push((now, sentence, format!("dropped={}", batch.dropped)));
        }
        lines.sort_by_key(|(time, ..)| *time);
        let (mut dump, mut sentences) = (String::new(), String::new());
        for (time, sentence, fields) in lines {
            dump.push_str(&rfc3339(time));
            dump.push(' ');
            dump.push_str(&sentence);
            dump.push('\t');
            dump.push_str(&fields);
            dump.push('\n');
            sentences.push_str(&sentence);
            sentences.push('\n');
        }
        (dump, sentences)
    }

    fn write(&mut self, dump: &str, sentences: &str) {
        let failed = self.file.write(dump.as_bytes()).err();
        if let Some(error) = &failed
            && !self.file_failed
        {
            // Said once: the node itself does not depend on this file.
            tracing::error!("dump.txt lacks lines from here on: {error}");
        }
        self.file_failed = failed.is_some();
        if self.to_stdout {
            let mut stdout = stdout().lock();
            let written = stdout.write_all(sentences.as_bytes());
            if written.and_then(|()| stdout.flush()).is_err() {
                self.to_stdout = false; // Nobody reads it any more.
            }
        }
    }
}

fn run_fields(run: &Run) -> String {
    let since = rfc3339(run.first_time);
    let mut fields = format!("count={} since={since}", run.count);
    if run.last_index > 0 {
        fields += &format!(
            " first_index={} last_index={}",
            run.first_index, run.last_index
        );
    }
    fields + &run.kind.common_fields()
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use crate::disk::Directory;
    use crate::dump::{Asked, Dump, Happening};
    use std::time::{Duration, Instant};

    // What was told is in the file without anything that comes after it, the folded lines too: a process that
    // is killed then, and closes nothing, loses none of it.
    #[test]
    fn what_was_told_waits_for_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let (dump, thread) = Dump::start(1, &directory, true).unwrap();
        let lines_with = |text: &str, count: usize| {
            let started = Instant::now();
            loop {
                let written = std::fs::read_to_string(folder.path().join("dump.txt")).unwrap();
                let lines: Vec<&str> = written.lines().filter(|line| line.contains(text)).collect();
                if lines.len() >= count {
                    return lines.last().unwrap().to_string();
                }
                assert!(started.elapsed() < Duration::from_secs(60), "{written}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        dump.tell(Happening::SendFailed(2));
        lines_with("Error occurred while sending RPC to Node 2.", 1);
        let read = || Happening::Received(Asked::Get("k".into()));
        dump.tell_all((0..10_000).map(|_| read()));
        let folded = lines_with("count=", 1);
        assert!(folded.contains("since="), "{folded}");
        drop(thread);
    }
}
