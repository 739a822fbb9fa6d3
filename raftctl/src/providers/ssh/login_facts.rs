//! What a login finds on a host: whose rights it has, where things can lie, whether systemd runs.
//!
//! It takes a login to find out, so it is kept in `.raftctl/<cluster>/hosts.json`. `up` looks
//! again; everything can be found out again when the file is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Result, TransportError};
use crate::local::state_files;
use crate::scripts::LINGER;
use crate::scripts::layout::SYSTEM_FOLDER;
use crate::scripts::shell::{END, quote};
use crate::transport::ssh::Rights;
use crate::transport::ssh::transport::SshTransport;
use crate::transport::{OUTPUT_BYTES_MAX, Request};

/// What to do where a login has no root.
const ADVICE_SUDO: &str =
    "for /opt and systemd let the login use sudo without a password (`visudo`: NOPASSWD)";

/// What to do where nodes would end with the login.
const ADVICE_LINGER: &str = "as root there, `loginctl enable-linger LOGIN` lets them live on; or let \
    the login use sudo without a password (`visudo`: NOPASSWD) before the first `raftctl up`";

/// Where everything lies below the home of a login that is not root.
const HOME_FOLDER: &str = ".raftkv";

/// What a login finds on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFacts {
    /// The address that ssh's configuration gives for the host's name; absent where ssh did not tell.
    pub address: Option<String>,
    /// The host or program that this configuration leads through; its ports may be closed to this machine
    /// then.
    pub behind: Option<String>,
    /// The folder of the cluster.
    pub base: String,
    /// Whether scripts have root's rights.
    pub is_root: bool,
    /// Whether they have them through `sudo`.
    pub uses_sudo: bool,
    /// Whether systemd runs and can be told what to do.
    pub has_systemd: bool,
    /// Why `sudo` gives no rights, in its own words.
    pub sudo_says: Option<String>,
    /// Whether systemd ends what the login leaves behind, and does not let it linger.
    pub ends_with_login: bool,
    /// When that was found, in seconds since the epoch.
    pub seen_at_seconds: u64,
}

/// What was found this long ago at most counts as found now.
const FRESH_SECONDS: u64 = 600;

fn now_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

impl LoginFacts {
    /// With whose rights scripts are to run.
    pub(super) fn rights(&self) -> Rights {
        if self.uses_sudo {
            Rights::Sudo
        } else {
            Rights::Login
        }
    }

    /// Whether it was found just now. A clock that was put back makes it old.
    pub(super) fn is_fresh(&self) -> bool {
        let age = now_seconds().checked_sub(self.seen_at_seconds);
        age.is_some_and(|age| age < FRESH_SECONDS)
    }

    /// What an operator may not expect of it, each with what to do about it.
    #[must_use]
    pub fn remarks(&self) -> Vec<(String, &'static str)> {
        let mut remarks = Vec::new();
        if let Some(why) = self.sudo_says.as_deref().filter(|_| !self.is_root) {
            let base = &self.base;
            let remark = format!(
                "no root there ({why}), so all of it is in {base} and runs as the login, without systemd"
            );
            remarks.push((remark, ADVICE_SUDO));
        }
        if self.ends_with_login {
            let remark = "systemd ends all processes of a login with its last session \
                          (KillUserProcesses=yes), so the nodes there end some minutes after raftctl";
            remarks.push((remark.to_owned(), ADVICE_LINGER));
        }
        remarks
    }

