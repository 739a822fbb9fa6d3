//! OS Login: Google says who may log in, and as whom; no key is in the machines' metadata.
//!
//! The cluster's key goes into the profile of whoever runs raftctl, and out of it with the cluster.
//! Whether that one may log in, and use `sudo`, is decided by roles: `compute.osAdminLogin`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::gcloud::Gcloud;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::local::state_files;
use crate::transport::ssh::key_pair;

/// What is remembered, so that not every verb asks Google.
pub const FILE: &str = "os_login.json";

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Whom the profile logs in as.
    user: String,
    /// The public key that was added: another one has to be added again.
    public_key: String,
}

/// Lets the cluster's key log in, unless that was done before, or SSH goes by keys in the metadata.
///
/// # Errors
/// There is no key; Google refuses, or does not answer.
pub async fn ensure(cluster: &Cluster) -> Result<()> {
    if !cluster.gcp.company.os_login {
        return Ok(());
    }
    let folder = cluster.state_dir();
    let (public, path) = (public_key(&folder)?, folder.join(FILE));
    if load(&path).is_some_and(|kept| kept.public_key == public) {
        return Ok(());
    }
    let user = gcloud(cluster)
        .add_login_key(&folder.join(key_pair::PUBLIC_FILE))
        .await?;
    let kept = Kept {
        user,
        public_key: public,
    };
    let text =
        serde_json::to_string_pretty(&kept).map_err(|error| Error::Other(error.to_string()))?;
    state_files::replace(&path, &(text + "\n"))
}

/// Whom the cluster's key logs in as; `None` where SSH goes by keys in the metadata.
///
/// # Errors
/// OS Login was not prepared here.
pub fn user(cluster: &Cluster) -> Result<Option<String>> {
    if !cluster.gcp.company.os_login {
        return Ok(None);
    }
    let kept = load(&cluster.state_dir().join(FILE));
    let user = kept.map(|kept| kept.user);
    user.map(Some).ok_or_else(|| {
        let text =
            "the cluster's key is in no OS Login profile of yours; run `raftctl up`, which adds it";
        Error::Usage(text.into())
    })
}

/// Takes the key out of the profile, where it was added from here.
///
/// # Errors
/// Google refuses, or does not answer.
pub async fn forget(cluster: &Cluster) -> Result<()> {
    let folder = cluster.state_dir();
    let path = folder.join(FILE);
    if load(&path).is_none() {
        return Ok(());
    }
    gcloud(cluster)
        .remove_login_key(&folder.join(key_pair::PUBLIC_FILE))
        .await?;
    state_files::forget(&path)
}

fn gcloud(cluster: &Cluster) -> Gcloud {
    Gcloud::new(cluster.gcp.project.as_deref().unwrap_or_default())
}

fn public_key(folder: &Path) -> Result<String> {
    let path: PathBuf = folder.join(key_pair::PUBLIC_FILE);
    let text =
        std::fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))?;
    Ok(text.trim().to_owned())
}

/// A file that can't be read is one that has to be written again.
fn load(path: &Path) -> Option<Kept> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whom to log in as is known from the first time on, and without that the way out is told.
    #[test]
    fn the_user_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "name: demo\nprovider: gcp\nnodes: 1\ngcp: {project: my-project, zones: [us-central1-a], os_login: true}\n";
        let mut cluster =
            crate::cluster::parse(yaml, "x", folder.path().to_owned(), &|_| None).unwrap();
        let text = user(&cluster).unwrap_err().to_string();
        assert!(text.contains("`raftctl up`"), "{text}");
        std::fs::create_dir_all(cluster.state_dir()).unwrap();
        let kept = r#"{"user": "ann_example_com", "public_key": "ssh-ed25519 A"}"#;
        std::fs::write(cluster.state_dir().join(FILE), kept).unwrap();
        assert_eq!(user(&cluster).unwrap().as_deref(), Some("ann_example_com"));
        cluster.gcp.company.os_login = false;
        assert_eq!(user(&cluster).unwrap(), None);
    }
}
