//! The question for the cluster's name before anything is deleted.

use std::io::{BufRead, IsTerminal};

use crate::error::{Error, Result};
use crate::local::interrupt::interruption;
use crate::terminal::options::Options;

/// Asks before all data of a cluster is deleted.
///
/// # Errors
/// Nobody confirmed.
pub async fn all_data(verb: &str, cluster: &str, options: &Options) -> Result<()> {
    let deletes = format!("all data of cluster {cluster}");
    let question = format!("This deletes {deletes}. Write its name to go on: ");
    ask(verb, cluster, options, &deletes, &question).await
}

/// Asks with a question for the name of a cluster. Where nobody is there to answer, `deletes` is told.
///
/// # Errors
/// Nobody confirmed.
pub async fn ask(
    verb: &str,
    cluster: &str,
    options: &Options,
    deletes: &str,
    question: &str,
) -> Result<()> {
    if options.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "this deletes {deletes}; nobody is there to confirm it, so say --yes"
        )));
    }
    // Whoever sees the question may answer it in this way at once.
    let interrupted = interruption();
    eprint!("{question}");
    // On a thread of its own, which nobody waits for when Ctrl-C comes instead of an answer.
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map(|_| answer)
    });
    let answer = async {
        let answer = reading.await.map_err(std::io::Error::other).flatten();
        answer.map_err(|error| Error::Other(format!("cannot read the answer: {error}")))
    };
    let answer = tokio::select! {
        answer = answer => answer?,
        () = interrupted => return Err(Error::interrupted(verb)),
    };
    if answer.trim() == cluster {
        return Ok(());
    }
    Err(Error::Usage("not confirmed; nothing was changed".into()))
}
