//! What the dump.txt of all nodes tell, as one picture, and whether they contradict the promise of the
//! lease. Pure: files come in as text, a page or a list of contradictions comes out.
//!
//! ```text
//! record    a node's dump.txt -> what the picture needs of it, in one pass
//! clocks    by how much the hosts' clocks were apart, and how sure that is
//! clients   what clients saw meanwhile, where a trial has written that down
//! check     what must not be, proved from the records alone
//! shapes    what is drawn where
//! page      one HTML file, or the picture alone
//! perfetto  the same for a trace viewer
//! ```
//!
//! Deliberately absent: what no dump tells. Where a node has left lines out, or its first files have been
//! written over, the picture says "not recorded".

mod check;
mod clients;
mod clocks;
mod page;
mod perfetto;
mod record;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use check::{Finding, Verdict};
pub use clients::{Asked, Claim, Clients, FILE as CLIENTS_FILE, Gap};
use clocks::Clocks;
use record::Record;

/// Microseconds: a point in time since 1970, or a length.
type Micros = i64;
/// A node's id.
type Node = u64;

/// Where the nodes of a record ran, as far as their clocks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machines {
    /// All on one: they had one clock.
    One,
    /// That is not known: each may have had its own.
    Several,
}

/// The records of all nodes on one clock.
#[derive(Debug)]
pub struct Timeline {
    records: BTreeMap<Node, Record>,
    clocks: Clocks,
    clients: Option<Clients>,
}

impl Timeline {
    /// Reads every node's dump.txt. Lines that tell of no event are counted and left out.
    #[must_use]
    pub fn read(dumps: &BTreeMap<Node, String>, machines: Machines) -> Timeline {
        let records = dumps
            .iter()
            .map(|(id, text)| (*id, Record::read(*id, text)));
        let mut records: BTreeMap<Node, Record> = records.collect();
        let clocks = match machines {
            Machines::One => Clocks::one(records.keys().copied()),
            Machines::Several => Clocks::compare(&records),
        };
        for (id, record) in &mut records {
            record.shift(-clocks.ahead_us(*id));
        }
        Timeline {
            records,
            clocks,
            clients: None,
        }
    }

    /// The same beside what clients saw meanwhile, on which a page then opens.
    #[must_use]
    pub fn with_clients(mut self, clients: Clients) -> Timeline {
        self.clients = Some(clients);
        self
    }

    /// Whether there is anything to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.values().all(|record| record.lines == 0)
    }

    /// Looks for what must not be.
    #[must_use]
    pub fn check(&self) -> Verdict {
        check::check(&self.records, &self.clocks)
    }

    /// One HTML file that needs nothing else. `files` says where a node's dump.txt is, seen from the page.
    #[must_use]
    pub fn page(&self, title: &str, files: &BTreeMap<Node, String>) -> String {
        page::html(self, title, files)
    }

    /// The picture alone, as an SVG file.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        page::svg_file(self, title)
    }

    /// The same as events of the Trace Event Format, which <https://ui.perfetto.dev> shows.
    #[must_use]
    pub fn perfetto(&self) -> String {
        perfetto::trace(self)
    }

    /// First and last moment that is recorded, widened to something that can be drawn.
    fn range(&self) -> (Micros, Micros) {
        let first = self.records.values().filter_map(|record| record.first_us);
        let last = self.records.values().filter_map(|record| record.last_us);
        let (first, last) = (first.min().unwrap_or(0), last.max().unwrap_or(0));
        (first, last.max(first + 1_000))
    }

    /// The part of it on which a page opens: when clients were at work, with something around that.
    fn opening(&self) -> (Micros, Micros) {
        let (first, last) = self.range();
        let Some(clients) = &self.clients else {
            return (first, last);
        };
        let span = clients.span();
        let around = (span.until - span.from) / 20;
        let (from, until) = (
            (span.from - around).max(first),
            (span.until + around).min(last),
        );
        match from < until {
            true => (from, until),
            // Another machine's clock, far away.
            false => (first, last),
        }
    }
}
