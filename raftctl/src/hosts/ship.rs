//! Shipping binaries: compressed, verified, and switched to at once.
//!
//! A release lies in a folder that is named after its sha256, so a binary that is there already is
//! not sent again, and one that runs is never written to. `current` is a symbolic link, `previous`
//! what it was before; both lead to the same release after a way back.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::control::run;
use super::inventory::Host;
use crate::error::{Error, Result};
use crate::local::binary::Binary;
use crate::scripts::layout::release_name;
use crate::scripts::shell::{END, call};
use crate::transport::Request;

const SHIP: &str = include_str!("../scripts/ship.sh");

/// How many releases a host keeps.
const RELEASES_MAX: u32 = 5;

/// A binary that is ready to be sent to many hosts.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Of the binary, in hexadecimal digits.
    sha256: String,
    /// What it is built for.
    target: Option<&'static str>,
    bytes: Arc<[u8]>,
}

impl Parcel {
    /// Compresses a binary. Takes a moment: not for the thread of others.
    ///
    /// # Errors
    /// The binary can't be read.
    pub fn pack(binary: &Binary) -> Result<Self> {
        let failed = |error| Error::file("read", &binary.path, &error);
        let mut file = std::fs::File::open(&binary.path).map_err(failed)?;
        let mut plain = Vec::new();
        file.read_to_end(&mut plain).map_err(failed)?;
        // A fast setting: the wire is faster than the best one.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(2));
        let packed = encoder.write_all(&plain).and_then(|()| encoder.finish());
        Ok(Parcel {
            sha256: binary.sha256.clone(),
            target: machine(&plain),
            bytes: packed.map_err(failed)?.into(),
        })
    }

    /// How many bytes are sent.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// What a program is built for, as `uname -m` calls it, by the head of its file.
fn machine(program: &[u8]) -> Option<&'static str> {
    if program.get(..4)? != b"\x7fELF" {
        return None;
    }
    match program.get(18..20)? {
        [0x3e, 0] => Some("x86_64"),
        [0xb7, 0] => Some("aarch64"),
        [0xf3, 0] => Some("riscv64"),
        [0x28, 0] => Some("armv7l"),
        _ => None,
    }
}

fn script(calls: &[String]) -> String {
    format!(
        "set -u\nexport LC_ALL=C\n{SHIP}{}\necho {END}\n",
        calls.join("\n")
    )
}

/// Makes a release the current one; `false` where it is not there.
///
/// # Errors
/// The host can't be reached, or its files can't be changed.
pub async fn activate(host: &Host, sha256: &str, deadline: Duration) -> Result<bool> {
    let base = host.layout.base.as_str();
    let script = script(&[call("activate", [base, release_name(sha256)])]);
    let request = Request::new("switch to the release", &script, deadline);
    Ok(run(host, request).await?.one("host", "active")? == "yes")
}

/// Makes an older release the current one, by its name; `false` where it is not there. A host that
/// has it as the current one is left as it is.
///
/// # Errors
/// As [`activate`].
pub async fn go_back(host: &Host, release: &str, deadline: Duration) -> Result<bool> {
    let script = script(&[call("go_back", [host.layout.base.as_str(), release])]);
    let request = Request::new("go back to the release", &script, deadline);
    Ok(run(host, request).await?.one("host", "active")? == "yes")
}

/// Up to which format a release reads that lies on a host; `None` where it is not there, or does not run.
///
/// # Errors
/// As [`activate`].
pub async fn reads_format(host: &Host, release: &str, deadline: Duration) -> Result<Option<u64>> {
    let script = script(&[call("reads", [host.layout.base.as_str(), release])]);
    let request = Request::new("ask the release what it reads", &script, deadline);
    let answer = run(host, request).await?;
    Ok(answer
        .all("host", "reads")
        .next()
        .and_then(|format| format.parse().ok()))
}

