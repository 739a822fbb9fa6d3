//! The cluster's own SSH key: made on first use, mode 0600, known to nobody but the operator's
//! machine. Only its public half goes to Terraform.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::error::{Error, Result};

/// Making a key takes a fraction of a second.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The private key, in the cluster's folder.
pub const FILE: &str = "id_ed25519";

/// The public key beside it.
pub const PUBLIC_FILE: &str = "id_ed25519.pub";

/// A pair of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The file of the private key.
    pub private: PathBuf,
    /// The public key, a line.
    pub public: String,
}

/// The cluster's key; made where there is none.
///
/// # Errors
/// `ssh-keygen` is missing or fails, or the files can't be read.
pub async fn ensure(directory: &Path, cluster: &str) -> Result<KeyPair> {
    let private = directory.join(FILE);
    let public = directory.join(PUBLIC_FILE);
    if !private.exists() {
        std::fs::create_dir_all(directory)
            .map_err(|error| Error::file("make", directory, &error))?;
        generate(&private, cluster).await?;
    }
    let text = std::fs::read_to_string(&public).map_err(|error| {
        Error::Other(format!(
            "cannot read {}: {error}; make it with `ssh-keygen -y -f {} > {}`",
            public.display(),
            private.display(),
            public.display()
        ))
    })?;
    Ok(KeyPair {
        private,
        public: text.trim().to_owned(),
    })
}

async fn generate(private: &Path, cluster: &str) -> Result<()> {
    let mut command = tokio::process::Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-C"])
        .arg(format!("raftctl-{cluster}"))
        .arg("-f")
        .arg(private)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let failed =
        |cause: String| Error::Other(format!("cannot make the cluster's SSH key: {cause}"));
    let output = tokio::time::timeout(TIME_MAX, command.output())
        .await
        .map_err(|_| failed("ssh-keygen does not end".into()))?
        .map_err(|error| failed(format!("ssh-keygen: {error}; install the OpenSSH client")))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    // Made once, for nobody else to read, and the same ever after.
    #[tokio::test]
    async fn the_key_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("demo");
        let first = ensure(&folder, "demo").await.unwrap();
        let mode = std::fs::metadata(&first.private)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            first.public.starts_with("ssh-ed25519 ") && first.public.ends_with(" raftctl-demo")
        );
        assert_eq!(ensure(&folder, "demo").await.unwrap(), first);
    }
}
