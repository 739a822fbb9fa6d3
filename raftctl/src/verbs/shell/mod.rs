//! `raftctl shell`: a prompt with history at a terminal, a reader of commands from a pipe.
//!
//! From a pipe there is no prompt; a command that fails is reported with the number of its line,
//! the next one runs, and the exit code is that of the first failure.

mod line;

use std::io::{BufRead, IsTerminal, Write};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::ops::{Context, store};
use crate::terminal::options::{Options, Output};
use crate::verbs::{self, keys};
use line::Line;

/// Lines that the history keeps.
const HISTORY_LINES_MAX: usize = 1000;

/// A key and a value of the largest size, with room for their escapes in JSON.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The flags of `shell`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {}

/// Reads commands to the end or until `QUIT`.
///
/// # Errors
/// The terminal can't be used. From a pipe: what the first command that failed ended with.
pub async fn run(context: &Context, options: &Options, _: Arguments) -> Result<()> {
    let mut shell = Shell {
        client: store::client(context, options.timeout).with_absence(store::absence(context)),
        context,
        output: options.output,
    };
    if std::io::stdin().is_terminal() {
        shell.interact().await
    } else {
        shell
            .read_pipe(std::io::stdin().lock(), &mut std::io::stdout())
            .await
    }
}

struct Shell<'a> {
    client: Client,
    context: &'a Context,
    output: Output,
}

/// What a line came to.
enum Outcome {
    Text(String),
    Quit,
}

