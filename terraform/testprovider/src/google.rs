//! What Google holds, in one JSON file, and what Google refuses.
//!
//! Refused are: a name that is taken, a reference to nothing, a disk of another zone or in use, a
//! range that overlaps, and the deletion of what others need. These are the refusals that a module
//! with a wrong order or a wrong reference meets.
//!
//! As with Google, an instance that is off has no external address and gets another one when it is
//! started, and a disk that is deleted disappears from its instance without a word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::faults;
use crate::plan::range;
use crate::schema::Block;
use crate::value::Value;

/// The prefix that makes a self link of an id.
pub const SELF_LINK_PREFIX: &str = "https://www.googleapis.com/compute/v1/";

/// Where the access from outside stands in the state of an instance that has one.
const ACCESS: &str = "/network_interface/0/access_config/0";

/// One resource that exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resource {
    /// Its type, as Terraform calls it.
    pub resource_type: String,
    /// Every attribute.
    pub state: Json,
    /// When it was started last, for an instance: seconds since 1970.
    pub started_at: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct World {
    /// By id.
    resources: BTreeMap<String, Resource>,
    /// Numeric ids and outside addresses are handed out in order.
    next_number: u32,
}

/// The stand-in for Google.
pub struct Google {
    file: Option<PathBuf>,
    world: Mutex<World>,
}

impl Google {
    /// Continues from `file`, or from nothing.
    ///
    /// # Errors
    /// When the file is there and can't be read or understood.
    pub fn open(file: Option<&Path>) -> Result<Google, String> {
        let world = match file.map(std::fs::read) {
            None => World::default(),
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string())?,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => World::default(),
            Some(Err(error)) => return Err(error.to_string()),
        };
        Ok(Google {
            file: file.map(PathBuf::from),
            world: Mutex::new(world),
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world
            .lock()
            .expect("no holder of this lock panics between two changes")
    }

    fn save(&self, world: &World) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let bytes = serde_json::to_vec_pretty(world).map_err(|error| error.to_string())?;
        let temporary = file.with_extension("new");
        std::fs::write(&temporary, bytes)
            .and_then(|()| std::fs::rename(&temporary, file))
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// A resource by its id or self link.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<Resource> {
        self.world().resources.get(id_of(reference)).cloned()
    }

    /// Every resource of a type, by id.
    #[must_use]
    pub fn of_type(&self, resource_type: &str) -> Vec<(String, Resource)> {
        let world = self.world();
        let fitting = world
            .resources
            .iter()
            .filter(|(_, resource)| resource.resource_type == resource_type);
        fitting
            .map(|(id, resource)| (id.clone(), resource.clone()))
            .collect()
    }

    /// How many resources there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.world().resources.len()
    }

    /// Makes a resource; its settled state.
    ///
    /// # Errors
    /// What Google would say.
    pub fn create(
        &self,
        resource_type: &str,
        schema: &Block,
        project: &str,
        planned: &Value,
    ) -> Result<Value, String> {
        let mut world = self.world();
        let id = id(resource_type, project, planned);
        let title = faults::capitalized(kind(resource_type));
        if world.resources.contains_key(&id) {
            return Err(faults::already_exists(&title, &id));
        }
        world
            .refusal(resource_type, planned)
            .map_or(Ok(()), |cause| {
                Err(format!("Error creating {title}: {cause}"))
            })?;
        world.next_number += 1;
        let mut state = planned.clone();
        world.settle(resource_type, project, &id, &mut state)?;
        blank_unknowns(schema, &mut state);
        let resource = Resource {
            resource_type: resource_type.into(),
            state: state.to_json(),
            started_at: now(),
        };
        world.resources.insert(id, resource);
        self.save(&world)?;
        Ok(state)
    }

    /// Changes a resource in place; its settled state.
    ///
    /// # Errors
    /// What Google would say.
    pub fn update(&self, schema: &Block, prior: &Value, planned: &Value) -> Result<Value, String> {
        let id = prior.get("id").text().unwrap_or_default();
        let mut world = self.world();
        if !world.resources.contains_key(id) {
            return Err(format!(
                "googleapi: Error 404: The resource '{id}' was not found, notFound"
            ));
        }
        let running = prior.get("current_status").text() == Some("RUNNING");
        let may_stop = planned.get("allow_stopping_for_update") == &Value::Bool(true);
        if prior.get("machine_type") != planned.get("machine_type") && running && !may_stop {
            return Err("Changing the machine_type, min_cpu_platform, service_account, enable_display, \
                        shielded_instance_config, scheduling.node_affinities or network_interface.[#d].(network/\
                        subnetwork/subnetwork_project) or advanced_machine_features on a started instance requires \
                        stopping it. To acknowledge this, please set allow_stopping_for_update = true in your config."
                .into());
        }
        let mut state = planned.clone();
        if let (Value::Unknown, Some(status)) = (
            state.get("current_status"),
            planned.get("desired_status").text(),
        ) {
            let status = status.to_owned();
            state.set("current_status", status.into());
        }
        blank_unknowns(schema, &mut state);
        world.next_number += 1;
        let fresh = world.fresh_address();
        if let Some(resource) = world.resources.get_mut(id) {
            let before = std::mem::replace(&mut resource.state, state.to_json());
            // Terraform hears of what it has planned; what Google decides beside that it sees next time.
            if let Some(attached) = before.get("attached_disk")
                && prior.get("attached_disk") == planned.get("attached_disk")
            {
                resource.state["attached_disk"] = attached.clone();
            }
            let is_restarted = prior.get("machine_type") != planned.get("machine_type")
                || before["current_status"] != resource.state["current_status"];
            if is_restarted {
                readdress(&mut resource.state, &fresh);
            }
            resource.started_at = now();
        }
        self.save(&world)?;
        Ok(state)
    }

    /// Takes a disk off every instance, as Google's provider does before it deletes one.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn detach(&self, disk: &str) -> Result<(), String> {
        let mut world = self.world();
        for resource in world.resources.values_mut() {
            let attached = resource.state.get_mut("attached_disk");
            if let Some(attached) = attached.and_then(Json::as_array_mut) {
                attached.retain(|one| one["source"].as_str().map(id_of) != Some(disk));
            }
        }
        self.save(&world)
    }

    /// Switches an instance on or off. Its external address goes with the power, and the next one is
    /// another.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn switch(&self, id: &str, status: &str) -> Result<(), String> {
        let mut world = self.world();
        world.next_number += 1;
        let fresh = world.fresh_address();
        let resource = world
            .resources
            .get_mut(id)
            .ok_or_else(|| format!("The resource '{id}' was not found"))?;
        if resource.state["current_status"] != status {
            resource.state["current_status"] = status.into();
            readdress(&mut resource.state, &fresh);
        }
        resource.started_at = now();
        self.save(&world)
    }

    /// The external address of an instance's host, where it has one of its own.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn set_address(&self, id: &str, external: Option<String>) -> Result<(), String> {
        let Some(external) = external else {
            return Ok(());
        };
        self.touch(id, |state| {
            if let Some(access) = state.pointer_mut(ACCESS) {
                access["nat_ip"] = external.into();
            }
        })
    }

    /// Removes a resource; nothing happens where there is none.
    ///
    /// # Errors
    /// When another resource needs it.
    pub fn delete(&self, id: &str) -> Result<(), String> {
        let mut world = self.world();
        let user = world
            .resources
            .iter()
            .find(|(user, resource)| user.as_str() != id && references(&resource.state, id));
        if let Some((user, _)) = user {
            return Err(format!(
                "googleapi: Error 400: The resource '{id}' is already being used by '{user}', \
                 resourceInUseByAnotherResource"
            ));
        }
        world.resources.remove(id);
        self.save(&world)
    }

    /// Changes attributes of an instance from outside Terraform, as the REST API does.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn touch(&self, id: &str, change: impl FnOnce(&mut Json)) -> Result<(), String> {
        let mut world = self.world();
        let resource = world
            .resources
            .get_mut(id)
            .ok_or_else(|| format!("The resource '{id}' was not found"))?;
        change(&mut resource.state);
        resource.started_at = now();
        self.save(&world)
    }
}

