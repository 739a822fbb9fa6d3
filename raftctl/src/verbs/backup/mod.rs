//! `backup`: the state of the cluster as a file, while writes go on; and the trial of one.

mod verify;

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::restore;
use crate::error::{Error, Result};
use crate::local::interrupt::interruption;
use crate::ops::Context;
use crate::ops::backup::Taken;
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::verbs::select;

pub use verify::verify;

/// What `backup` takes.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Where to; - is standard output
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,

    /// Ask these nodes only, as in 2 or followers [default: all, the leader last]
    #[arg(long, value_name = "NODES")]
    from: Option<String>,

    /// Let the backup take the place of a file that is there
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Restore a backup into a throw-away cluster on this machine, and compare what comes out
    ///
    /// The file is checked, three nodes are made of it in a temporary folder, and each must have the
    /// state that the backup has. Then they are asked for a backup, which must hold the same keys and
    /// values. Nothing is left of them afterwards. Needs no cluster.
    #[command(after_help = "Examples:
  raftctl backup verify monday.backup")]
    Verify(Verify),
}

/// What `backup verify` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Verify {
    /// The backup; - reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl Arguments {
    /// The trial that is asked for, which needs no cluster.
    #[must_use]
    pub fn verify(&self) -> Option<&Verify> {
        let Command::Verify(arguments) = self.command.as_ref()?;
        Some(arguments)
    }
}

/// Takes a backup.
///
/// # Errors
/// The file is there; no node gives a backup; the file can't be written. Then it is not there.
pub async fn run(context: &Context, options: &Options, arguments: &Arguments) -> Result<()> {
    let Some(path) = &arguments.file else {
        return Err(Error::Usage("name the file".into()));
    };
    let from = match &arguments.from {
        Some(selector) => select(context, selector).await?,
        None => context.cluster.ids(),
    };
    let to_stdout = path == Path::new("-");
    if to_stdout && options.output == Output::Json {
        let text = "standard output is the backup's own: name a file, or leave --output json out";
        return Err(Error::Usage(text.into()));
    }
    let mut aside = match to_stdout {
        true => Aside::for_stdout()?,
        false => Aside::of(path, arguments.overwrite)?,
    };
    let progress = Progress::new();
    let taking = context.back_up(&from, options.timeout, &mut aside.file, &progress);
    let taken = tokio::select! {
        taken = taking => taken?,
        () = interruption() => {
            return Err(Error::Other("interrupted; there is no backup".into()));
        }
    };
    let kept = aside.keep(path)?;
    match kept {
        Some(mut file) => {
            let copied = std::io::copy(&mut file, &mut std::io::stdout().lock());
            let flushed = copied.and_then(|_| std::io::stdout().flush());
            flushed.map_err(|error| {
                Error::Other(format!("cannot write to standard output: {error}"))
            })?;
            progress.note(&text(&taken, "standard output"));
            Ok(())
        }
        None => tell(options, &taken, path),
    }
}

fn tell(options: &Options, taken: &Taken, path: &Path) -> Result<()> {
    match options.output {
        Output::Text => out::line(&text(taken, &path.display().to_string())),
        Output::Json => {
            let mut told = restore::from_json(&taken.checked.head);
            told["file"] = json!(path.display().to_string());
            told["bytes"] = json!(taken.bytes);
            out::json(&told)
        }
    }
}

fn text(taken: &Taken, to: &str) -> String {
    let head = &taken.checked.head;
    format!(
        "cluster {} after entry {} (term {}): {} keys, {} KiB, hash {:08x}, from node {} -> {to}",
        head.cluster,
        head.index,
        head.term,
        head.keys,
        taken.bytes.div_ceil(1024),
        head.hash,
        head.node
    )
}

/// A file that has another name until it is whole, and is gone if it never is.
struct Aside {
    file: File,
    partial: Option<PathBuf>,
    overwrite: bool,
}

impl Aside {
    fn of(path: &Path, overwrite: bool) -> Result<Self> {
        refuse_existing(path, overwrite)?;
        let name = path.file_name().map(|name| name.to_string_lossy());
        let Some(name) = name else {
            return Err(Error::Usage(format!("{} is no file", path.display())));
        };
        let partial = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        Aside::create(partial, overwrite)
    }

    /// What goes to standard output comes there whole or not at all, too.
    fn for_stdout() -> Result<Self> {
        let name = format!("raftctl-backup-{:016x}", rand::random::<u64>());
        let mut aside = Aside::create(std::env::temp_dir().join(name), false)?;
        // It needs no name, so nothing is left of it whatever happens.
        aside.remove();
        Ok(aside)
    }

    fn create(partial: PathBuf, overwrite: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&partial);
        let file = file.map_err(|error| Error::file("make", &partial, &error))?;
        let partial = Some(partial);
        Ok(Aside {
            file,
            partial,
            overwrite,
        })
    }

    /// Gives it its name; a file without one is handed out, at its beginning.
    fn keep(mut self, path: &Path) -> Result<Option<File>> {
        let Some(partial) = &self.partial else {
            let file = self.file.try_clone().and_then(|mut file| {
                file.rewind()?;
                Ok(file)
            });
            return file
                .map(Some)
                .map_err(|error| Error::Other(format!("cannot read the backup: {error}")));
        };
        refuse_existing(path, self.overwrite)?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let named = std::fs::rename(partial, path);
        named
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| Error::file("write", path, &error))?;
        self.partial = None;
        Ok(None)
    }

    fn remove(&mut self) {
        if let Some(partial) = self.partial.take() {
            // Whatever keeps it there, the error that ended this says more.
            let _ = std::fs::remove_file(partial);
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.remove();
    }
}

fn refuse_existing(path: &Path, overwrite: bool) -> Result<()> {
    // A link that leads nowhere is something, too.
    match std::fs::symlink_metadata(path) {
        Ok(_) if !overwrite => Err(Error::Usage(format!(
            "{} is there already; name another file, or say --overwrite",
            path.display()
        ))),
        _ => Ok(()),
    }
}