    fn to_json(&self) -> Value {
        json!({
            "address": self.address,
            "behind": self.behind,
            "base": self.base,
            "root": self.is_root,
            "sudo": self.uses_sudo,
            "systemd": self.has_systemd,
            "sudo_says": self.sudo_says,
            "ends_with_login": self.ends_with_login,
            "seen_at_seconds": self.seen_at_seconds,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        let flag = |key: &str| value.get(key)?.as_bool();
        Some(LoginFacts {
            address: text("address"),
            // Earlier versions kept nothing, or only whether there is something.
            behind: text("behind").or_else(|| flag("behind")?.then(|| "another host".to_owned())),
            base: text("base")?,
            is_root: flag("root")?,
            uses_sudo: flag("sudo")?,
            has_systemd: flag("systemd")?,
            sudo_says: text("sudo_says"),
            ends_with_login: flag("ends_with_login").unwrap_or(false),
            seen_at_seconds: value.get("seen_at_seconds")?.as_u64()?,
        })
    }
}

const LOOK: &str = r#"
echo "login.home=$HOME"
if [ "$(id -u)" = 0 ]; then
  echo login.rights=root
elif ! command -v sudo >/dev/null 2>&1; then
  echo login.rights=none
  echo "login.sudo_says=there is no sudo"
elif said=$(sudo -n true 2>&1); then
  echo login.rights=sudo
else
  echo login.rights=none
  # Before it refuses it may warn.
  echo "login.sudo_says=$(printf '%s\n' "$said" | tail -n 1)"
fi
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
  echo login.systemd=yes
fi
if [ "$(id -u)" != 0 ] && ends_with_login && ! may_linger; then
  echo login.ends_with_login=yes
fi
[ ! -d "$system" ] || echo login.system_folder=present
[ ! -d "$HOME/$below_home" ] || echo login.home_folder=present
echo end=ok
"#;

/// Logs in and looks.
///
/// # Errors
/// The host can't be reached, its answer makes no sense, or the cluster lives there where this
/// login may not go.
pub async fn look(
    transport: &SshTransport,
    cluster: &str,
    (address, behind): (Option<String>, Option<String>),
    deadline: Duration,
) -> Result<LoginFacts, TransportError> {
    let script = format!(
        "system={}\nbelow_home={}\n{LINGER}{LOOK}",
        quote(&format!("{SYSTEM_FOLDER}/{cluster}")),
        quote(&format!("{HOME_FOLDER}/{cluster}"))
    );
    let request = Request::new("look at the login", &script, deadline);
    let mut stdout = Vec::new();
    let exit = transport
        .execute_as(&request, Rights::Login, &mut stdout)
        .await
        .map_err(|error| in_time(error, transport))?;
    let text = String::from_utf8_lossy(&stdout[..stdout.len().min(OUTPUT_BYTES_MAX)]).into_owned();
    let host = transport.login().host.clone();
    if exit.status != 0 || text.lines().next_back() != Some(END) {
        return Err(TransportError::Lost {
            host,
            purpose: request.purpose.to_owned(),
            cause: format!("the answer ends early: {}", exit.stderr.trim()),
        });
    }
    let facts = found(&text, cluster).map_err(|cause| TransportError::Refused { host, cause })?;
    Ok(LoginFacts {
        address,
        behind,
        ..facts
    })
}

/// A host that did not answer in time, with what to do about it.
fn in_time(error: TransportError, transport: &SshTransport) -> TransportError {
    let TransportError::Deadline { host, deadline, .. } = error else {
        return error;
    };
    let cause = format!(
        "no answer within {} ms; is it switched on, and does a firewall let you in? (`raftctl \
         doctor` waits longer) try `{}`",
        deadline.as_millis(),
        transport.login().command()
    );
    TransportError::Unreachable { host, cause }
}

/// What an answer to [`LOOK`] means. A cluster that lives on the host already stays where it is,
/// with the rights that it has there.
fn found(text: &str, cluster: &str) -> Result<LoginFacts, String> {
    let value = |key: &str| {
        let prefix = format!("login.{key}=");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
    };
    let system = format!("{SYSTEM_FOLDER}/{cluster}");
    let rights = value("rights").unwrap_or_default();
    let sudo_says = value("sudo_says");
    let is_in_system = value("system_folder").is_some();
    let stays_home = rights == "sudo" && value("home_folder").is_some() && !is_in_system;
    let is_root = matches!(rights.as_str(), "root" | "sudo") && !stays_home;
    let base = match value("home") {
        _ if is_root => system,
        _ if is_in_system => {
            let why = sudo_says.unwrap_or_default();
            return Err(format!(
                "the cluster lives in {system} there, which needs root: {why}; let the login use \
                 sudo without a password (`visudo`: NOPASSWD), or log in as root (`ssh.user` in \
                 cluster.yaml)"
            ));
        }
        Some(home) if home.starts_with('/') => {
            format!("{}/{HOME_FOLDER}/{cluster}", home.trim_end_matches('/'))
        }
        _ => return Err("cannot find a folder for the cluster: the login has no home".into()),
    };
    Ok(LoginFacts {
        address: None,
        behind: None,
        base,
        is_root,
        uses_sudo: is_root && rights == "sudo",
        has_systemd: is_root && value("systemd").is_some(),
        sudo_says,
        ends_with_login: !is_root && value("ends_with_login").is_some(),
        seen_at_seconds: now_seconds(),
    })
}

/// The name of the file.
const FILE: &str = "hosts.json";

/// What was found before, by the fingerprint of each login. Nothing where the file is not there,
/// or makes no sense: then it is found out again.
#[must_use]
pub fn load(state_dir: &Path) -> BTreeMap<String, LoginFacts> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, facts)| Some((name.clone(), LoginFacts::from_json(facts)?)))
        .collect()
}

