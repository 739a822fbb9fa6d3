//! The rules of what Google holds: what it refuses, what it decides, and what uses what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::google::{Resource, SELF_LINK_PREFIX, id_of};
use crate::plan::range;
use crate::schema::Block;
use crate::value::Value;

/// Where the access from outside stands in the state of an instance that has one.
pub const ACCESS: &str = "/network_interface/0/access_config/0";

/// All that there is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct World {
    /// By id.
    pub resources: BTreeMap<String, Resource>,
    /// Numeric ids and outside addresses are handed out in order.
    pub next_number: u32,
}

impl World {
    /// Why Google would not make this, where it would not.
    #[must_use]
    pub fn refusal(&self, resource_type: &str, planned: &Value) -> Option<String> {
        let missing = |reference: &Value| {
            let reference = reference.text()?;
            let found = self.resources.contains_key(id_of(reference));
            (!found).then(|| {
                format!("googleapi: Error 404: The resource '{reference}' was not found, notFound")
            })
        };
        match resource_type {
            "google_compute_subnetwork" => {
                missing(planned.get("network")).or_else(|| self.overlap(planned))
            }
            "google_compute_firewall" => missing(planned.get("network")),
            "google_compute_address" => missing(planned.get("subnetwork")),
            "google_compute_instance" => {
                missing(planned.get("network_interface").at(0).get("subnetwork")).or_else(|| {
                    planned
                        .get("attached_disk")
                        .items()
                        .iter()
                        .find_map(|disk| {
                            missing(disk.get("source"))
                                .or_else(|| self.disk_refusal(disk.get("source"), planned))
                        })
                })
            }
            _ => None,
        }
    }

    /// Who keeps a thing from being deleted, by id.
    #[must_use]
    pub fn users(&self, id: &str) -> Vec<String> {
        let address = self
            .resources
            .get(id)
            .filter(|resource| resource.resource_type == "google_compute_address");
        let uses = |other: &Resource| {
            let interface = &other.state["network_interface"][0];
            let has_address = address.is_some_and(|address| {
                interface["network_ip"] == address.state["address"]
                    && is_same(&interface["subnetwork"], &address.state["subnetwork"])
            });
            has_address || references(&other.state, id)
        };
        let users = self.resources.iter();
        let users = users.filter(|(user, other)| user.as_str() != id && uses(other));
        users.map(|(user, _)| user.clone()).collect()
    }

    fn overlap(&self, planned: &Value) -> Option<String> {
        let (first, last) = range(planned.get("ip_cidr_range").text()?)?;
        self.resources
            .values()
            .filter(|other| other.state["network"].as_str() == planned.get("network").text())
            .filter_map(|other| other.state["ip_cidr_range"].as_str())
            .find(|cidr| range(cidr).is_some_and(|(low, high)| first <= high && low <= last))
            .map(|cidr| {
                format!(
                    "googleapi: Error 400: Invalid IPCidrRange: it overlaps with {cidr}, invalid"
                )
            })
    }

    fn disk_refusal(&self, source: &Value, planned: &Value) -> Option<String> {
        let id = id_of(source.text()?);
        let disk = self.resources.get(id)?;
        if disk.state["zone"].as_str() != planned.get("zone").text() {
            return Some(format!(
                "googleapi: Error 400: Disk '{id}' lies in another zone than the instance, invalid"
            ));
        }
        let user = self.users(id).into_iter().next()?;
        Some(format!(
            "googleapi: Error 400: The disk resource '{id}' is already being used by '{user}', \
             resourceInUseByAnotherResource"
        ))
    }

