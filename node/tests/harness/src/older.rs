//! An older version of raft-node, built from this repository's history: once, into a folder below target/.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The last version that knows nothing of formats: its binary. `binary` is one of this version: the other is built beside its folder. Nothing, loudly,
/// where it can't be built; with `CI=true` that fails, unless these sources came without their history.
pub fn older(binary: &str) -> Option<&'static Path> {
    static OLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = OLDER.get_or_init(|| match build(Path::new(binary)) {
        Ok(older) => Some(older),
        Err(why) => {
            let is_complete = std::env::var_os("CI").is_some_and(|value| value == "true");
            let is_complete = is_complete && has_history();
            assert!(!is_complete, "an older version can't be built: {why}");
            eprintln!("LEFT OUT: an older version can't be built: {why}");
            None
        }
    });
    built.as_deref()
}

/// Whether these sources are a clone with all that was before.
fn has_history() -> bool {
    let asked = Command::new("git")
        .args(["rev-parse", "--is-shallow-repository"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    asked.is_ok_and(|answer| answer.stdout.starts_with(b"false"))
}

fn build(binary: &Path) -> Result<PathBuf, String> {
    let target = binary.parent().and_then(Path::parent);
    let done = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/older.sh"))
        .arg(target.ok_or("where is target/?")?)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(PathBuf::from(String::from_utf8_lossy(&done.stdout).trim())),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
