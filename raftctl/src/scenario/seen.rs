//! What clients saw while a trial went on, as its timeline shows it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use checker::{History, Operation, Verdict};

use crate::cluster::NodeId;
use crate::error::Result;
use crate::ops::timeline;
use crate::terminal::out;
use crate::timeline::{Asked, Claim, Clients, Gap};
use crate::workload::{Kind, gaps};

/// Clients that began to work at a moment and went on for so long. The verdict may be missing: then only
/// the gaps are known.
#[must_use]
pub fn clients(
    began: SystemTime,
    length: Duration,
    history: &History,
    verdict: &Verdict,
) -> Clients {
    let since = began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let gap = |asked| {
        move |(from, until)| Gap {
            asked,
            from_us: us(from),
            until_us: us(until),
        }
    };
    let reads = gaps(history.operations(), Kind::Reads, length).into_iter();
    let writes = gaps(history.operations(), Kind::Writes, length).into_iter();
    let claims = verdict.counter_example().map_or(&[][..], |it| &it.claims);
    Clients {
        started_unix_us: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        length_us: i64::try_from(length.as_micros()).unwrap_or(i64::MAX),
        gaps: reads
            .map(gap(Asked::Reads))
            .chain(writes.map(gap(Asked::Writes)))
            .collect(),
        claims: claims.iter().map(claim).collect(),
    }
}

fn us(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn claim(operation: &Operation) -> Claim {
    Claim {
        call_us: us(operation.call_us),
        return_us: operation.return_us.map(us),
        says: operation.to_string(),
    }
}

/// Draws the timeline of a trial, in its folder. One that can't be drawn is told, and fails nothing.
#[must_use]
pub fn draw(folder: &Path, ids: &[NodeId], title: &str, clients: &Clients) -> Option<PathBuf> {
    let drawn: Result<PathBuf> = timeline::draw_run(folder, ids, title, clients);
    match drawn {
        Ok(page) => Some(page),
        Err(error) => {
            out::say(&format!("warning: there is no timeline: {error}"));
            None
        }
    }
}