/// Sends a binary, has the host verify and try it, and makes it the current one.
///
/// # Errors
/// The host can't be reached, has no space, or can't run the binary. Nothing has changed then.
pub async fn send(
    host: &Host,
    parcel: &Parcel,
    deadline: Duration,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let base = host.layout.base.as_str();
    let release = release_name(&parcel.sha256);
    let script = script(&[
        call("receive", [base, release, &parcel.sha256]),
        call("activate", [base, release]),
        call("prune", [base, &RELEASES_MAX.to_string()]),
    ]);
    let request = Request::new("take raft-node", &script, deadline)
        .with_stdin(Arc::clone(&parcel.bytes))
        .with_progress(progress);
    let answer = run(host, request)
        .await
        .map_err(|error| explain(error, parcel))?;
    answer.one("host", "active").map(drop)
}

/// Refuses a host that can't run a binary, before anything is sent.
///
/// # Errors
/// The host is another kind of machine.
pub fn check_machine(host: &str, machine: &str, parcel: &Parcel) -> Result<()> {
    let Some(target) = parcel.target else {
        return Ok(()); // A script, say. Trying it there tells.
    };
    // The same machine under another name.
    let same = [("arm64", "aarch64"), ("amd64", "x86_64")];
    if target == machine || same.contains(&(machine, target)) {
        return Ok(());
    }
    Err(Error::Host {
        host: host.to_owned(),
        purpose: "run raft-node".into(),
        detail: format!(
            "it is built for {target}, and the host is {machine}; build it for the host (`rustup \
             target add {machine}-unknown-linux-musl && cargo build --release -p raft-node \
             --target {machine}-unknown-linux-musl`) and name it in cluster.yaml: binary: PATH"
        ),
    })
}