impl World {
    /// Why Google would not make this, where it would not.
    fn refusal(&self, resource_type: &str, planned: &Value) -> Option<String> {
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
        let (user, _) = self.resources.iter().find(|(_, other)| {
            other.resource_type == "google_compute_instance" && references(&other.state, id)
        })?;
        Some(format!(
            "googleapi: Error 400: The disk resource '{id}' is already being used by '{user}', \
             resourceInUseByAnotherResource"
        ))
    }

    /// Decides what Google decides.
    fn settle(
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
            "google_compute_disk" => settle(
                state,
                "disk_id",
                format!("{}", 2_000_000_000 + u64::from(number)),
            ),
            "google_compute_network" => settle(state, "routing_mode", "REGIONAL"),
            "google_compute_address" if state.get("address") == &Value::Unknown => {
                let address = self.free_address(state).ok_or(
                    "googleapi: Error 400: No address is left in the subnetwork, IP_SPACE_EXHAUSTED",
                )?;
                settle(state, "address", address);
            }
            "google_compute_instance" => {
                settle(state, "current_status", "RUNNING");
                settle(
                    state,
                    "instance_id",
                    format!("{}", 1_000_000_000 + u64::from(number)),
                );
                self.settle_interface(state);
            }
            _ => {}
        }
        Ok(())
    }

    /// From the range that RFC 5737 sets aside for examples.
    fn fresh_address(&self) -> String {
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
fn readdress(state: &mut Json, fresh: &str) {
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
fn blank_unknowns(block: &Block, state: &mut Value) {
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

/// Whether a state names another resource anywhere.
fn references(state: &Json, id: &str) -> bool {
    match state {
        Json::String(text) => id_of(text) == id,
        Json::Array(items) => items.iter().any(|item| references(item, id)),
        Json::Object(members) => members.values().any(|member| references(member, id)),
        _ => false,
    }
}

/// The id in an id or a self link.
#[must_use]
pub fn id_of(reference: &str) -> &str {
    reference
        .strip_prefix(SELF_LINK_PREFIX)
        .unwrap_or(reference)
}

/// A resource type without its prefix.
#[must_use]
pub fn kind(resource_type: &str) -> &str {
    resource_type.trim_start_matches("google_compute_")
}

/// The id that a resource has, or will have.
#[must_use]
pub fn id(resource_type: &str, project: &str, state: &Value) -> String {
    let text = |name: &str| state.get(name).text().unwrap_or("-").to_owned();
    let name = text("name");
    match resource_type {
        "google_compute_network" => format!("projects/{project}/global/networks/{name}"),
        "google_compute_firewall" => format!("projects/{project}/global/firewalls/{name}"),
        "google_compute_subnetwork" => {
            format!(
                "projects/{project}/regions/{}/subnetworks/{name}",
                text("region")
            )
        }
        "google_compute_address" => format!(
            "projects/{project}/regions/{}/addresses/{name}",
            text("region")
        ),
        "google_compute_disk" => format!("projects/{project}/zones/{}/disks/{name}", text("zone")),
        _ => format!("projects/{project}/zones/{}/instances/{name}", text("zone")),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
