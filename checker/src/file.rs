//! The history file: JSON lines that a person can read and any program can write.
//!
//! ```text
//! {"history":"raft-kv","version":1}
//! {"client":1,"call_us":10,"return_us":25,"key":"k","kind":{"set":{"value":"v"}},"outcome":"written"}
//! {"client":2,"call_us":12,"return_us":30,"key":"k","kind":"get","outcome":{"read":null}}
//! {"client":1,"call_us":40,"return_us":44,"key":"k","kind":"delete","outcome":{"existed":true}}
//! {"client":2,"call_us":41,"return_us":null,"key":"k","kind":{"compare_and_set":{"expected":"v","value":"w"}},"outcome":"unknown"}
//! {"operations":4}
//! ```
//!
//! The first line tells what it is, the last one that nothing is missing: a history that was cut
//! off lacks writes that may have taken effect, and a verdict on it would be worthless.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::history::{History, Operation, OperationError};

/// What the first line calls the format.
const NAME: &str = "raft-kv";

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The longest line that is read, in bytes: two values of 1 MiB and a key, all of it escaped.
const LINE_BYTES_MAX: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    history: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    operations: usize,
}

/// Writes a history file, one operation at a time, so that a recorder need not keep them.
#[derive(Debug)]
pub struct HistoryWriter<W: Write> {
    writer: W,
    operations: usize,
}

/// Why an operation was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The operation makes no sense; nothing of it was written.
    #[error("this operation cannot be recorded: {0}")]
    Operation(#[from] OperationError),
    /// The file cannot be written; what is there is not a complete history.
    #[error("cannot write the history: {0}")]
    Io(#[from] io::Error),
}

impl<W: Write> HistoryWriter<W> {
    /// Begins a history. `writer` should be buffered.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W) -> io::Result<HistoryWriter<W>> {
        let mut history = HistoryWriter {
            writer,
            operations: 0,
        };
        history.line(&Header {
            history: NAME.into(),
            version: VERSION,
        })?;
        Ok(history)
    }

    /// Appends an operation.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&mut self, operation: &Operation) -> Result<(), WriteError> {
        operation.validate()?;
        self.line(operation)?;
        self.operations += 1;
        Ok(())
    }

    /// Ends the history and flushes it. Without this the file counts as cut off.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.line(&Trailer {
            operations: self.operations,
        })?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, line)?;
        self.writer.write_all(b"\n")
    }
}

/// Writes a whole history.
///
/// # Errors
/// Those of the writer.
pub fn write_history(history: &History, writer: impl Write) -> Result<(), WriteError> {
    let mut file = HistoryWriter::new(writer)?;
    for operation in history.operations() {
        file.write(operation)?;
    }
    file.finish()?;
    Ok(())
}

/// Why a history file was refused. Nothing of it is used then.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the history: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error(
        "this is not a history file: its first line must be {{\"history\":\"{NAME}\",\"version\":{VERSION}}}"
    )]
    NotAHistory,
    /// It is from another time.
    #[error(
        "history version {version} is not known here, only {VERSION}: use the raftctl that wrote it"
    )]
    Version {
        /// What the file says.
        version: u32,
    },
    /// A line is not an operation.
    #[error("line {line}: not an operation: {cause}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        cause: serde_json::Error,
    },
    /// An operation makes no sense.
    #[error("line {line}: {cause}")]
    Operation {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        cause: OperationError,
    },
    /// A line is longer than any operation can be.
    #[error("line {line}: longer than {LINE_BYTES_MAX} bytes: no operation is that large")]
    LineTooLong {
        /// The line, counted from 1.
        line: usize,
    },
    /// The last line is missing.
    #[error(
        "the history is cut off after {operations} operations: the last line, \
         {{\"operations\":..}}, is missing. Its recorder was stopped before the end, so writes that \
         were under way are missing too and a verdict could be wrong: record it again"
    )]
    CutOff {
        /// How many whole operations there are.
        operations: usize,
    },
    /// The last line tells another number of operations.
    #[error(
        "the last line says {expected} operations, but there are {found}: lines were lost or added"
    )]
    WrongCount {
        /// What the last line says.
        expected: usize,
        /// What was found before it.
        found: usize,
    },
    /// Something follows the last line.
    #[error("line {line}: nothing may follow the line that tells the number of operations")]
    TrailingLine {
        /// The line, counted from 1.
        line: usize,
    },
}

/// Reads a whole history file.
///
/// # Errors
/// See [`ReadError`].
pub fn read_history(reader: impl BufRead) -> Result<History, ReadError> {
    let mut lines = Lines {
        reader,
        number: 0,
        line: Vec::new(),
    };
    read_header(lines.next()?)?;
    let mut history = History::new();
    while let Some(text) = lines.next()? {
        let is_whole = text.ends_with(b"\n");
        let operation: Operation = match serde_json::from_slice(text) {
            Ok(operation) => operation,
            Err(cause) => {
                if let Ok(trailer) = serde_json::from_slice::<Trailer>(text) {
                    return finish(history, trailer, lines);
                }
                if !is_whole {
                    break;
                }
                let line = lines.number;
                return Err(ReadError::Syntax { line, cause });
            }
        };
        let line = lines.number;
        let pushed = history.push(operation);
        pushed.map_err(|cause| ReadError::Operation { line, cause })?;
    }
    Err(ReadError::CutOff {
        operations: history.len(),
    })
}

fn read_header(line: Option<&[u8]>) -> Result<(), ReadError> {
    let header: Header =
        serde_json::from_slice(line.unwrap_or_default()).map_err(|_| ReadError::NotAHistory)?;
    if header.history != NAME {
        return Err(ReadError::NotAHistory);
    }
    if header.version != VERSION {
        return Err(ReadError::Version {
            version: header.version,
        });
    }
    Ok(())
}

fn finish(
    history: History,
    trailer: Trailer,
    mut lines: Lines<impl BufRead>,
) -> Result<History, ReadError> {
    if trailer.operations != history.len() {
        return Err(ReadError::WrongCount {
            expected: trailer.operations,
            found: history.len(),
        });
    }
    if lines.next()?.is_some() {
        return Err(ReadError::TrailingLine { line: lines.number });
    }
    Ok(history)
}

struct Lines<R> {
    reader: R,
    /// Of the line read last, counted from 1.
    number: usize,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The next line with its end, if it has one.
    fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.line.clear();
        self.number += 1;
        let mut bounded = io::Read::take(&mut self.reader, LINE_BYTES_MAX);
        let length = bounded.read_until(b'\n', &mut self.line)?;
        if length as u64 == LINE_BYTES_MAX {
            return Err(ReadError::LineTooLong { line: self.number });
        }
        Ok((length > 0).then_some(&self.line))
    }
}