impl Shell<'_> {
    async fn execute(&mut self, line: &str) -> Result<Outcome> {
        let text = match line::parse(line).map_err(Error::Usage)? {
            Line::Empty => String::new(),
            Line::Help => line::HELP.to_owned(),
            Line::Quit => return Ok(Outcome::Quit),
            Line::Status => status(self.context, self.output).await,
            Line::Keys(command) => {
                let reads = self.context.cluster.reads;
                let answer = keys::execute(&mut self.client, command, reads).await?;
                let hint = answer.hint.as_ref().map(|hint| format!("({hint})\n"));
                match self.output {
                    Output::Text => answer.text + &hint.unwrap_or_default(),
                    Output::Json => format!("{}\n", answer.json),
                }
            }
        };
        Ok(Outcome::Text(text))
    }

    /// One command a line, to the end of the input.
    async fn read_pipe(&mut self, mut input: impl BufRead, out: &mut impl Write) -> Result<()> {
        let mut first_failure = None;
        let mut number = 0u64;
        loop {
            number += 1;
            let Some(line) = next_line(&mut input, number)? else {
                break;
            };
            match self.execute(&line).await {
                Ok(Outcome::Quit) => break,
                Ok(Outcome::Text(text)) => out
                    .write_all(text.as_bytes())
                    .and_then(|()| out.flush())
                    .map_err(|error| Error::Other(format!("cannot write the result: {error}")))?,
                Err(error) => {
                    eprintln!("line {number}: {error}");
                    first_failure.get_or_insert(error);
                }
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// A prompt at a terminal. Ctrl-C drops the line, or gives up waiting for an answer; Ctrl-D
    /// leaves.
    async fn interact(&mut self) -> Result<()> {
        let terminal =
            |error: ReadlineError| Error::Other(format!("cannot use the terminal: {error}"));
        let config = Config::builder()
            .max_history_size(HISTORY_LINES_MAX)
            .map_err(terminal)?
            .auto_add_history(true)
            .build();
        let mut editor: Editor<(), FileHistory> = Editor::with_config(config).map_err(terminal)?;
        let history = self.context.cluster.state_dir().join("shell_history");
        // There is none the first time, and a lost history is no reason not to work.
        let _ = editor.load_history(&history);
        eprintln!(
            "{}: HELP lists the commands, QUIT leaves",
            self.context.cluster.name
        );
        let prompt = format!("{}> ", self.context.cluster.name);
        loop {
            let (line, returned) = read_line(editor, prompt.clone()).await?;
            editor = returned;
            match line {
                Ok(line) => {
                    if !self.answer(&line).await {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(terminal(error)),
            }
        }
        if let Err(error) = save(&mut editor, &history) {
            eprintln!(
                "the history could not be kept in {}: {error}",
                history.display()
            );
        }
        Ok(())
    }

    /// Executes a line at the prompt; false after `QUIT`.
    async fn answer(&mut self, line: &str) -> bool {
        let said = tokio::select! {
            said = self.execute(line) => said,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("given up waiting; a write that was sent may still happen");
                return true;
            }
        };
        match said {
            Ok(Outcome::Quit) => return false,
            Ok(Outcome::Text(text)) => print!("{text}"),
            Err(error) => eprintln!("{error}"),
        }
        true
    }
}

/// The editor blocks its thread, so it goes to one that may be blocked, and comes back.
async fn read_line(
    mut editor: Editor<(), FileHistory>,
    prompt: String,
) -> Result<(rustyline::Result<String>, Editor<(), FileHistory>)> {
    let reading = tokio::task::spawn_blocking(move || (editor.readline(&prompt), editor));
    reading
        .await
        .map_err(|error| Error::Other(format!("the line editor failed: {error}")))
}

fn save(editor: &mut Editor<(), FileHistory>, path: &std::path::Path) -> rustyline::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    editor.save_history(path)
}

/// The next line without its end; None at the end of the input.
fn next_line(input: &mut impl BufRead, number: u64) -> Result<Option<String>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
    read.map_err(|error| Error::Other(format!("cannot read standard input: {error}")))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
        let most = LINE_BYTES_MAX;
        return Err(Error::Usage(format!(
            "line {number} has more than {most} bytes"
        )));
    }
    let line = String::from_utf8(bytes)
        .map_err(|_| Error::Usage(format!("line {number} is not UTF-8")))?;
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// What the nodes are doing.
async fn status(context: &Context, output: Output) -> String {
    let (cluster, snapshot) = (&context.cluster, context.status().await);
    match output {
        Output::Text => verbs::status::to_text(cluster, &snapshot),
        Output::Json => format!("{}\n", verbs::status::to_json(cluster, &snapshot)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fakes, Role};

    async fn context() -> Context {
        let environment = |_: &str| None;
        let directory = std::path::PathBuf::from("/nowhere");
        let cluster =
            crate::cluster::parse("name: t\nnodes: 1\n", "t.yaml", directory, &environment);
        Context::open(cluster.unwrap()).await.unwrap()
    }

    /// What a script prints, and the exit code it ends with.
    async fn run(script: &str, output: Output) -> (String, u8) {
        let fakes = Fakes::start(&[Role::Lead]).await;
        let mut shell = Shell {
            client: Client::new(&fakes.members()),
            context: &context().await,
            output,
        };
        let mut out = Vec::new();
        let ended = shell.read_pipe(script.as_bytes(), &mut out).await;
        let code = ended.map_or_else(|error| error.exit_code(), |()| 0);
        (String::from_utf8(out).unwrap(), code)
    }

    /// A script of commands runs to its end and prints results only: no prompt, no echo.
    #[tokio::test]
    async fn a_pipe_gives_results_without_prompts() {
        let script = "SET k \"two words\"\n\n# a comment\nget k\nGET missing\r\nDEL k";
        let (out, code) = run(script, Output::Text).await;
        assert_eq!((out.as_str(), code), ("SUCCESS\ntwo words\n\nSUCCESS\n", 0));
        let (out, _) = run("SET k v\nGET k\n", Output::Json).await;
        let values: Vec<serde_json::Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(values[1]["value"], "v");
    }

    /// One wrong line does not keep the others from running, and is not forgotten.
    #[tokio::test]
    async fn a_failing_line_decides_the_exit_code_and_stops_nothing() {
        let large = "v".repeat(raftkv::VALUE_BYTES_MAX + 1);
        let script = format!("SET a 1\nFETCH a\nSET big {large}\nGET a\nQUIT\nSET a 2\n");
        let (out, code) = run(&script, Output::Text).await;
        assert_eq!((out.as_str(), code), ("SUCCESS\n1\n", 2));
    }

    /// A line without an end must not fill the memory.
    #[test]
    fn a_line_has_a_bound() {
        let endless = vec![b'a'; LINE_BYTES_MAX as usize + 10];
        let error = next_line(&mut &endless[..], 7).unwrap_err();
        assert!(
            error.to_string().contains("line 7 has more than"),
            "{error}"
        );
        let error = next_line(&mut &b"\xff\n"[..], 2).unwrap_err();
        assert!(error.to_string().contains("line 2 is not UTF-8"), "{error}");
        assert_eq!(next_line(&mut &b""[..], 1).unwrap(), None);
    }
}
