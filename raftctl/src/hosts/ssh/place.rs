//! What a login finds on a host: whose rights it has, where things can lie, whether systemd runs.
//!
//! It takes a login to find out, so it is kept in `.raftctl/<cluster>/hosts.json`. `up` looks
//! again; everything can be found out again when the file is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::envelope::Rights;
use super::transport::SshTransport;
use crate::error::{Error, Result};
use crate::hosts::{OUTPUT_BYTES_MAX, Request, TransportError, scripts};

/// Where everything lies on a host where raftctl is root.
const SYSTEM_FOLDER: &str = "/opt/raftkv";
/// The same below the home of someone who is not.
const HOME_FOLDER: &str = ".raftkv";

/// What a login finds on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The address that ssh's configuration gives for the host's name.
    pub address: String,
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
    /// When that was found, in seconds since the epoch.
    pub seen_at_seconds: u64,
}

/// What was found this long ago at most counts as found now.
const FRESH_SECONDS: u64 = 600;

fn now_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

impl Place {
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

    fn to_json(&self) -> Value {
        json!({
            "address": self.address,
            "base": self.base,
            "root": self.is_root,
            "sudo": self.uses_sudo,
            "systemd": self.has_systemd,
            "sudo_says": self.sudo_says,
            "seen_at_seconds": self.seen_at_seconds,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        let flag = |key: &str| value.get(key)?.as_bool();
        Some(Place {
            address: text("address")?,
            base: text("base")?,
            is_root: flag("root")?,
            uses_sudo: flag("sudo")?,
            has_systemd: flag("systemd")?,
            sudo_says: text("sudo_says"),
            seen_at_seconds: value.get("seen_at_seconds")?.as_u64()?,
        })
    }
}

const LOOK: &str = r#"
echo "place.home=$HOME"
if [ "$(id -u)" = 0 ]; then
  echo place.rights=root
elif ! command -v sudo >/dev/null 2>&1; then
  echo place.rights=none
  echo "place.sudo_says=there is no sudo"
elif said=$(sudo -n true 2>&1); then
  echo place.rights=sudo
else
  echo place.rights=none
  echo "place.sudo_says=$said" | head -n 1
fi
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; then
  echo place.systemd=yes
fi
echo end=ok
"#;

/// Logs in and looks.
///
/// # Errors
/// The host can't be reached, or its answer makes no sense.
pub async fn look(
    transport: &SshTransport,
    cluster: &str,
    address: &str,
    deadline: Duration,
) -> Result<Place> {
    let request = Request::new("look at the login", LOOK, deadline);
    let mut stdout = Vec::new();
    let exit = transport
        .execute_as(&request, Rights::Login, &mut stdout)
        .await?;
    let text = String::from_utf8_lossy(&stdout[..stdout.len().min(OUTPUT_BYTES_MAX)]).into_owned();
    let host = || transport.login().host.clone();
    if exit.status != 0 || text.lines().next_back() != Some(scripts::END) {
        return Err(Error::Transport(TransportError::Lost {
            host: host(),
            purpose: request.purpose.to_owned(),
            cause: format!("the answer ends early: {}", exit.stderr.trim()),
        }));
    }
    let value = |key: &str| {
        let prefix = format!("place.{key}=");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
    };
    let rights = value("rights");
    let uses_sudo = rights.as_deref() == Some("sudo");
    let is_root = uses_sudo || rights.as_deref() == Some("root");
    let base = match (is_root, value("home")) {
        (true, _) => format!("{SYSTEM_FOLDER}/{cluster}"),
        (false, Some(home)) if home.starts_with('/') => {
            format!("{}/{HOME_FOLDER}/{cluster}", home.trim_end_matches('/'))
        }
        (false, _) => {
            return Err(Error::Host {
                host: host(),
                purpose: "find a folder for the cluster".into(),
                detail: "the login has no home".into(),
            });
        }
    };
    Ok(Place {
        address: address.to_owned(),
        base,
        is_root,
        uses_sudo,
        has_systemd: is_root && value("systemd").is_some(),
        sudo_says: value("sudo_says"),
        seen_at_seconds: now_seconds(),
    })
}

/// The name of the file.
const FILE: &str = "hosts.json";

/// What was found before, by the fingerprint of each login. Nothing where the file is not there,
/// or makes no sense: then it is found out again.
#[must_use]
pub fn load(state_dir: &Path) -> BTreeMap<String, Place> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, place)| Some((name.clone(), Place::from_json(place)?)))
        .collect()
}

/// Keeps what was found.
///
/// # Errors
/// The file can't be written.
pub fn save(state_dir: &Path, places: &BTreeMap<String, Place>) -> Result<()> {
    let path = state_dir.join(FILE);
    let entries = places
        .iter()
        .map(|(name, place)| (name.clone(), place.to_json()));
    let text = format!("{:#}\n", Value::Object(entries.collect()));
    let partial = state_dir.join(format!("{FILE}.{}", std::process::id()));
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, &path))
        .map_err(|error| Error::file("write", &path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    // What was found is found again; a damaged file is as good as none.
    #[test]
    fn places_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            address: "10.0.0.1".into(),
            base: "/opt/raftkv/demo".into(),
            is_root: true,
            uses_sudo: true,
            has_systemd: false,
            sudo_says: None,
            seen_at_seconds: 7,
        };
        let places = BTreeMap::from([("a".to_owned(), place)]);
        save(folder.path(), &places).unwrap();
        assert_eq!(load(folder.path()), places);
        std::fs::write(folder.path().join(FILE), "{\"a\": 3").unwrap();
        assert!(load(folder.path()).is_empty());
    }
}
