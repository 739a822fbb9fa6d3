//! The key-value verbs: what they take, what they print, and how they end.
//!
//! Results go to standard output and nothing else does, so that `value=$(raftctl get key)` works.

use std::io::Read as _;

use clap::{ArgGroup, Subcommand};
use serde_json::json;

use crate::client::{Client, Read};
use crate::cluster::Reads;
use crate::error::{Error, Result};
use crate::ops::{Context, store};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::text::words::quote;

/// The verbs that read and write keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Set a key to a value; on a majority's disks when it returns
    #[command(after_help = "Examples:
  raftctl set name1 Jaggu
  raftctl set motd \"two words\"
  raftctl set motd - < motd.txt")]
    Set {
        /// The key: any text up to 64 KiB
        key: String,
        /// The value: any text up to 1 MiB; - reads all of standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Print the value of a key; an empty line if there is no such key
    #[command(after_help = "Examples:
  raftctl get name1
  raftctl get name1 --read quorum
  raftctl get name1 --read stale --node 3
  raftctl get name1 --output json        also says whether there is such a key")]
    Get {
        /// The key
        key: String,
        /// How it is answered
        #[command(flatten)]
        reading: Reading,
    },
    /// Delete a key
    #[command(after_help = "Examples:
  raftctl del name1
  raftctl del name1 --output json     says whether it existed")]
    Del {
        /// The key
        key: String,
    },
    /// List keys and their values, in byte order
    #[command(after_help = "Examples:
  raftctl list
  raftctl list user/ --limit 20
  raftctl list user/ --limit 20 --after user/0020     the next page")]
    List {
        /// Only keys that begin with this
        #[arg(default_value = "")]
        prefix: String,
        /// At most this many keys; 0 means as many as one answer can hold
        #[arg(long, value_name = "N", default_value_t = 0)]
        limit: u32,
        /// Only keys after this one: gives the next page
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        /// How it is answered
        #[command(flatten)]
        reading: Reading,
    },
    /// Compare and set: write only if the key holds what you expect
    ///
    /// Ends with exit code 4, and writes nothing, if the key holds something else.
    #[command(group = ArgGroup::new("expectation").required(true))]
    #[command(after_help = "Examples:
  raftctl cas name1 Jill --expect Jaggu
  raftctl cas lock mine --absent            only if there is no such key")]
    Cas {
        /// The key
        key: String,
        /// The new value
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// What the key must hold
        #[arg(
            long,
            value_name = "VALUE",
            group = "expectation",
            allow_hyphen_values = true
        )]
        expect: Option<String>,
        /// The key must not exist
        #[arg(long, group = "expectation")]
        absent: bool,
    },
}

/// How a read is answered.
#[derive(Debug, Clone, clap::Args)]
pub struct Reading {
    /// Who answers: lease (the leader, from memory), quorum (the leader, after a round of
    /// heartbeats; trusts no clock) or stale (any node; may be old) [default: as cluster.yaml says]
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub read: Option<Reads>,
    /// Which node answers a stale read
    #[arg(long, value_name = "ID")]
    pub node: Option<u64>,
}

impl Reading {
    /// What is asked for, where `default` is the cluster's own setting.
    ///
    /// # Errors
    /// A node is named for a read that only the leader answers.
    pub fn read(&self, default: Reads) -> Result<Read> {
        match (self.read.unwrap_or(default), self.node) {
            (Reads::Stale, node) => Ok(Read::Stale(node)),
            (_, Some(_)) => Err(Error::Usage(
                "--node names who answers a stale read; every other read is answered by the \
                 leader. Add --read stale, or leave --node out"
                    .into(),
            )),
            (asked, None) => Ok(asked.into()),
        }
    }
}

/// Runs one of them and prints its result.
///
/// # Errors
/// No leader within the timeout, outcome unknown, invalid input, a condition that does not hold.
pub async fn run(context: &Context, options: &Options, command: Command) -> Result<()> {
    let command = with_standard_input(command)?;
    let mut client = store::client(context, options.timeout).with_absence(store::absence(context));
    let answer = execute(&mut client, command, context.cluster.reads).await?;
    match options.output {
        Output::Text => out::print(&answer.text)?,
        Output::Json => out::json(&answer.json)?,
    }
    if let Some(hint) = answer.hint {
        eprintln!("{hint}");
    }
    answer.unmet.map_or(Ok(()), |why| Err(Error::Unmet(why)))
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
    /// Why nothing was written, where a condition did not hold.
    pub unmet: Option<String>,
}

impl Answer {
    fn new(text: String, json: serde_json::Value) -> Self {
        Answer {
            text,
            json,
            hint: None,
            unmet: None,
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
            let text = if reply.existed {
                "SUCCESS\n"
            } else {
                "SUCCESS (did not exist)\n"
            };
            let (existed, applied_index) = (reply.existed, reply.applied_index);
            let json = json!({"key": key, "existed": existed, "applied_index": applied_index});
            Answer::new(text.into(), json)
        }
        Command::Cas {
            key,
            value,
            expect,
            absent: _,
        } => {
            let reply = client
                .compare_and_set(&key, expect.as_deref(), &value)
                .await?;
            let text = if reply.swapped {
                "SUCCESS\n"
            } else {
                "FAILED (holds something else)\n"
            };
            let (swapped, applied_index) = (reply.swapped, reply.applied_index);
            let json = json!({"key": key, "swapped": swapped, "applied_index": applied_index});
            let found = if expect.is_some() {
                "does not hold what was expected"
            } else {
                "exists already"
            };
            let key = quote(&key);
            Answer {
                unmet: (!swapped).then(|| {
                    format!("{key} {found}; nothing was written; `raftctl get {key}` shows it")
                }),
                ..Answer::new(text.into(), json)
            }
        }
        Command::List {
            prefix,
            limit,
            after,
            reading,
        } => {
            let reply = client
                .list(&prefix, after.as_deref(), limit, reading.read(reads)?)
                .await?;
            listed(&reply)
        }
    })
}

