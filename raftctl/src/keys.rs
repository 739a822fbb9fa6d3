//! The key-value verbs: what they take, what they print, and how they end.
//!
//! Results go to standard output and nothing else does, so that `value=$(raftctl get key)` works.

use std::io::Read as _;

use clap::{ArgGroup, Subcommand, ValueEnum};
use serde_json::json;

use crate::cli::{Options, Output};
use crate::client::{Client, ClientError, Member, Read, TIMEOUT_DEFAULT};
use crate::cluster::Reads;
use crate::error::{Error, Result};
use crate::ops::Context;
use crate::words::quote;

/// The verbs that read and write keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Set a key to a value
    Set {
        /// The key: any text up to 64 KiB
        key: String,
        /// The value: any text up to 1 MiB; `-` takes standard input as it is, to its end
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Print the value of a key; an empty line when the key does not exist
    Get {
        /// The key
        key: String,
        #[command(flatten)]
        reading: Reading,
    },
    /// Delete a key
    Del {
        /// The key
        key: String,
    },
    /// List keys by prefix, in byte order
    List {
        /// Only keys that begin with this
        #[arg(default_value = "")]
        prefix: String,
        /// At most so many keys; 0: as many as one answer holds
        #[arg(long, value_name = "N", default_value_t = 0)]
        limit: u32,
        /// Only keys after this one: for paging on
        #[arg(long, value_name = "KEY", default_value = "")]
        after: String,
        #[command(flatten)]
        reading: Reading,
    },
    /// Set a key only where it still has the expected value, or does not exist yet
    #[command(group = ArgGroup::new("expectation").required(true))]
    Cas {
        /// The key
        key: String,
        /// The new value
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// What the key must hold
        #[arg(long, value_name = "VALUE", group = "expectation", allow_hyphen_values = true)]
        expect: Option<String>,
        /// The key must not exist
        #[arg(long, group = "expectation")]
        absent: bool,
    },
}

/// How a read is answered.
#[derive(Debug, Clone, clap::Args)]
pub struct Reading {
    /// Who may answer, and how fresh it is [default: as cluster.yaml says]
    #[arg(long, value_enum)]
    pub read: Option<Freshness>,
    /// The node that answers a stale read
    #[arg(long, value_name = "ID")]
    pub node: Option<u64>,
}

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Freshness {
    /// Linearizable, from the leader's memory under its lease
    Lease,
    /// Linearizable, with a heartbeat round: trusts no clock
    Quorum,
    /// Whatever a node has applied; may be old
    Stale,
}

impl Reading {
    /// What is asked for, where `default` is the cluster's own setting.
    ///
    /// # Errors
    /// A node is named for a read that only the leader answers.
    pub fn read(&self, default: Reads) -> Result<Read> {
        let asked = self.read.unwrap_or(match default {
            Reads::Lease => Freshness::Lease,
            Reads::Quorum => Freshness::Quorum,
            Reads::Stale => Freshness::Stale,
        });
        match (asked, self.node) {
            (Freshness::Stale, node) => Ok(Read::Stale(node)),
            (_, Some(_)) => Err(Error::Usage(
                "--node names who answers a stale read; every other read is answered by the \
                 leader. Add --read stale, or leave --node out"
                    .into(),
            )),
            (Freshness::Lease, None) => Ok(Read::Lease),
            (Freshness::Quorum, None) => Ok(Read::Quorum),
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::NoLeader { .. } | ClientError::NodeSilent { .. } => Error::NoLeader(text),
            ClientError::OutcomeUnknown { .. } => Error::OutcomeUnknown(text),
            ClientError::Invalid(_) => Error::Usage(text),
            ClientError::Denied { .. } => Error::Other(text),
        }
    }
}

/// Runs one of them and prints its result.
///
/// # Errors
/// No leader within the timeout, outcome unknown, invalid input.
pub async fn run(context: &Context, options: &Options, command: Command) -> Result<()> {
    let command = with_standard_input(command)?;
    let mut client = client(context, options).await?;
    let answer = execute(&mut client, command, context.cluster.reads).await?;
    print!("{}", answer.shown(options.output));
    if let Some(hint) = answer.hint {
        eprintln!("{hint}");
    }
    Ok(())
}

