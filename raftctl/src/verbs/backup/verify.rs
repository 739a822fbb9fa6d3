//! The trial of a backup: it is restored, with all that `restore` does, into a cluster that lives for that
//! only, and comes out again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Arguments;
use crate::cluster::id::ClusterId;
use crate::cluster::outcomes::all_or_partial;
use crate::cluster::{self, BinarySource, Cluster};
use crate::error::{Error, Result};
use crate::local::interrupt::interruption;
use crate::ops::{Context, anew, target};
use crate::terminal::options::{Options, Output};
use crate::terminal::out;
use crate::terminal::progress::Progress;
use crate::text::backups::Checked;
use crate::verbs::restore::{self, Source};

/// As many as make a replicated state.
const NODES: u16 = 3;
/// Below the ports that systems hand out.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Restores a backup into a throw-away cluster. `config` may name a cluster.yaml, whose binary is taken.
///
/// # Errors
/// The backup is damaged, or does not come out as it went in; the cluster does not come up.
pub async fn verify(config: &Path, options: &Options, arguments: &Arguments) -> Result<()> {
    let Some(arguments) = arguments.verify() else {
        return Err(Error::Usage("name the backup".into()));
    };
    let source = restore::read(&arguments.file)?;
    let binary = cluster::load(config).ok().map(|cluster| cluster.binary);
    let trial = Trial::begin(binary)?;
    let progress = Progress::new();
    let verified = tokio::select! {
        // Large: on the heap.
        verified = Box::pin(trial.verify(options, &source, &progress)) => verified,
        () = interruption() => Err(Error::Other("interrupted; nothing is known".into())),
    };
    trial.end().await?;
    verified?;
    tell(options, &source, &arguments.file)
}

/// The cluster, and the folder that it lives in.
struct Trial {
    folder: PathBuf,
    cluster: Cluster,
}

impl Trial {
    fn begin(binary: Option<BinarySource>) -> Result<Self> {
        let name = format!("raftctl-verify-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        let failed = |error| Error::file("make the folder", &folder, &error);
        std::fs::create_dir(&folder).map_err(failed)?;
        let made = write(&folder).and_then(|file| cluster::load(&file));
        match made {
            Ok(mut cluster) => {
                cluster.binary = binary.unwrap_or(cluster.binary);
                Ok(Trial { folder, cluster })
            }
            Err(error) => {
                // The error says more than what is left of an empty folder.
                let _ = std::fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    async fn verify(&self, options: &Options, source: &Source, progress: &Progress) -> Result<()> {
        let context = Context::open(self.cluster.clone()).await?;
        let binary = target::obtain(&context, progress).await?;
        let ids = context.cluster.ids();
        let state = anew::State {
            text: &source.text,
            id: ClusterId::mint(),
            sets_aside: false,
        };
        let made = anew::make(&context, &ids, &binary, &state, progress).await?;
        let told = format!("{:08x}", source.checked.head.hash);
        if made.source_hash != told {
            let found = &made.source_hash;
            return Err(Error::CheckFailed(format!(
                "the backup's state has the hash {found}, and it says {told}"
            )));
        }
        let timeout = options.timeout;
        anew::start(&context, &binary, state.id, &made, timeout, progress).await?;
        let again = self.come_out(&context, options, progress).await?;
        let (before, after) = (&source.checked, &again);
        match (before.content, before.head.keys) == (after.content, after.head.keys) {
            true => Ok(()),
            false => Err(Error::CheckFailed(format!(
                "what comes out binds {} keys with the checksum {:08x}; the backup binds {} with {:08x}",
                after.head.keys, after.content, before.head.keys, before.content
            ))),
        }
    }

    async fn come_out(
        &self,
        context: &Context,
        options: &Options,
        progress: &Progress,
    ) -> Result<Checked> {
        let path = self.folder.join("again.backup");
        let mut file =
            std::fs::File::create(&path).map_err(|error| Error::file("make", &path, &error))?;
        let ids = context.cluster.ids();
        let taken = context.back_up(&ids, options.timeout, &mut file, progress);
        Ok(taken.await?.checked)
    }

    /// Whatever has happened: no process stays, and no file.
    async fn end(self) -> Result<()> {
        let context = Context::open(self.cluster).await?;
        let ids = context.cluster.ids();
        let killed = all_or_partial(context.kill(&ids).await, "killed");
        let removed = std::fs::remove_dir_all(&self.folder)
            .map_err(|error| Error::file("delete", &self.folder, &error));
        killed.and(removed)
    }
}

/// Writes the cluster.yaml of a trial, on ports that nobody uses.
fn write(folder: &Path) -> Result<PathBuf> {
    const TRIES_MAX: usize = 100;
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let base = std::iter::repeat_with(|| rand::random_range(PORTS))
        .take(TRIES_MAX)
        .find(|base| (*base..base + 4 * NODES).all(is_free));
    let base = base.ok_or_else(|| Error::Other("no ports are free on this machine".into()))?;
    let client = base + 2 * NODES;
    let text = format!("name: verify\nnodes: {NODES}\nports: {{peer: {base}, client: {client}}}\n");
    let file = folder.join("cluster.yaml");
    std::fs::write(&file, text).map_err(|error| Error::file("write", &file, &error))?;
    Ok(file)
}

fn tell(options: &Options, source: &Source, file: &Path) -> Result<()> {
    let head = &source.checked.head;
    match options.output {
        Output::Json => {
            let mut told = restore::from_json(head);
            told["file"] = json!(file.display().to_string());
            told["verified"] = json!(true);
            out::json(&told)
        }
        Output::Text => {
            let of = match head.cluster.as_str() {
                "" => "a snapshot".to_owned(),
                cluster => format!("cluster {cluster} at {}", head.time),
            };
            out::line(&format!(
                "{}: whole, and comes back: {} keys of {of}, after entry {} (hash {:08x})",
                file.display(),
                head.keys,
                head.index,
                head.hash
            ))
        }
    }
}
