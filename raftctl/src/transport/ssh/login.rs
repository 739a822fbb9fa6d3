//! Who logs in where, and the configuration that `ssh` is given.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::local::state_files;
use crate::text::hex::hex;

use super::session::Session;

/// How long a connection is kept that nobody uses.
const IDLE_SECONDS: u32 = 300;

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
    /// The command that knows by another way which host key the host has; absent where the next login takes the key
    /// that it is shown.
    pub key_checked_by: Option<&'static str>,
}

impl Login {
    /// A host for which nothing but its name is known.
    #[cfg(test)]
    pub fn to(host: &str, config_file: PathBuf) -> Self {
        Login {
            host: host.to_owned(),
            destination: host.to_owned(),
            user: None,
            port: None,
            identity_file: None,
            jump: None,
            config_file,
            key_checked_by: None,
        }
    }

    /// A name for the connection, the same for everyone who would make the same one.
    #[must_use]
    pub fn fingerprint(&self) -> String {
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

    /// What `ssh` is given to make a connection whose master stays behind, with its socket and its log
    /// in `folder`.
    #[must_use]
    pub(super) fn master_words(&self, folder: &Path, timeout: Duration) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            "-E".into(),
            Session::log_in(folder).into(),
            "-S".into(),
            Session::socket_in(folder).into(),
        ];
        words.extend(["-M", "-f", "-N", "-T"].map(OsString::from));
        let mut option = |text: String| words.extend(["-o".into(), text.into()]);
        option(format!("ControlPersist={IDLE_SECONDS}s"));
        option("BatchMode=yes".into());
        option(format!("ConnectTimeout={}", timeout.as_secs().max(1)));
        if self.identity_file.is_some() {
            option("IdentitiesOnly=yes".into());
        }
        words.extend(self.command_words().into_iter().skip(1).map(OsString::from));
        words
    }
}

/// What is left of the hosts to jump over, on the way to a host that may be one of them: it is reached
/// from the one before, or directly. `jump` is `[user@]host[:port],...`; without a port both mean the
/// one that ssh's configuration gives, or 22.
#[must_use]
pub fn jumps_to(destination: &str, port: Option<u16>, jump: &str) -> Option<String> {
    let is_same = |hop: &&str| {
        let hop = hop.rsplit_once('@').map_or(*hop, |(_, host)| host);
        let (host, hop_port) = match (hop.strip_prefix('['), hop.rsplit_once(':')) {
            (Some(rest), _) => match rest.split_once(']') {
                Some((host, after)) => (host, after.strip_prefix(':')),
                None => (hop, None),
            },
            // More than one colon: an IPv6 address.
            (None, Some((host, port))) if !host.contains(':') => (host, Some(port)),
            _ => (hop, None),
        };
        let hop_port = hop_port.and_then(|port| port.parse().ok());
        host.eq_ignore_ascii_case(destination)
            && (hop_port == port || hop_port.unwrap_or(22) == port.unwrap_or(22))
    };
    let hops: Vec<&str> = jump.split(',').collect();
    let before: Vec<&str> = hops
        .iter()
        .copied()
        .take_while(|hop| !is_same(hop))
        .collect();
    (!before.is_empty()).then(|| before.join(","))
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
    let system = system_config(Path::new("/etc/ssh"), state_dir)?;
    let text = config(&known_hosts(state_dir), identity_file, &system);
    write_changed(&path, &text)?;
    Ok(path)
}

/// Others may read it just now, so it is written only where it is another.
fn write_changed(path: &Path, text: &str) -> Result<()> {
    match std::fs::read_to_string(path) {
        Ok(old) if old == text => Ok(()),
        _ => state_files::replace(path, text),
    }
}

/// The system's own configuration in a file that can be included. ssh reads `/etc/ssh/ssh_config`
/// whoever owns it, but refuses to include a file that belongs to another user than root and the
/// operator, or that others may write: such a one is copied, and read as ssh would read it.
fn system_config(folder: &Path, state_dir: &Path) -> Result<PathBuf> {
    let original = folder.join("ssh_config");
    let is_taken = std::fs::metadata(&original).is_ok_and(|found| {
        let is_own = found.uid() == 0 || found.uid() == rustix::process::geteuid().as_raw();
        is_own && found.mode() & 0o022 == 0
    });
    // What can't be read can't be read by ssh either.
    let text = match std::fs::read_to_string(&original) {
        Ok(text) if !is_taken => text,
        _ => return Ok(original),
    };
    let copy = state_dir.join("ssh_config_system");
    write_changed(&copy, &with_whole_includes(&text, folder))?;
    Ok(copy)
}