/// A client of all nodes of the cluster.
///
/// # Errors
/// The addresses of the nodes are not known.
pub async fn client(context: &Context, options: &Options) -> Result<Client> {
    let timeout = options.timeout.unwrap_or(TIMEOUT_DEFAULT);
    Ok(Client::new(&members(context).await?).with_timeout(timeout))
}

/// What a verb has to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// For people; ends with a line break unless empty.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
    /// For the person at the terminal, beside the result.
    pub hint: Option<String>,
}

impl Answer {
    fn new(text: String, json: serde_json::Value) -> Self {
        Answer { text, json, hint: None }
    }

    fn shown(&self, output: Output) -> String {
        match output {
            Output::Text => self.text.clone(),
            Output::Json => format!("{}\n", self.json),
        }
    }
}

/// Does what a verb says.
///
/// # Errors
/// No leader within the timeout, outcome unknown, invalid input.
pub async fn execute(client: &mut Client, command: Command, reads: Reads) -> Result<Answer> {
    Ok(match command {
        Command::Set { key, value } => {
            let reply = client.set(&key, &value).await?;
            let json = json!({"key": key, "applied_index": reply.applied_index});
            Answer::new("SUCCESS\n".into(), json)
        }
        Command::Get { key, reading } => {
            let reply = client.get(&key, reading.read(reads)?).await?;
            let json = json!({
                "key": key, "found": reply.found, "value": reply.found.then_some(&reply.value),
                "applied_index": reply.applied_index, "path": path(reply.path()),
            });
            Answer::new(format!("{}\n", reply.value), json)
        }
        Command::Del { key } => {
            let reply = client.delete(&key).await?;
            let text = if reply.existed { "SUCCESS\n" } else { "SUCCESS (did not exist)\n" };
            let (existed, applied_index) = (reply.existed, reply.applied_index);
            let json = json!({"key": key, "existed": existed, "applied_index": applied_index});
            Answer::new(text.into(), json)
        }
        Command::Cas { key, value, expect, absent: _ } => {
            let reply = client.compare_and_set(&key, expect.as_deref(), &value).await?;
            let text = if reply.swapped { "SUCCESS\n" } else { "FAILED (holds something else)\n" };
            let (swapped, applied_index) = (reply.swapped, reply.applied_index);
            let json = json!({"key": key, "swapped": swapped, "applied_index": applied_index});
            Answer::new(text.into(), json)
        }
        Command::List { prefix, limit, after, reading } => {
            let reply = client.list(&prefix, &after, limit, reading.read(reads)?).await?;
            listed(&reply)
        }
    })
}

/// A line for each key, in the notation of `logs.txt`.
fn listed(reply: &raftkv::kv::ListReply) -> Answer {
    let line = |entry: &raftkv::kv::KeyValue| {
        format!("{} {}\n", quote(&entry.key), quote(&entry.value))
    };
    let entry = |entry: &raftkv::kv::KeyValue| json!({"key": entry.key, "value": entry.value});
    let last = reply.entries.last().filter(|_| reply.more);
    Answer {
        text: reply.entries.iter().map(line).collect(),
        json: json!({
            "entries": reply.entries.iter().map(entry).collect::<Vec<_>>(), "more": reply.more,
            "applied_index": reply.applied_index, "path": path(reply.path()),
        }),
        hint: last.map(|last| format!("there are more keys: add --after {}", quote(&last.key))),
    }
}

fn path(path: raftkv::kv::ReadPath) -> String {
    path.as_str_name().trim_start_matches("READ_PATH_").to_lowercase()
}

/// `set key -` takes its value from standard input.
fn with_standard_input(command: Command) -> Result<Command> {
    match command {
        Command::Set { key, value } if value == "-" => {
            let value = read_value(std::io::stdin().lock())?;
            Ok(Command::Set { key, value })
        }
        command => Ok(command),
    }
}

/// A value byte for byte, one more byte at most than a value may have.
fn read_value(input: impl std::io::Read) -> Result<String> {
    let mut bytes = Vec::new();
    let bytes_max = raftkv::VALUE_BYTES_MAX as u64;
    let read = input.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::Other(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::Usage(format!(
            "standard input has more than {bytes_max} bytes, which is the most a value may have"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        Error::Usage(format!(
            "standard input is not UTF-8 (byte {}); encode it first, for example with base64",
            error.utf8_error().valid_up_to()
        ))
    })
}
