//! Finding raft-node: beside raftctl, where cluster.yaml says, or built from the checkout that
//! raftctl runs from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::cluster::{BinarySource, Cluster};
use crate::error::{Error, Result};
use crate::text::hex::hex;

/// The name of the file.
pub const NAME: &str = "raft-node";

/// A raft-node that can be started or shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// What it is: 64 hexadecimal digits.
    pub sha256: String,
}

impl Binary {
    /// Up to which format of files it reads, where it runs on this machine. Versions that do not tell
    /// are from before there were others than the first.
    #[must_use]
    pub fn reads_format(&self) -> Option<u64> {
        let output = Command::new(&self.path).arg("--version").output().ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        let told = said
            .lines()
            .find_map(|line| line.strip_prefix("reads formats up to "));
        let is_told = output.status.success() && said.starts_with(NAME);
        is_told.then(|| told.map_or(Some(1), |format| format.parse().ok()))?
    }
}

/// Where a binary comes from, before any is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is there.
    Present(PathBuf),
    /// It has to be built from this checkout, for the profile of raftctl itself.
    Build {
        /// The folder with the workspace's Cargo.toml.
        checkout: PathBuf,
        /// `--release`, or nothing.
        release: bool,
        /// Where it will be.
        path: PathBuf,
    },
}

impl Origin {
    /// The command that builds it, where it has to be built.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        let Origin::Build {
            checkout, release, ..
        } = self
        else {
            return None;
        };
        let flag = if *release { " --release" } else { "" };
        Some(format!(
            "cargo build --package {NAME}{flag}, in {}",
            checkout.display()
        ))
    }
}

/// Where the binary of a cluster comes from.
///
/// # Errors
/// It is nowhere; the message says what to do.
pub fn locate(cluster: &Cluster) -> Result<Origin> {
    match &cluster.binary {
        BinarySource::Path(path) if path.is_file() => Ok(Origin::Present(path.clone())),
        BinarySource::Path(path) => Err(Error::Usage(format!(
            "the binary {} is not there; correct `binary` in cluster.yaml, or write binary: auto",
            path.display()
        ))),
        BinarySource::Auto => {
            let own = std::env::current_exe().map_err(|error| {
                Error::Other(format!("cannot find out where raftctl is: {error}"))
            })?;
            beside(&own)
        }
    }
}

fn beside(raftctl: &Path) -> Result<Origin> {
    let path = raftctl.with_file_name(NAME);
    if path.is_file() {
        return Ok(Origin::Present(path));
    }
    // <checkout>/target/<profile>/raftctl
    let profile = raftctl.parent().and_then(Path::file_name);
    let checkout = raftctl
        .ancestors()
        .nth(3)
        .filter(|root| root.join("Cargo.toml").is_file() && root.join("node/Cargo.toml").is_file());
    match (checkout, profile.and_then(|name| name.to_str())) {
        (Some(checkout), Some(profile @ ("debug" | "release"))) => Ok(Origin::Build {
            checkout: checkout.to_owned(),
            release: profile == "release",
            path,
        }),
        _ => Err(Error::Usage(format!(
            "{NAME} is not beside raftctl ({}); put it there, or name it in cluster.yaml: \
             binary: /path/to/{NAME}",
            path.display()
        ))),
    }
}

/// The binary of an origin, built if need be. `say` is told before a build begins.
///
/// # Errors
/// It can't be built or read.
pub fn obtain(origin: &Origin, say: impl FnOnce(&str)) -> Result<Binary> {
    let path = match origin {
        Origin::Present(path) => path,
        Origin::Build {
            checkout,
            release,
            path,
        } => {
            let command = origin.command().unwrap_or_default();
            say(&format!("{NAME} is not there yet: {command}"));
            build(checkout, path, *release)?;
            path
        }
    };
    let path = std::path::absolute(path).map_err(|error| Error::file("find", path, &error))?;
    let sha256 = sha256_of(&path).map_err(|error| Error::file("read", &path, &error))?;
    Ok(Binary { path, sha256 })
}

/// Builds into the folder that raftctl itself was built into, wherever cargo would put it now.
fn build(checkout: &Path, path: &Path, release: bool) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--package", NAME])
        .current_dir(checkout);
    if let Some(target) = path.ancestors().nth(2) {
        cargo.arg("--target-dir").arg(target);
    }
    if release {
        cargo.arg("--release");
    }
    // Its output goes to standard error, as all talk does.
    cargo.stdout(std::process::Stdio::null());
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Error::Usage(format!(
            "{NAME} could not be built; see above, then run it again"
        ))),
        Err(error) => Err(Error::Usage(format!(
            "{NAME} is not beside raftctl, and cargo can't build it: {error}; install Rust \
             (https://rustup.rs), or name a binary in cluster.yaml"
        ))),
    }
}

fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
    }
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The binary beside raftctl wins; a checkout can build it; else the message says what to do.
    #[test]
    fn the_binary_is_found_or_built_or_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let raftctl = folder.path().join("target/release/raftctl");
        std::fs::create_dir_all(raftctl.parent().unwrap()).unwrap();
        let error = beside(&raftctl).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("binary: /path/to/raft-node"),
            "{error}"
        );

        std::fs::create_dir(folder.path().join("node")).unwrap();
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        std::fs::write(folder.path().join("node/Cargo.toml"), "").unwrap();
        let origin = beside(&raftctl).unwrap();
        assert!(
            matches!(origin, Origin::Build { release: true, .. }),
            "{origin:?}"
        );

        let node = raftctl.with_file_name(NAME);
        std::fs::write(&node, "abc").unwrap();
        let origin = beside(&raftctl).unwrap();
        assert_eq!(origin, Origin::Present(node));
        let binary = obtain(&origin, |_| panic!("nothing is built")).unwrap();
        assert!(binary.sha256.starts_with("ba7816bf8f01cfea"), "{binary:?}");
    }
}