/// A line for each key, in the notation of `logs.txt`.
fn listed(reply: &raftkv::kv::ListReply) -> Answer {
    let line =
        |entry: &raftkv::kv::KeyValue| format!("{} {}\n", quote(&entry.key), quote(&entry.value));
    let entry = |entry: &raftkv::kv::KeyValue| json!({"key": entry.key, "value": entry.value});
    let last = reply.entries.last().filter(|_| reply.more);
    Answer {
        text: reply.entries.iter().map(line).collect(),
        json: json!({
            "entries": reply.entries.iter().map(entry).collect::<Vec<_>>(), "more": reply.more,
            "applied_index": reply.applied_index, "path": path(reply.path()),
        }),
        unmet: None,
        hint: last.map(|last| format!("there are more keys: add --after {}", quote(&last.key))),
    }
}

fn path(path: raftkv::kv::ReadPath) -> String {
    path.as_str_name()
        .trim_start_matches("READ_PATH_")
        .to_lowercase()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fakes, Role};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(line: &str) -> std::result::Result<Command, String> {
        let words = std::iter::once("raftctl").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.command)
    }

    async fn answer(client: &mut Client, line: &str) -> Result<Answer> {
        execute(client, parse(line).unwrap(), Reads::Lease).await
    }

    /// What each verb prints: the value and nothing else, an empty line for a missing key.
    #[tokio::test]
    async fn verbs_print_their_result_and_nothing_else() {
        let fakes = Fakes::start(&[Role::Lead]).await;
        let mut client = Client::new(&fakes.members());
        let said = answer(&mut client, "set name1 -5").await.unwrap();
        assert_eq!(said.text, "SUCCESS\n");
        assert_eq!(said.json, json!({"key": "name1", "applied_index": 1}));
        let said = answer(&mut client, "get name1").await.unwrap();
        assert_eq!(said.text, "-5\n");
        assert_eq!(
            (&said.json["found"], &said.json["path"]),
            (&json!(true), &json!("lease"))
        );
        let said = answer(&mut client, "get nothing").await.unwrap();
        assert_eq!(said.text, "\n");
        assert_eq!(
            (&said.json["found"], &said.json["value"]),
            (&json!(false), &json!(null))
        );
        let said = answer(&mut client, "get name1 --read stale --node 1")
            .await
            .unwrap();
        assert_eq!(
            (said.text.as_str(), &said.json["path"]),
            ("-5\n", &json!("stale"))
        );
        assert_eq!(
            answer(&mut client, "del name1").await.unwrap().json["existed"],
            true
        );
        assert_eq!(
            answer(&mut client, "del name1").await.unwrap().json["existed"],
            false
        );
    }

    /// A page of a list is lines that the shell could read back, and says how to go on.
    #[test]
    fn a_list_can_be_read_back_and_paged() {
        let entry = |key: &str, value: &str| raftkv::kv::KeyValue {
            key: key.into(),
            value: value.into(),
        };
        let mut reply = raftkv::kv::ListReply {
            entries: vec![entry("a", "1"), entry("two words", "")],
            more: true,
            ..Default::default()
        };
        let said = listed(&reply);
        assert_eq!(said.text, "a 1\n\"two words\" \"\"\n");
        assert_eq!(
            said.hint.unwrap(),
            "there are more keys: add --after \"two words\""
        );
        reply.more = false;
        assert_eq!(listed(&reply).hint, None);
    }

    /// A compare-and-set without saying what is expected would be a plain set by accident.
    #[test]
    fn cas_wants_an_expectation() {
        assert!(parse("cas k new --expect old").is_ok());
        assert!(parse("cas k new --absent").is_ok());
        assert!(parse("cas k new").unwrap_err().contains("--expect"));
        assert!(parse("cas k new --absent --expect old").is_err());
    }

    /// Only a stale read can be answered by a node of choice.
    #[test]
    fn a_node_answers_stale_reads_only() {
        let reading = |read, node| Reading { read, node };
        let error = reading(Some(Reads::Quorum), Some(3))
            .read(Reads::Lease)
            .unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(
            reading(None, Some(3)).read(Reads::Stale).unwrap(),
            Read::Stale(Some(3))
        );
        assert_eq!(
            reading(None, None).read(Reads::Quorum).unwrap(),
            Read::Quorum
        );
        let lease = Some(Reads::Lease);
        assert_eq!(
            reading(lease, None).read(Reads::Stale).unwrap(),
            Read::Lease
        );
    }

    /// Standard input is taken byte for byte, within the limit, and only if it is text.
    #[test]
    fn a_value_from_standard_input_is_text_within_the_limit() {
        assert_eq!(read_value(&b"line\n\n"[..]).unwrap(), "line\n\n");
        let most = vec![b'a'; raftkv::VALUE_BYTES_MAX];
        assert_eq!(read_value(&most[..]).unwrap().len(), most.len());
        let error = read_value(&[&most[..], b"a"].concat()[..]).unwrap_err();
        assert!(error.to_string().contains("1048576"), "{error}");
        let error = read_value(&b"ab\xff"[..]).unwrap_err();
        assert!(error.to_string().contains("byte 2"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
