//! What `ssh` says when it can't connect -> the cause, and what to do next.

use std::ffi::OsStr;

use super::login::{Login, known_hosts};
use crate::hosts::TransportError;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Another try may help at once: the server was too busy to listen.
    Busy,
    /// The host is not there.
    Unreachable,
    /// The host is there, and a person has to act.
    Refused,
}

/// Signs in the text, the kind that each tells, and what to do next. The first that fits counts.
const SIGNS: &[(&str, Kind, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Kind::Refused,
        "", // Said with more detail below.
    ),
    (
        "Host key verification failed",
        Kind::Refused,
        "look at its key with `ssh-keyscan`",
    ),
    (
        "Permission denied",
        Kind::Refused,
        "check `ssh.user` and `ssh.identity_file` in cluster.yaml, and that the key is in its \
         ~/.ssh/authorized_keys",
    ),
    (
        "Too many authentication failures",
        Kind::Refused,
        "name the right key in cluster.yaml: ssh: {identity_file: ...}",
    ),
    (
        "Could not resolve hostname",
        Kind::Unreachable,
        "correct `host` (or `ssh.jump`) in cluster.yaml, or add the name to ~/.ssh/config",
    ),
    (
        "gcloud auth login",
        Kind::Refused,
        "log in to Google Cloud, and run this again",
    ),
    (
        "[4033",
        Kind::Refused,
        "Identity-Aware Proxy does not let the account in: give it the role \
         roles/iap.tunnelResourceAccessor in the project (terraform/README.md, Permissions)",
    ),
    (
        "[4003",
        Kind::Unreachable,
        "its SSH server is not up yet, or a firewall keeps Identity-Aware Proxy out",
    ),
    (
        "(gcloud.",
        Kind::Unreachable,
        "gcloud makes the way through Identity-Aware Proxy, and failed",
    ),
    (
        "Bad configuration option",
        Kind::Refused,
        "correct ~/.ssh/config",
    ),
    (
        "Connection refused",
        Kind::Unreachable,
        "is its SSH server running, and at this port?",
    ),
    ("No route to host", Kind::Unreachable, "is it switched on?"),
    (
        "Network is unreachable",
        Kind::Unreachable,
        "are you on the right network?",
    ),
    (
        "timed out",
        Kind::Unreachable,
        "is it switched on, and does a firewall let you in?",
    ),
    (
        "kex_exchange_identification",
        Kind::Busy,
        "does its SSH server accept you?",
    ),
    (
        "Connection reset by peer",
        Kind::Busy,
        "does its SSH server accept you?",
    ),
    (
        "Connection closed by",
        Kind::Busy,
        "does its SSH server accept you?",
    ),
];

/// Whether another try may help at once.
#[must_use]
pub fn is_busy(text: &str) -> bool {
    sign(text).is_some_and(|(_, kind, _)| *kind == Kind::Busy)
}

/// Whether a jump host or a program on the way has failed, whose words openssh keeps away. Silence has
/// none.
#[must_use]
pub fn is_on_the_way(text: &str) -> bool {
    text.contains("UNKNOWN port 65535") && !text.contains("timed out")
}

fn sign(text: &str) -> Option<&'static (&'static str, Kind, &'static str)> {
    SIGNS.iter().find(|(sign, _, _)| text.contains(sign))
}

/// The error for what `ssh` said.
#[must_use]
pub fn explain(login: &Login, error: &openssh::Error) -> TransportError {
    let path = std::env::var_os("PATH");
    explain_with(login, error, path.as_deref())
}

/// The same with what `PATH` holds.
fn explain_with(login: &Login, error: &openssh::Error, path: Option<&OsStr>) -> TransportError {
    let host = login.host.clone();
    // A file or folder that is missing reads the same.
    if let openssh::Error::Connect(io) | openssh::Error::Ssh(io) = error
        && io.kind() == std::io::ErrorKind::NotFound
        && !has_ssh(path)
    {
        let cause = "ssh is not installed on this machine; install it (Debian: \
                     `apt install openssh-client`)";
        return TransportError::Refused {
            host,
            cause: cause.into(),
        };
    }
    let text = root_cause(error);
    let Some((_, kind, advice)) = sign(&text) else {
        let cause = format!("{}; try `{}`", in_one_line(&text), login.command());
        return TransportError::Unreachable { host, cause };
    };
    if text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        let cause = changed_key(login, &text);
        return TransportError::Refused { host, cause };
    }
    let cause = format!(
        "{}; {advice}; try `{}`",
        in_one_line(&text),
        login.command()
    );
    match kind {
        Kind::Refused => TransportError::Refused { host, cause },
        Kind::Unreachable | Kind::Busy => TransportError::Unreachable { host, cause },
    }
}

/// Whether there is an `ssh` in one of the folders of `PATH`.
fn has_ssh(path: Option<&OsStr>) -> bool {
    // What the system takes where PATH is not set.
    let path = path.unwrap_or(OsStr::new("/usr/bin:/bin"));
    std::env::split_paths(path).any(|folder| folder.join("ssh").is_file())
}

/// What is said of a changed host key.
const CHANGED_KEY: &str = "its host key is not the one that was seen before";

