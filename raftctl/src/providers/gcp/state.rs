//! Terraform's state, from `terraform show -json`: what is there, also where an apply ended on the
//! way and left no output. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::allocation::Allocation;
use super::machines::{Machine, Machines};
use super::tfvars;
use crate::cluster::Cluster;
use crate::cluster::gcp::region_of;
use crate::error::{Error, Result};

/// What is there, as far as Terraform knows.
#[derive(Debug, Default)]
pub struct State {
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    address: String,
    #[serde(rename = "type")]
    resource_type: String,
    #[serde(default)]
    index: Value,
    #[serde(default)]
    values: Value,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    values: Values,
}

#[derive(Default, Deserialize)]
struct Values {
    #[serde(default)]
    root_module: Module,
}

#[derive(Default, Deserialize)]
struct Module {
    #[serde(default)]
    resources: Vec<Resource>,
}

impl State {
    /// Reads the text; where there is no state yet, nothing is there.
    ///
    /// # Errors
    /// It is of a form that is not known.
    pub fn read(json: &str) -> Result<Self> {
        let shown: Shown = serde_json::from_str(json)
            .map_err(|error| Error::Other(format!("cannot read Terraform's state: {error}")))?;
        let resources = shown.values.root_module.resources;
        Ok(State { resources })
    }

    /// Every resource, by its address in Terraform.
    #[must_use]
    pub fn addresses(&self) -> Vec<&str> {
        let resources = self.resources.iter();
        resources
            .map(|resource| resource.address.as_str())
            .collect()
    }

    /// The path at Google of every resource.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<String> {
        let ids = self.resources.iter();
        let ids = ids.filter_map(|resource| resource.values["id"].as_str());
        ids.map(String::from).collect()
    }

    /// The resources of a type, by node or region.
    fn of_type(&self, resource_type: &str) -> BTreeMap<&str, &Value> {
        let fitting = self.resources.iter();
        let fitting = fitting.filter(|resource| resource.resource_type == resource_type);
        fitting
            .filter_map(|resource| Some((resource.index.as_str()?, &resource.values)))
            .collect()
    }

    /// The nodes that have a machine, by their names in Terraform.
    #[must_use]
    pub fn standing(&self) -> BTreeSet<&str> {
        self.of_type("google_compute_instance")
            .into_keys()
            .collect()
    }

    /// The machines as the module's output would tell of them. A node whose machine is not there, but
    /// whose internal address is, counts as one with a machine that is gone: the others know it by
    /// that address.
    #[must_use]
    pub fn machines(&self, cluster: &Cluster, allocation: &Allocation) -> Machines {
        let instances = self.of_type("google_compute_instance");
        let addresses = self.of_type("google_compute_address");
        let text = |value: &Value| value.as_str().map(String::from);
        let machine = |name: &String, zone: &String| {
            let instance = instances.get(name.as_str());
            let interface = instance.map(|instance| &instance["network_interface"][0]);
            Some(Machine {
                instance: format!("raft-{}-{name}", cluster.name),
                zone: instance
                    .and_then(|instance| text(&instance["zone"]))
                    .unwrap_or_else(|| zone.clone()),
                region: region_of(zone)?.to_owned(),
                internal_ip: text(&addresses.get(name.as_str())?["address"])?,
                external_ip: interface
                    .and_then(|interface| text(&interface["access_config"][0]["nat_ip"]))
                    .filter(|address| !address.is_empty()),
                data_disk: format!("raft-{}-{name}-data", cluster.name),
            })
        };
        let nodes = allocation.placements().filter_map(|(_, placement)| {
            let machine = machine(&placement.name, &placement.zone)?;
            Some((placement.name.clone(), machine))
        });
        let project = cluster.gcp.project.as_deref().unwrap_or_default();
        Machines::new(project, tfvars::ssh_user(cluster), nodes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"format_version":"1.0","terraform_version":"1.11.4","values":{"root_module":{"resources":[
        {"address":"google_compute_address.node[\"n1\"]","type":"google_compute_address","index":"n1","values":{"address":"10.80.0.2"}},
        {"address":"google_compute_address.node[\"n2\"]","type":"google_compute_address","index":"n2","values":{"address":"10.80.0.3"}},
        {"address":"google_compute_instance.node[\"n1\"]","type":"google_compute_instance","index":"n1","values":
            {"zone":"us-central1-a","network_interface":[{"access_config":[{"nat_ip":"203.0.113.9"}]}]}},
        {"address":"google_compute_network.cluster[0]","type":"google_compute_network","index":0,"values":{}}]}}}"#;

    fn cluster() -> Cluster {
        let yaml = "name: demo\nprovider: gcp\nnodes: 3\ngcp: {project: my-project, zones: [us-central1-a]}\n";
        crate::cluster::parse(yaml, "x", ".".into(), &|_| None).unwrap()
    }

    // A machine is known by what was made of it; one that is missing by its address; a node with
    // neither not at all.
    #[test]
    fn machines_are_found_in_the_state() {
        let state = State::read(STATE).unwrap();
        assert_eq!(state.addresses().len(), 4);
        assert_eq!(state.standing(), BTreeSet::from(["n1"]));
        let cluster = cluster();
        let allocation = Allocation::default().extended(&cluster).unwrap();
        let machines = state.machines(&cluster, &allocation).nodes;
        assert_eq!(machines["n1"].external_ip.as_deref(), Some("203.0.113.9"));
        assert_eq!(machines["n1"].internal_ip, "10.80.0.2");
        assert_eq!(machines["n2"].internal_ip, "10.80.0.3");
        assert_eq!(machines["n2"].external_ip, None);
        assert_eq!(machines["n2"].instance, "raft-demo-n2");
        assert!(!machines.contains_key("n3"));
    }

    // Before the first apply, and after the last destroy, there is nothing.
    #[test]
    fn no_state_is_nothing() {
        for json in [
            r#"{"format_version":"1.0"}"#,
            r#"{"format_version":"1.0","terraform_version":"1.11.4","values":{"root_module":{}}}"#,
        ] {
            assert!(State::read(json).unwrap().addresses().is_empty());
        }
        State::read("no state").unwrap_err();
    }
}