/// ssh's configuration, with `folder` before the relative names of files to include: in a file that is
/// included itself they would be looked for in `~/.ssh`.
fn with_whole_includes(text: &str, folder: &Path) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        if !words
            .next()
            .is_some_and(|key| key.eq_ignore_ascii_case("include"))
        {
            return format!("{line}\n");
        }
        let whole = |name: &str| match name.trim_matches('"') {
            name if name.starts_with(['/', '~']) => name.to_owned(),
            name => folder.join(name).display().to_string(),
        };
        let names: Vec<String> = words.map(whole).collect();
        format!("Include {}\n", names.join(" "))
    };
    text.lines().map(line).collect()
}

fn config(known_hosts: &Path, identity_file: Option<&Path>, system: &Path) -> String {
    // ssh expands % and splits at spaces.
    let word = |path: &Path| path.display().to_string().replace('%', "%%");
    let system = system.display();
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
         ControlMaster no\n\
         Tunnel no\n\
         VisualHostKey no\n\
         {identity}\
         Include ~/.ssh/config\n\
         Include \"{system}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // What protects the operator comes before the operator's own files, which ssh reads first-wins.
    #[test]
    fn own_options_come_first() {
        let text = config(
            Path::new("/a b/50%/known_hosts"),
            Some(Path::new("/k")),
            Path::new("/s/ssh_config"),
        );
        assert!(text.contains("IdentityFile \"/k\"\n"));
        assert!(text.contains("UserKnownHostsFile \"/a b/50%%/known_hosts\"\n"));
        let include = text.find("Include").unwrap();
        assert!(text.find("StrictHostKeyChecking accept-new").unwrap() < include);
        assert!(!text.contains("StrictHostKeyChecking no"));
    }

    // A host that is on the way to the others is not reached through itself, whoever logs in there and
    // whatever is written for a port that both have.
    #[test]
    fn a_jump_host_is_reached_directly() {
        for (destination, port, jump, left) in [
            ("gate", None, "gate", None),
            ("gate", None, "root@GATE:22", None),
            ("gate", Some(22), "gate", None),
            ("gate", Some(2222), "gate:2222", None),
            ("10.0.0.1", None, "u@10.0.0.1", None),
            ("fd77::1", None, "u@[fd77::1]", None),
            ("fd77::1", Some(2222), "[fd77::1]:2222", None),
            ("gate2", None, "gate1,gate2", Some("gate1")),
            ("gate1", None, "gate1,gate2", None),
            // Another server behind the same address.
            ("gate", Some(2222), "gate", Some("gate")),
            ("n1", None, "gate:2222", Some("gate:2222")),
            ("fd77::1", None, "fd77::2", Some("fd77::2")),
        ] {
            let found = jumps_to(destination, port, jump);
            assert_eq!(found.as_deref(), left, "{destination} {port:?} {jump}");
        }
    }

    // A system's file that ssh reads by itself and would not include is copied, and leads to the same
    // files as before; any other is left where it is.
    #[test]
    fn a_system_file_of_another_owner_is_read_as_well() {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = etc.path().join("ssh_config");
        let found = || system_config(etc.path(), state.path()).unwrap();
        assert_eq!(found(), file);
        std::fs::write(&file, "Include d/*.conf /x/y\nHost a\n  User u\n").unwrap();
        let mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
        };
        mode(0o644);
        assert_eq!(found(), file);
        mode(0o666);
        assert_ne!(found(), file);
        let text = std::fs::read_to_string(found()).unwrap();
        let folder = etc.path().display();
        assert_eq!(
            text,
            format!("Include {folder}/d/*.conf /x/y\nHost a\n  User u\n")
        );
    }

    // The command to try by hand leads to the same host in the same way.
    #[test]
    fn the_command_names_everything() {
        let login = Login {
            destination: "fd77::1".into(),
            user: Some("raft".into()),
            port: Some(2222),
            identity_file: Some("/k".into()),
            jump: Some("bastion".into()),
            ..Login::to("n1", "/c".into())
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