/// Whether a host shows another key than the one that is pinned.
#[must_use]
pub fn is_changed_key(error: &TransportError) -> bool {
    matches!(error, TransportError::Refused { cause, .. } if cause.starts_with(CHANGED_KEY))
}

fn changed_key(login: &Login, text: &str) -> String {
    let sent = text
        .split_whitespace()
        .find(|word| word.starts_with("SHA256:"));
    let sent = sent.map_or(String::new(), |key| {
        format!(" (it shows {})", key.trim_end_matches('.'))
    });
    let offending = text
        .lines()
        .find_map(|line| line.split_once(" key in ")?.1.rsplit_once(':'));
    let state_dir = login
        .config_file
        .parent()
        .unwrap_or(std::path::Path::new("."));
    let file = match offending {
        Some((file, _)) => file.trim().to_owned(),
        None => known_hosts(state_dir).display().to_string(),
    };
    // It may be the key of a host on the way.
    let named = text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("Host key for ")?;
        Some(rest.split_once(" has changed")?.0.to_owned())
    });
    let name = named.unwrap_or_else(|| match login.port {
        Some(port) if port != 22 => format!("[{}]:{port}", login.destination),
        _ => login.destination.clone(),
    });
    format!(
        "{CHANGED_KEY}{sent}; the machine was replaced, or \
         someone is in between; if you know that it was replaced, run `ssh-keygen -R '{name}' -f \
         {file}` and try again"
    )
}

/// The last of a chain of causes: what ssh itself said.
fn root_cause(error: &openssh::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// ssh's words without its greetings and line ends.
fn in_one_line(text: &str) -> String {
    let is_news = |line: &&str| !line.is_empty() && !line.starts_with("Warning: Permanently added");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(is_news).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, ErrorKind};

    use super::*;

    fn explained(text: &str) -> TransportError {
        let login = Login {
            host: "n1".into(),
            destination: "n1.example".into(),
            user: Some("raft".into()),
            port: Some(2222),
            identity_file: None,
            jump: None,
            config_file: "/d/ssh_config".into(),
        };
        let io = IoError::other(text.to_owned());
        explain(&login, &openssh::Error::Connect(io))
    }

    // Whatever ssh says, the message has the host, ssh's own words and the next command; and only
    // what a person must act on counts as refused.
    #[test]
    fn causes_are_told_with_the_way_out() {
        for (text, is_refused) in [
            ("raft@n1: Permission denied (publickey).", true),
            (
                "ssh: Could not resolve hostname n1: Name or service not known",
                false,
            ),
            ("connect to host n1 port 2222: Connection refused", false),
            ("connect to host n1 port 2222: No route to host", false),
            ("connect to host n1 port 2222: Connection timed out", false),
            ("something new", false),
            (
                "ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [4033: 'not authorized'].",
                true,
            ),
            (
                "ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [4003: 'failed to connect \
                 to backend']. (Failed to connect to port 22)",
                false,
            ),
            (
                "ERROR: (gcloud.compute.start-iap-tunnel) You do not currently have an active account \
                 selected. Please run: $ gcloud auth login",
                true,
            ),
        ] {
            let error = explained(text);
            let message = error.to_string();
            assert!(
                message.starts_with("n1: ") && message.contains(text),
                "{message}"
            );
            assert!(message.contains("try `ssh -F /d/ssh_config -l raft -p 2222 n1.example`"));
            assert_eq!(
                matches!(error, TransportError::Refused { .. }),
                is_refused,
                "{message}"
            );
        }
        assert!(is_busy(
            "kex_exchange_identification: Connection closed by remote host"
        ));
        assert!(!is_busy("Permission denied (publickey)"));
    }

    // A changed key names the file to look at, what the host shows now, and the command that
    // forgets the old one.
    #[test]
    fn a_changed_key_names_the_way_out() {
        let text = "@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n\
                    The fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\n\
                    Offending ED25519 key in /d/known_hosts:3\nHost key verification failed.";
        let message = explained(text).to_string();
        assert!(message.contains("it shows SHA256:abc)"), "{message}");
        let command = "`ssh-keygen -R '[n1.example]:2222' -f /d/known_hosts`";
        assert!(message.contains(command), "{message}");
        let other =
            "\nHost key for [gate]:22022 has changed and you have requested strict checking.";
        let message = explained(&format!("{text}{other}")).to_string();
        let command = "`ssh-keygen -R '[gate]:22022' -f /d/known_hosts`";
        assert!(message.contains(command), "{message}");
    }

    // Without ssh nothing else matters; with it, something else is what was not found.
    #[test]
    fn a_missing_ssh_is_said() {
        let login = Login {
            host: "n1".into(),
            destination: "n1".into(),
            user: None,
            port: None,
            identity_file: None,
            jump: None,
            config_file: "/d/ssh_config".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().as_os_str());
        let error = openssh::Error::Connect(IoError::from(ErrorKind::NotFound));
        let message = explain_with(&login, &error, path).to_string();
        assert!(
            message.contains("ssh is not installed on this machine"),
            "{message}"
        );
        std::fs::write(folder.path().join("ssh"), "").unwrap();
        let message = explain_with(&login, &error, path).to_string();
        assert!(!message.contains("installed"), "{message}");
        assert!(message.contains("not found; try `ssh -F"), "{message}");
    }
}