    /// Decides what Google decides.
    ///
    /// # Errors
    /// What Google would say.
    pub fn settle(
        &self,
        resource_type: &str,
        project: &str,
        id: &str,
        state: &mut Value,
    ) -> Result<(), String> {
        let number = self.next_number;
        settle(state, "id", id);
        settle(state, "self_link", format!("{SELF_LINK_PREFIX}{id}"));
        settle(state, "project", project);
        settle(state, "creation_timestamp", "2026-01-01T00:00:00.000-00:00");
        match resource_type {
            // Another disk of the same name is another disk.
            "google_compute_disk" => {
                settle(state, "disk_id", numbered(2_000_000_000, number));
            }
            "google_compute_network" => settle(state, "routing_mode", "REGIONAL"),
            "google_compute_address" => {
                settle(state, "address_id", numbered(3_000_000_000, number));
                if state.get("address") == &Value::Unknown {
                    let address = self.free_address(state).ok_or(
                        "googleapi: Error 400: No address is left in the subnetwork, IP_SPACE_EXHAUSTED",
                    )?;
                    settle(state, "address", address);
                }
            }
            "google_compute_instance" => {
                settle(state, "current_status", "RUNNING");
                settle(state, "instance_id", numbered(1_000_000_000, number));
                self.settle_interface(state);
            }
            _ => {}
        }
        Ok(())
    }

    /// From the range that RFC 5737 sets aside for examples.
    #[must_use]
    pub fn fresh_address(&self) -> String {
        format!("203.0.113.{}", self.next_number % 254 + 1)
    }

    fn settle_interface(&self, state: &mut Value) {
        let mut interface = state.get("network_interface").at(0).clone();
        let subnet = interface
            .get("subnetwork")
            .text()
            .and_then(|subnet| self.resources.get(id_of(subnet)));
        if let Some(network) = subnet.and_then(|subnet| subnet.state["network"].as_str()) {
            settle(&mut interface, "network", network);
        }
        settle(&mut interface, "name", "nic0");
        if let [access] = interface.get("access_config").items() {
            let mut access = access.clone();
            settle(&mut access, "nat_ip", self.fresh_address());
            settle(&mut access, "network_tier", "PREMIUM");
            interface.set("access_config", Value::List(vec![access]));
        }
        state.set("network_interface", Value::List(vec![interface]));
    }

    /// The lowest free address of the subnet. Google keeps the first two and the last two.
    fn free_address(&self, state: &Value) -> Option<String> {
        let subnet = self.resources.get(id_of(state.get("subnetwork").text()?))?;
        let (first, last) = range(subnet.state["ip_cidr_range"].as_str()?)?;
        (first + 2..last - 1)
            .map(|address| std::net::Ipv4Addr::from(address).to_string())
            .find(|address| {
                !self
                    .resources
                    .values()
                    .any(|other| other.state["address"].as_str() == Some(address))
            })
    }
}

/// Gives an instance that runs an external address, and takes it from one that does not.
pub fn readdress(state: &mut Json, fresh: &str) {
    let is_running = state["current_status"] == "RUNNING";
    if let Some(access) = state.pointer_mut(ACCESS) {
        access["nat_ip"] = if is_running { fresh } else { "" }.into();
    }
}

/// Sets a member that is unknown, and no other.
fn settle(state: &mut Value, name: &str, value: impl Into<Value>) {
    if state.get(name) == &Value::Unknown {
        state.set(name, value.into());
    }
}

/// Gives a blank value to all that is still unknown.
pub fn blank_unknowns(block: &Block, state: &mut Value) {
    for attribute in &block.attributes {
        settle(state, attribute.name, attribute.kind.blank());
    }
    for nested in &block.blocks {
        let mut items = state.get(nested.name).items().to_vec();
        if items.is_empty() {
            continue;
        }
        for item in &mut items {
            blank_unknowns(&nested.block, item);
        }
        state.set(nested.name, Value::List(items));
    }
}

fn numbered(base: u64, number: u32) -> String {
    (base + u64::from(number)).to_string()
}

/// Whether two links lead to one thing.
fn is_same(one: &Json, other: &Json) -> bool {
    one.as_str().map(id_of) == other.as_str().map(id_of)
}

/// Whether a state names another resource anywhere.
fn references(state: &Json, id: &str) -> bool {
    match state {
        Json::String(text) => id_of(text) == id,
        Json::Array(items) => items.iter().any(|item| references(item, id)),
        Json::Object(members) => members.values().any(|member| references(member, id)),
        _ => false,
    }
}
