//! What `ssh` says when it can't connect -> the cause, and what to do next.

use super::login::{Login, known_hosts};
use crate::error::TransportError;

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
        "", // SshOutput with more detail below.
    ),
    (
        "Host key verification failed",
        Kind::Refused,
        "look at its key with `ssh-keyscan`",
    ),
    (
        "administratively prohibited",
        Kind::Refused,
        "the SSH server on the way forbids forwarding: set `AllowTcpForwarding yes` in its \
         sshd_config (`PermitOpen` and `restrict` in authorized_keys forbid it, too), or go through \
         another host (`ssh.jump`)",
    ),
    (
        "jumphost loop",
        Kind::Refused,
        "~/.ssh/config sends the way to that host through itself: except it from `ProxyJump` there",
    ),
    (
        "Bad owner or permissions",
        Kind::Refused,
        "ssh reads no such file, by hand neither: `chmod 600` it, and `chown` it to yourself",
    ),
    (
        "Not allowed at this time",
        Kind::Refused,
        "too many logins from here failed, and it lets nobody in for a while: wait a minute or two, and \
         mend the login meanwhile",
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
pub fn is_busy(said: &SshOutput) -> bool {
    sign(&said.cause()).is_some_and(|(_, kind, _)| *kind == Kind::Busy)
}

fn sign(text: &str) -> Option<&'static (&'static str, Kind, &'static str)> {
    SIGNS.iter().find(|(sign, _, _)| text.contains(sign))
}

/// What `ssh` said when it could not connect.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SshOutput {
    /// A jump host or a program on the way, and what a server greets with.
    pub way: String,
    /// ssh itself, of the host at the end of the way.
    pub own: String,
}

/// What ssh says of a way that broke off, and says nothing of why.
const AFTERMATH: [&str; 3] = [
    "kex_exchange_identification: Connection closed by remote host",
    "Connection closed by UNKNOWN port 65535",
    "banner exchange: Connection to UNKNOWN port 65535",
];

/// What ssh says of nothing that is wrong.
const NEWS: &str = "Warning: Permanently added";

/// How much of what was said is shown where nothing in it is known.
const LINES_MAX: usize = 5;

impl SshOutput {
    /// Whether a jump host or a program on the way has failed, of which nothing is heard. One that says
    /// nothing at all has no more to tell.
    #[must_use]
    pub fn is_silent_on_the_way(&self) -> bool {
        let broke_off = self.own.contains("UNKNOWN port 65535");
        broke_off && !self.own.contains("timed out") && sign(&self.way).is_none()
    }

    /// Whether it was on the way that the login was refused: to ask again for another host would fail in the
    /// same way. A jump host that lets us in and forwards to some hosts only has not refused it.
    #[must_use]
    pub fn is_refused_on_the_way(&self) -> bool {
        const OF_ONE_HOST: [&str; 3] = [
            "administratively prohibited",
            "jumphost loop",
            "Bad owner or permissions",
        ];
        sign(&self.way)
            .is_some_and(|(text, kind, _)| *kind == Kind::Refused && !OF_ONE_HOST.contains(text))
    }

    /// Lines that may tell a cause; what follows from one only where there is nothing else.
    fn lines(&self) -> Vec<&str> {
        let lines = self.way.lines().chain(self.own.lines()).map(str::trim);
        let told: Vec<&str> = lines
            .filter(|line| !line.is_empty() && !line.starts_with(NEWS))
            .collect();
        let is_cause = |line: &&&str| !AFTERMATH.iter().any(|after| line.starts_with(after));
        let causes: Vec<&str> = told.iter().filter(is_cause).copied().collect();
        if causes.is_empty() { told } else { causes }
    }

    /// The lines from the first that is known, on one line: a server may greet before.
    fn cause(&self) -> String {
        let lines = self.lines();
        let known = lines.iter().position(|line| sign(line).is_some());
        let from = known.unwrap_or(lines.len().saturating_sub(LINES_MAX));
        let upto = lines.len().min(from + LINES_MAX);
        match lines[from..upto].join("; ").as_str() {
            "" => "ssh ended without a word".into(),
            text => text.to_owned(),
        }
    }
}

