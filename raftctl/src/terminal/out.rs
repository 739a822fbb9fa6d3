//! Standard output: data, and nothing else. Standard error: talk.

use std::io::{ErrorKind, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Prints text as it is. A reader that has seen enough (`raftctl status | head -1`) is no error.
///
/// # Errors
/// Standard output can't be written: a full disk behind it.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::Other(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// When something was said last.
static SAID: Mutex<Option<Instant>> = Mutex::new(None);

/// What was said while the terminal shows something else; `None` while it does not.
static KEPT: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Beyond so many lines the oldest are forgotten.
const KEPT_MAX: usize = 64;

fn kept() -> MutexGuard<'static, Option<Vec<String>>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is said from now on, or says it again; what was kept and not taken is said then.
pub fn keep_talk(is_kept: bool) {
    let before = std::mem::replace(&mut *kept(), is_kept.then(Vec::new));
    for text in before.into_iter().flatten() {
        say(&text);
    }
}

/// Whether talk is kept: nothing else may write to the terminal then.
#[must_use]
pub fn is_talk_kept() -> bool {
    kept().is_some()
}

/// What was said since the last call, where talk is kept.
#[must_use]
pub fn take_talk() -> Vec<String> {
    kept().as_mut().map(std::mem::take).unwrap_or_default()
}

/// Says something on standard error. Where nobody is there any more to hear it, as when the terminal
/// was closed, that must not end what is being done.
pub fn say(text: &str) {
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    if let Some(kept) = kept().as_mut() {
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        return kept.push(text.to_owned());
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How long nothing has been said; `None` where nothing ever was.
#[must_use]
pub fn quiet_for() -> Option<Duration> {
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.map(|said| said.elapsed())
}

/// Prints text and ends the line.
///
/// # Errors
/// As [`print()`].
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a value as JSON on lines of its own.
///
/// # Errors
/// As [`print()`].
pub fn json(value: &serde_json::Value) -> Result<()> {
    line(&format!("{value:#}"))
}

/// A table with a head, its columns as wide as they need to be. Cells that hold numbers are
/// written to the right.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let is_number = |at: usize| {
        let cells = || rows.iter().filter_map(move |row| row.get(at));
        let fits = |cell: &String| cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
        cells().all(fits) && cells().all(|cell| !cell.contains([':', '.']))
    };
    let right: Vec<bool> = (0..head.len()).map(is_number).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if *right {
                (&*padding, "")
            } else {
                ("", &*padding)
            };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // Columns line up, numbers to the right, and no line ends in spaces.
    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["1".to_owned(), "leader".to_owned(), "1200".to_owned()],
            vec!["2".to_owned(), "follower".to_owned(), "-".to_owned()],
        ];
        assert_eq!(
            table(&["NODE", "ROLE", "LAST"], &rows),
            "NODE  ROLE      LAST\n   1  leader    1200\n   2  follower     -\n"
        );
    }
}