/// Adds what to do to what the host said.
fn explain(error: Error, parcel: &Parcel) -> Error {
    let Error::Host {
        host,
        purpose,
        detail,
    } = error
    else {
        return error;
    };
    let target = parcel.target.unwrap_or("another system");
    let advice = if detail.contains("No space left") {
        "; free some space there, and run this again".to_owned()
    } else if detail.contains("(noexec)") {
        "; or let the cluster live elsewhere: in /opt, where the login may use sudo without a password, \
         or below another home (`ssh.user`)"
            .to_owned()
    } else if detail.contains("Permission denied") {
        "; something there (SELinux, AppArmor, fapolicyd) keeps the login from running it: let it run \
         programs from that folder, and run this again"
            .to_owned()
    } else if detail.contains("GLIBC_") || detail.contains("not found") {
        format!(
            "; its C library does not fit: build raft-node without one (`cargo build --release -p \
             raft-node --target {target}-unknown-linux-musl`) and name it in cluster.yaml: binary: \
             PATH"
        )
    } else if detail.contains("Exec format error") {
        format!("; it is built for {target}: build it for the host, and name it in cluster.yaml")
    } else {
        String::new()
    };
    Error::Host {
        host,
        purpose,
        detail: format!("{detail}{advice}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scripts::layout::HostLayout;
    use crate::text::hex::hex;
    use crate::transport::fake::{Answer, Fake};
    use crate::transport::local::LocalTransport;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn host(base: &Path) -> Host {
        Host {
            transport: Arc::new(LocalTransport),
            layout: HostLayout::remote(base.to_str().unwrap()),
            nodes: vec![1],
        }
    }

    /// A program that prints its version, and its parcel.
    fn parcel(folder: &Path, version: &str) -> Parcel {
        let path = folder.join("raft-node");
        std::fs::write(&path, format!("#!/bin/sh\necho raft-node {version}\n")).unwrap();
        use sha2::Digest;
        let sha256 = hex(&sha2::Sha256::digest(std::fs::read(&path).unwrap()));
        Parcel::pack(&Binary { path, sha256 }).unwrap()
    }

    fn runs(host: &Host) -> String {
        let output = std::process::Command::new(host.layout.current_executable()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// What a host's links lead to.
    fn links(host: &Host) -> [Option<String>; 2] {
        ["current", "previous"].map(|name| {
            let target = std::fs::read_link(format!("{}/bin/{name}", host.layout.base)).ok()?;
            Some(target.file_name()?.to_str()?.to_owned())
        })
    }

    // A release arrives whole, is switched to, and can be left again for the one before, once: the
    // same again, as after an interruption, changes nothing.
    #[tokio::test]
    async fn a_release_arrives_and_can_be_left_again() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(&folder.path().join("base"));
        let one = parcel(folder.path(), "1");
        assert!(!activate(&host, &one.sha256, DEADLINE).await.unwrap());
        let first = release_name(&one.sha256);
        assert!(!go_back(&host, first, DEADLINE).await.unwrap());
        send(&host, &one, DEADLINE, &|_| ()).await.unwrap();
        assert_eq!(runs(&host), "raft-node 1\n");
        send(&host, &parcel(folder.path(), "2"), DEADLINE, &|_| ())
            .await
            .unwrap();
        assert_eq!(runs(&host), "raft-node 2\n");
        for _ in 0..2 {
            assert!(go_back(&host, first, DEADLINE).await.unwrap());
            assert_eq!(runs(&host), "raft-node 1\n");
            assert_eq!(
                links(&host),
                [Some(first.to_owned()), Some(first.to_owned())]
            );
        }
        let reads = async |release: &str| reads_format(&host, release, DEADLINE).await.unwrap();
        assert_eq!(reads(first).await, Some(1), "it says nothing of formats");
        let third = parcel(folder.path(), "3; echo reads formats up to 2");
        send(&host, &third, DEADLINE, &|_| ()).await.unwrap();
        assert_eq!(reads(release_name(&third.sha256)).await, Some(2));
        assert_eq!(reads("0123456789ab").await, None);
        let mark = folder.path().join("base/bin/releases").join(first);
        std::fs::remove_file(mark.join("sha256")).unwrap();
        assert!(!activate(&host, &one.sha256, DEADLINE).await.unwrap());
    }

    // What is damaged, cut short, or does not run leaves no trace.
    #[tokio::test]
    async fn a_bad_upload_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(&folder.path().join("base"));
        let good = parcel(folder.path(), "1");
        send(&host, &good, DEADLINE, &|_| ()).await.unwrap();
        let cut = Parcel {
            bytes: good.bytes[..good.bytes.len() / 2].into(),
            ..good.clone()
        };
        let other = Parcel {
            sha256: "0123456789abcdef".into(),
            ..good.clone()
        };
        let broken = parcel(folder.path(), "3; exit 3");
        for (bad, words) in [
            (cut, "unexpected end of file"),
            (other, "damaged"),
            (broken, "does not run"),
        ] {
            let error = send(&host, &bad, DEADLINE, &|_| ()).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.exit_code(), 20);
        }
        assert_eq!(runs(&host), "raft-node 1\n");
        let left = std::fs::read_dir(folder.path().join("base/bin/releases")).unwrap();
        assert_eq!(left.count(), 1);
    }

    // A host without gzip is told so, and not that the binary does not fit.
    #[tokio::test]
    async fn a_host_without_gzip_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut host = host(&folder.path().join("base"));
        let path = folder.path().display().to_string();
        let bare = move |request: &Request<'_>| {
            Ok(Answer::Instead(format!("PATH={path}\n{}", request.script)))
        };
        host.transport = Arc::new(Fake("bare", bare));
        let error = send(&host, &parcel(folder.path(), "1"), DEADLINE, &|_| ())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("there is no gzip: install it"), "{error}");
        assert!(!error.contains("C library"), "{error}");
        assert!(!folder.path().join("base").exists());
    }

    // Another kind of machine is refused before anything is sent, with the command that helps.
    #[test]
    fn another_machine_is_refused() {
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(18, 0);
        elf.extend([0x3e, 0]);
        assert_eq!(machine(&elf), Some("x86_64"));
        let parcel = Parcel {
            sha256: String::new(),
            target: machine(&elf),
            bytes: Arc::from([]),
        };
        check_machine("n1", "x86_64", &parcel).unwrap();
        let error = check_machine("n1", "aarch64", &parcel)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("n1: cannot run raft-node: it is built for x86_64"),
            "{error}"
        );
        assert!(
            error.contains("--target aarch64-unknown-linux-musl"),
            "{error}"
        );
    }
}
