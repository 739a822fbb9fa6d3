//! Who logs in where, and the configuration that `ssh` is given.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hex::hex;
use crate::keep;

/// How one host is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The host as the operator knows it, for messages.
    pub host: String,
    /// The name or address that `ssh` is given; may be a `Host` of `~/.ssh/config`.
    pub destination: String,
    /// The user; absent: what ssh's own configuration says.
    pub user: Option<String>,
    /// The port; absent: what ssh's own configuration says.
    pub port: Option<u16>,
    /// The only key to use; absent: the agent, and ssh's own defaults.
    pub identity_file: Option<PathBuf>,
    /// `[user@]host[:port]` to go through.
    pub jump: Option<String>,
    /// [`write_config`] wrote it, for all hosts of a cluster.
    pub config_file: PathBuf,
}

impl Login {
    /// A name for the connection, the same for everyone who would make the same one.
    #[must_use]
    pub(super) fn fingerprint(&self) -> String {
        let text = format!("{self:?}");
        let digest = Sha256::digest(text.as_bytes());
        hex(&digest[..8])
    }

    /// The command that an operator can try by hand.
    #[must_use]
    pub fn command(&self) -> String {
        self.command_words().join(" ")
    }

    /// `ssh`, its options and the destination, without a remote command.
    #[must_use]
    pub fn command_words(&self) -> Vec<String> {
        let mut words = vec![
            "ssh".to_owned(),
            "-F".into(),
            self.config_file.display().to_string(),
        ];
        let mut option = |flag: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        };
        option("-l", self.user.clone());
        option("-p", self.port.map(|port| port.to_string()));
        option(
            "-i",
            self.identity_file
                .as_ref()
                .map(|path| path.display().to_string()),
        );
        option("-J", self.jump.clone());
        words.push(self.destination.clone());
        words
    }
}

/// The cluster's own file of host keys.
#[must_use]
pub fn known_hosts(state_dir: &Path) -> PathBuf {
    state_dir.join("known_hosts")
}

/// Writes the configuration with which `ssh` is started for all hosts of a cluster, and gives its
/// path. Of an option that is there twice, ssh takes the first: so the operator's own files come
/// last, and can't undo what is said here. A key that is named is for jump hosts, too, which know
/// nothing of the command line.
///
/// # Errors
/// The file can't be written.
pub fn write_config(state_dir: &Path, identity_file: Option<&Path>) -> Result<PathBuf> {
    std::fs::create_dir_all(state_dir)
        .map_err(|error| Error::file("make the folder", state_dir, &error))?;
    let path = state_dir.join("ssh_config");
    let text = config(&known_hosts(state_dir), identity_file);
    // Others may read it just now.
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(path);
    }
    keep::replace(&path, &text)?;
    Ok(path)
}

fn config(known_hosts: &Path, identity_file: Option<&Path>) -> String {
    // ssh expands % and splits at spaces.
    let word = |path: &Path| path.display().to_string().replace('%', "%%");
    let known_hosts = word(known_hosts);
    let identity = identity_file.map_or(String::new(), |path| {
        format!("IdentityFile \"{}\"\nIdentitiesOnly yes\n", word(path))
    });
    format!(
        "# Written by raftctl, and written again when it is changed.\n\
         UserKnownHostsFile \"{known_hosts}\"\n\
         GlobalKnownHostsFile /dev/null\n\
         StrictHostKeyChecking accept-new\n\
         UpdateHostKeys no\n\
         HashKnownHosts no\n\
         CheckHostIP no\n\
         LogLevel INFO\n\
         ConnectionAttempts 1\n\
         ServerAliveInterval 3\n\
         ServerAliveCountMax 3\n\
         NumberOfPasswordPrompts 0\n\
         ForwardAgent no\n\
         ForwardX11 no\n\
         ClearAllForwardings yes\n\
         PermitLocalCommand no\n\
         RemoteCommand none\n\
         {identity}\
         Include ~/.ssh/config\n\
         Include /etc/ssh/ssh_config\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // What protects the operator comes before the operator's own files, which ssh reads first-wins.
    #[test]
    fn own_options_come_first() {
        let text = config(Path::new("/a b/50%/known_hosts"), Some(Path::new("/k")));
        assert!(text.contains("IdentityFile \"/k\"\n"));
        assert!(text.contains("UserKnownHostsFile \"/a b/50%%/known_hosts\"\n"));
        let include = text.find("Include").unwrap();
        assert!(text.find("StrictHostKeyChecking accept-new").unwrap() < include);
        assert!(!text.contains("StrictHostKeyChecking no"));
    }

    // The command to try by hand leads to the same host in the same way.
    #[test]
    fn the_command_names_everything() {
        let login = Login {
            host: "n1".into(),
            destination: "fd77::1".into(),
            user: Some("raft".into()),
            port: Some(2222),
            identity_file: Some("/k".into()),
            jump: Some("bastion".into()),
            config_file: "/c".into(),
        };
        assert_eq!(
            login.command(),
            "ssh -F /c -l raft -p 2222 -i /k -J bastion fd77::1"
        );
        let other = Login {
            port: Some(22),
            ..login.clone()
        };
        assert_ne!(login.fingerprint(), other.fingerprint());
        assert_eq!(login.fingerprint(), login.clone().fingerprint());
    }
}