/// The error for what `ssh` said. `unlock` is what to do about keys that ssh had and could not use.
#[must_use]
pub fn explain(login: &Login, said: &SshOutput, unlock: Option<String>) -> TransportError {
    let (host, text) = (login.host.clone(), said.cause());
    let by_hand = login.command();
    if let Some(changed) = [&said.way, &said.own]
        .into_iter()
        .find(|text| text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"))
    {
        let cause = changed_key(login, changed);
        return TransportError::Refused { host, cause };
    }
    let through = match &login.jump {
        Some(jump) if text.contains("UNKNOWN port 65535") => {
            format!(" (the way leads through {jump})")
        }
        _ => String::new(),
    };
    let Some((_, kind, advice)) = sign(&text) else {
        let cause = format!("{text}{through}; try `{by_hand}`");
        return TransportError::Unreachable { host, cause };
    };
    let advice = unlock.unwrap_or_else(|| (*advice).to_owned());
    let cause = format!("{text}{through}; {advice}; try `{by_hand}`");
    match kind {
        Kind::Refused => TransportError::Refused { host, cause },
        Kind::Unreachable | Kind::Busy => TransportError::Unreachable { host, cause },
    }
}

/// Whether it is the key that is refused: then one that has a passphrase may be why.
#[must_use]
pub fn is_refused_key(said: &SshOutput) -> bool {
    said.cause().contains("Permission denied")
}

/// What is said where `ssh` itself can't be started.
#[must_use]
pub fn cannot_start(login: &Login, error: &std::io::Error) -> TransportError {
    let cause = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "ssh is not installed on this machine; install it (Debian: \
                                         `apt install openssh-client`)"
                .to_owned()
        }
        _ => format!("cannot start ssh: {error}; see whether `ssh -V` works here"),
    };
    TransportError::Refused {
        host: login.host.clone(),
        cause,
    }
}

