//! The module's output: what Terraform made. Pure, but for the copy that is kept.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use super::allocation::Allocation;
use super::gcloud::{MachineState, ZoneAndName};
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::local::state_files;

/// The form of the output.
const SCHEMA: u32 = 1;

/// Everything that raftctl needs to know of the machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machines {
    schema: u32,
    /// The project.
    pub project_id: String,
    /// The account that the cluster's key logs in as.
    pub ssh_user: String,
    /// By the name that the node has in Terraform.
    pub nodes: BTreeMap<String, Machine>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name at Google.
    pub instance: String,
    /// Its zone.
    pub zone: String,
    /// The region of the zone.
    pub region: String,
    /// Where the other nodes reach it. Stays the same for as long as the node is there.
    pub internal_ip: String,
    /// Where it is reached from outside; changes when it is stopped and started. Google calls it ""
    /// while the machine is off.
    #[serde(deserialize_with = "address")]
    pub external_ip: Option<String>,
    /// The name of its data disk.
    pub data_disk: String,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<String>, D::Error> {
    let address = Option::<String>::deserialize(from)?;
    Ok(address.filter(|address| !address.is_empty()))
}

impl Machine {
    /// Where it is at Google.
    #[must_use]
    pub fn at(&self) -> ZoneAndName {
        (self.zone.clone(), self.instance.clone())
    }

    /// Takes in what a look at Google that was whole has found. A machine that is gone, or off, has no
    /// address any more: Google may have given it to somebody else. What is known of one that is on is
    /// not forgotten for want of an answer.
    pub fn see(&mut self, state: Option<MachineState>) {
        match state {
            Some(state) if state.external_ip.is_none() && state.is_on() => {}
            state => self.external_ip = state.and_then(|state| state.external_ip),
        }
    }
}

impl Machines {
    /// The machines of a project.
    #[must_use]
    pub fn new(project_id: &str, ssh_user: &str, nodes: BTreeMap<String, Machine>) -> Self {
        Machines {
            schema: SCHEMA,
            project_id: project_id.to_owned(),
            ssh_user: ssh_user.to_owned(),
            nodes,
        }
    }

    /// The machine of a node.
    ///
    /// # Errors
    /// It has none yet.
    pub fn of_node(&self, allocation: &Allocation, id: NodeId) -> Result<&Machine> {
        let name = allocation.nodes.get(&id).map(|placement| &placement.name);
        name.and_then(|name| self.nodes.get(name))
            .ok_or_else(|| super::hosts::no_machine(id))
    }

    /// Reads the output as Terraform prints it.
    ///
    /// # Errors
    /// It is of another form.
    pub fn parse(json: &str) -> Result<Self> {
        let wrong = |cause: String| {
            Error::Other(format!(
                "cannot read what Terraform made: {cause}; run `raftctl up` to make it right"
            ))
        };
        let machines: Machines =
            serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
        if machines.schema != SCHEMA {
            return Err(wrong(format!(
                "form {} is not known to this raftctl",
                machines.schema
            )));
        }
        Ok(machines)
    }

    /// The copy that was kept; `None` where none was.
    ///
    /// # Errors
    /// It can't be read.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Machines::parse(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path, &error)),
        }
    }

    /// Keeps a copy, so that not every verb starts Terraform.
    ///
    /// # Errors
    /// It can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::Other(error.to_string()))?;
        state_files::replace(path, &(text + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"{"cluster":"demo","nodes":{"n1":{"data_device":"/dev/disk/by-id/google-raft-data","data_disk":"raft-demo-n1-data","external_ip":null,"instance":"raft-demo-n1","internal_ip":"10.80.0.2","region":"us-central1","zone":"us-central1-a"}},"project_id":"my-project","schema":1,"ssh_user":"raft"}"#;

    // The output is read, and its copy is the same.
    #[test]
    fn the_output_is_read_and_kept() {
        let machines = Machines::parse(OUTPUT).unwrap();
        assert_eq!(machines.nodes["n1"].internal_ip, "10.80.0.2");
        assert_eq!(machines.nodes["n1"].external_ip, None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machines.json");
        assert_eq!(Machines::load(&path).unwrap(), None);
        machines.save(&path).unwrap();
        assert_eq!(Machines::load(&path).unwrap(), Some(machines));
    }

    // A machine that is off has no address outside, in whatever words.
    #[test]
    fn no_address_is_none() {
        let off = OUTPUT.replace("\"external_ip\":null", "\"external_ip\":\"\"");
        assert_eq!(Machines::parse(&off).unwrap().nodes["n1"].external_ip, None);
    }

    // An address is known until a look has found the machine with another one, off, or not at all.
    #[test]
    fn addresses_are_not_forgotten() {
        let state = |status: &str, address: Option<&str>| {
            Some(MachineState {
                status: status.into(),
                ends_at: None,
                external_ip: address.map(String::from),
                machine_type: "e2-small".into(),
            })
        };
        let seen = |state| {
            let mut machine = Machines::parse(OUTPUT).unwrap().nodes.remove("n1").unwrap();
            machine.external_ip = Some("203.0.113.9".into());
            machine.see(state);
            machine.external_ip
        };
        let known = Some("203.0.113.9".to_owned());
        assert_eq!(seen(state("RUNNING", None)), known);
        assert_eq!(seen(state("STAGING", None)), known);
        let other = seen(state("RUNNING", Some("203.0.113.10")));
        assert_eq!(other.as_deref(), Some("203.0.113.10"));
        assert_eq!(seen(state("TERMINATED", None)), None);
        assert_eq!(seen(None), None);
    }

    // Another form is refused, with the way out.
    #[test]
    fn another_form_is_refused() {
        let newer = OUTPUT.replace("\"schema\":1", "\"schema\":2");
        let text = Machines::parse(&newer).unwrap_err().to_string();
        assert!(
            text.contains("form 2") && text.contains("raftctl up"),
            "{text}"
        );
    }
}
