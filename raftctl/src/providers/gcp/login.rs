//! How SSH reaches the machines: an entry for each in a configuration of the cluster's own.
//!
//! A machine is known to SSH by its name at Google, never by its address, which changes whenever it
//! is switched off and on. So its host key stays pinned for as long as the machine lives, and is
//! forgotten with it.

use std::collections::BTreeSet;
use std::path::Path;

use super::machines::{Machine, Machines};
use super::os_login;
use crate::cluster::Cluster;
use crate::cluster::gcp::SshVia;
use crate::error::Result;
use crate::local::state_files;
use crate::transport::ssh::Login;
use crate::transport::ssh::login::{known_hosts, write_config};

/// Writes the configuration, and gives the login of each machine by the name of its node.
///
/// # Errors
/// A file can't be written.
pub fn logins(cluster: &Cluster, machines: &Machines, key: &Path) -> Result<Vec<(String, Login)>> {
    let folder = cluster.state_dir();
    let shared = write_config(&folder, None)?;
    let path = folder.join("ssh_config.machines");
    let user = os_login::user(cluster)?;
    let user = user.as_deref().unwrap_or(&machines.ssh_user);
    let text = text(cluster.gcp.ssh_via(), machines, user, key, &shared);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(with_config(machines, &path));
    }
    state_files::replace(&path, &text)?;
    Ok(with_config(machines, &path))
}

fn with_config(machines: &Machines, config_file: &Path) -> Vec<(String, Login)> {
    let login = |machine: &Machine| Login {
        host: machine.instance.clone(),
        destination: machine.instance.clone(),
        user: None,
        port: None,
        identity_file: None,
        jump: None,
        config_file: config_file.to_owned(),
        key_checked_by: Some("raftctl up"),
    };
    machines
        .nodes
        .iter()
        .map(|(name, machine)| (name.clone(), login(machine)))
        .collect()
}

/// Of an option that is there twice, ssh takes the first: what is particular comes before what is
/// shared, and that before the operator's own files.
fn text(via: SshVia, machines: &Machines, user: &str, key: &Path, shared: &Path) -> String {
    let mut text = "# Written by raftctl, and written again when a machine changes.\n".to_owned();
    for machine in machines.nodes.values() {
        let name = &machine.instance;
        text.push_str(&format!(
            "Host {name}\n  HostKeyAlias {name}\n  User {user}\n  IdentityFile {}\n  IdentitiesOnly yes\n  Port 22\n",
            quoted(key)
        ));
        match (via, &machine.external_ip) {
            (SshVia::External, Some(address)) => {
                text.push_str(&format!("  HostName {address}\n  ProxyCommand none\n"));
            }
            // Off, or gone: no firewall rule lets Identity-Aware Proxy in instead.
            (SshVia::External, None) => text.push_str("  ProxyCommand none\n"),
            // Its only warning is that NumPy would make it faster, with each connection.
            (SshVia::Iap, _) => text.push_str(&format!(
                "  ProxyCommand gcloud compute start-iap-tunnel {name} 22 --listen-on-stdin --verbosity=error \
                 --project={} --zone={}\n",
                machines.project_id, machine.zone
            )),
        }
    }
    text.push_str(&format!("Host *\n  Include {}\n", quoted(shared)));
    text
}

/// ssh expands % and splits at spaces.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// Those of some machines that have not shown a host key yet.
#[must_use]
pub fn without_host_key(cluster: &Cluster, instances: BTreeSet<String>) -> BTreeSet<String> {
    // Where it can't be read, ssh says so.
    let text = std::fs::read_to_string(known_hosts(&cluster.state_dir())).unwrap_or_default();
    let names = text.lines().map(|line| line.split_whitespace().next());
    let known: BTreeSet<&str> = names.flatten().collect();
    let is_unknown = |name: &String| !known.contains(name.as_str());
    instances.into_iter().filter(is_unknown).collect()
}

/// Forgets the host keys of machines that are made anew or gone.
///
/// # Errors
/// The file of host keys can't be written.
pub fn forget_host_keys(cluster: &Cluster, instances: &BTreeSet<String>) -> Result<()> {
    let path = known_hosts(&cluster.state_dir());
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(()); // Nobody has been there yet.
    };
    let is_kept = |line: &&str| {
        let name = line.split_whitespace().next().unwrap_or_default();
        !instances.contains(name)
    };
    let kept: Vec<&str> = text.lines().filter(is_kept).collect();
    let text = kept
        .iter()
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    state_files::replace(&path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines() -> Machines {
        let node = |name: &str, external: &str| {
            format!(
                r#""{name}":{{"data_disk":"d","external_ip":{external},"instance":"raft-demo-{name}","internal_ip":"10.80.0.2","region":"us-central1","zone":"us-central1-a"}}"#
            )
        };
        let nodes = [node("n1", "\"203.0.113.9\""), node("n2", "null")].join(",");
        Machines::parse(&format!(
            r#"{{"schema":1,"project_id":"my-project","ssh_user":"raft","nodes":{{{nodes}}}}}"#
        ))
        .unwrap()
    }

    // A machine is reached at its address, or through Identity-Aware Proxy where that is the way; either
    // by its name, with the cluster's key, and with the shared options after that. One that is off
    // spoils nothing of the others.
    #[test]
    fn each_machine_has_an_entry() {
        let text = text(
            SshVia::External,
            &machines(),
            "raft",
            Path::new("/a b/key"),
            Path::new("/a b/ssh_config"),
        );
        assert!(text.contains("Host raft-demo-n1\n  HostKeyAlias raft-demo-n1\n  User raft\n  IdentityFile \"/a b/key\""), "{text}");
        assert!(text.contains("HostName 203.0.113.9"), "{text}");
        assert!(
            text.contains("Host raft-demo-n2\n") && !text.contains("start-iap-tunnel"),
            "{text}"
        );
        assert_eq!(text.matches("HostName").count(), 1, "{text}");
        assert!(
            text.ends_with("Host *\n  Include \"/a b/ssh_config\"\n"),
            "{text}"
        );
        let iap = super::text(
            SshVia::Iap,
            &machines(),
            "raft",
            Path::new("/k"),
            Path::new("/c"),
        );
        assert!(!iap.contains("HostName"), "{iap}");
        assert!(
            iap.contains("start-iap-tunnel raft-demo-n2 22 --listen-on-stdin"),
            "{iap}"
        );
    }

    // The key of a machine that is gone is forgotten, the others stay pinned.
    #[test]
    fn keys_of_machines_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "name: demo\nprovider: gcp\nnodes: 1\ngcp: {project: my-project, zones: [us-central1-a]}\n";
        let cluster =
            crate::cluster::parse(yaml, "x", folder.path().to_owned(), &|_| None).unwrap();
        forget_host_keys(&cluster, &BTreeSet::from(["raft-demo-n1".to_owned()])).unwrap();
        std::fs::create_dir_all(cluster.state_dir()).unwrap();
        let path = known_hosts(&cluster.state_dir());
        std::fs::write(
            &path,
            "raft-demo-n1 ssh-ed25519 A\nraft-demo-n10 ssh-ed25519 B\n",
        )
        .unwrap();
        let asked = ["raft-demo-n1", "raft-demo-n10", "raft-demo-n2"].map(String::from);
        let unknown = without_host_key(&cluster, asked.into());
        assert_eq!(unknown, BTreeSet::from(["raft-demo-n2".to_owned()]));
        forget_host_keys(&cluster, &BTreeSet::from(["raft-demo-n1".to_owned()])).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "raft-demo-n10 ssh-ed25519 B\n"
        );
    }
}