/// What ssh says of a channel that a server did not open, and what to do about it: `own` of the client,
/// `master` in the log of the connection, which alone knows the reason.
#[must_use]
pub fn closed_channel(own: &str, master: &str) -> String {
    let reason = master.lines().rev().find_map(|line| {
        line.split_once("open failed: ")
            .map(|(_, reason)| reason.trim())
    });
    let said = SshOutput {
        way: reason.unwrap_or_default().to_owned(),
        own: own.to_owned(),
    };
    let text = match reason {
        Some(reason) => format!("ssh says: {reason}"),
        None => format!("ssh says: {}", said.cause()),
    };
    match sign(&text) {
        Some((_, Kind::Refused, advice)) => format!("{text}; {advice}"),
        _ => text,
    }
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
    let again = match login.key_checked_by {
        Some(command) => format!(
            ", then `{command}`, which finds out whether its new key is the right one: every other command would take the \
             one that it is shown"
        ),
        None => " and try again".into(),
    };
    format!(
        "{CHANGED_KEY}{sent}; the machine was replaced, or \
         someone is in between; if you know that it was replaced, run `ssh-keygen -R '{name}' -f \
         {file}`{again}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            destination: "n1.example".into(),
            user: Some("raft".into()),
            port: Some(2222),
            ..Login::to("n1", "/d/ssh_config".into())
        }
    }

    fn own(text: &str) -> SshOutput {
        SshOutput {
            own: text.to_owned(),
            ..SshOutput::default()
        }
    }

    fn explained(text: &str) -> TransportError {
        explain(&login(), &own(text), None)
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
        assert!(is_busy(&own(
            "kex_exchange_identification: Connection closed by remote host"
        )));
        assert!(!is_busy(&own("Permission denied (publickey)")));
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
        assert!(message.ends_with("` and try again"), "{message}");
        // Where one command knows better than to take what it is shown, it is named.
        let login = Login {
            key_checked_by: Some("raftctl up"),
            ..login()
        };
        let message = explain(&login, &own(text), None).to_string();
        assert!(message.contains("`, then `raftctl up`, which"), "{message}");
    }

    // What a jump host says is the cause, not that the way broke off; a greeting is none, and silence
    // is called so.
    #[test]
    fn the_cause_is_where_the_way_broke() {
        let aftermath = "kex_exchange_identification: Connection closed by remote host\n\
                         Connection closed by UNKNOWN port 65535\n";
        let told = |way: &str, own: &str| {
            let said = SshOutput {
                way: way.into(),
                own: own.into(),
            };
            let refused = said.is_refused_on_the_way();
            (explain(&login(), &said, None).to_string(), refused)
        };
        let greeting = "Authorized use only.\n\n";
        let way = "channel 0: open failed: administratively prohibited: open failed\n\
                   stdio forwarding failed\n";
        let (text, refused) = told(&format!("{greeting}{way}"), aftermath);
        let head = "n1: channel 0: open failed: administratively prohibited: open failed; stdio \
                    forwarding failed; the SSH server on the way forbids forwarding";
        assert!(text.starts_with(head) && !refused, "{text}");
        assert!(text.contains("AllowTcpForwarding yes"), "{text}");
        let (text, refused) = told("u@gate: Permission denied (publickey).\n", aftermath);
        assert!(text.starts_with("n1: u@gate: Permission denied"), "{text}");
        assert!(refused);
        let (text, refused) = told(greeting, "u@n1: Permission denied (publickey).\n");
        assert!(text.starts_with("n1: u@n1: Permission denied"), "{text}");
        assert!(!refused);
        let silent = |way: &str, own: &str| {
            let (way, own) = (way.to_owned(), own.to_owned());
            SshOutput { way, own }.is_silent_on_the_way()
        };
        assert!(silent(greeting, aftermath) && !silent(way, aftermath));
        let slow = "Connection to UNKNOWN port 65535 timed out";
        assert!(!silent("", slow) && !silent("", "Permission denied (publickey)."));
        let (text, _) = told("", "");
        assert!(
            text.contains("cannot be reached: ssh ended without a word; try"),
            "{text}"
        );
        let (text, _) = told("", aftermath);
        assert!(text.contains("Connection closed by UNKNOWN"), "{text}");
    }

    // A key that could not be used is what is told of a refused login.
    #[test]
    fn a_locked_key_is_the_advice() {
        let said = own("u@n1: Permission denied (publickey).");
        assert!(is_refused_key(&said));
        let text = explain(&login(), &said, Some("`ssh-add K`".into())).to_string();
        assert!(
            text.contains("(publickey).; `ssh-add K`; try `ssh -F"),
            "{text}"
        );
        assert!(!text.contains("authorized_keys"), "{text}");
    }

    // A channel that was not opened is told with the server's reason, which only the master knows.
    #[test]
    fn a_closed_channel_says_why() {
        let own = "Stdio forwarding request failed: Session open refused by peer\n\
                   kex_exchange_identification: Connection closed by remote host\n";
        let forbidden = "channel 2: open failed: administratively prohibited: open failed";
        let text = closed_channel(own, forbidden);
        assert!(
            text.starts_with("ssh says: administratively prohibited"),
            "{text}"
        );
        assert!(text.contains("AllowTcpForwarding"), "{text}");
        let text = closed_channel(
            own,
            "channel 3: open failed: connect failed: Connection refused",
        );
        assert_eq!(text, "ssh says: connect failed: Connection refused");
        let text = closed_channel(own, "");
        assert_eq!(
            text,
            "ssh says: Stdio forwarding request failed: Session open refused by peer"
        );
    }

    // Without ssh nothing else matters.
    #[test]
    fn a_missing_ssh_is_said() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let message = cannot_start(&login(), &missing).to_string();
        assert!(
            message.contains("ssh is not installed on this machine"),
            "{message}"
        );
    }
}