/// Keeps what was found.
///
/// # Errors
/// The file can't be written.
pub fn save(state_dir: &Path, known: &BTreeMap<String, LoginFacts>) -> Result<()> {
    let path = state_dir.join(FILE);
    let entries = known
        .iter()
        .map(|(name, facts)| (name.clone(), facts.to_json()));
    let text = format!("{:#}\n", Value::Object(entries.collect()));
    state_files::replace(&path, &text)
}

/// Forgets what was found, where nothing is left to be found.
///
/// # Errors
/// The file can't be deleted.
pub fn forget(state_dir: &Path) -> Result<()> {
    state_files::forget(&state_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rights: &str, folders: &[&str]) -> String {
        let mut text = format!("login.home=/home/u\nlogin.rights={rights}\nlogin.systemd=yes\n");
        if rights == "none" {
            text.push_str("login.sudo_says=sudo: a password is required\n");
        }
        for folder in folders {
            text.push_str(&format!("login.{folder}_folder=present\n"));
        }
        text
    }

    // Root's rights lead to /opt and systemd, and without them all lives below the home, which is
    // remarked; but a cluster that is there stays where it is, whatever rights came or went.
    #[test]
    fn a_cluster_stays_where_it_is() {
        let (system, home) = ("/opt/raftkv/demo", "/home/u/.raftkv/demo");
        for (rights, folders, base, uses_sudo) in [
            ("root", &[][..], system, false),
            ("sudo", &[], system, true),
            ("none", &[], home, false),
            ("sudo", &["system"], system, true),
            ("sudo", &["system", "home"], system, true),
            ("sudo", &["home"], home, false),
            ("none", &["home"], home, false),
        ] {
            let facts = found(&answer(rights, folders), "demo").unwrap();
            let is_root = base == system;
            assert_eq!(facts.base, base, "{rights} {folders:?}");
            assert_eq!((facts.is_root, facts.has_systemd), (is_root, is_root));
            assert_eq!(facts.uses_sudo, uses_sudo, "{rights} {folders:?}");
            assert_eq!(!facts.remarks().is_empty(), rights == "none");
        }
        // Root's nodes are units; those of anybody else may end with their login, which is remarked.
        let ends = |rights| {
            let text = answer(rights, &[]) + "login.ends_with_login=yes\n";
            let remarks = found(&text, "demo").unwrap().remarks().into_iter();
            remarks
                .filter(|(text, _)| text.contains("KillUserProcesses"))
                .count()
        };
        assert_eq!((ends("root"), ends("sudo"), ends("none")), (0, 0, 1));
        let refused = found(&answer("none", &["system"]), "demo").unwrap_err();
        assert!(
            refused.contains(system) && refused.contains("sudo: a password is required"),
            "{refused}"
        );
    }

    // What was found is found again; a damaged file is as good as none.
    #[test]
    fn facts_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let facts = LoginFacts {
            address: Some("10.0.0.1".into()),
            behind: Some("gate".into()),
            base: "/opt/raftkv/demo".into(),
            is_root: true,
            uses_sudo: true,
            has_systemd: false,
            sudo_says: None,
            ends_with_login: true,
            seen_at_seconds: 7,
        };
        let known = BTreeMap::from([("a".to_owned(), facts)]);
        save(folder.path(), &known).unwrap();
        assert_eq!(load(folder.path()), known);
        std::fs::write(folder.path().join(FILE), "{\"a\": 3").unwrap();
        assert!(load(folder.path()).is_empty());
    }
}
