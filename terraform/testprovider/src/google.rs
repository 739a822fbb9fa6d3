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
use crate::schema::Block;
use crate::value::Value;
use crate::world::{ACCESS, World, blank_unknowns, readdress};

/// The prefix that makes a self link of an id.
pub const SELF_LINK_PREFIX: &str = "https://www.googleapis.com/compute/v1/";

/// One resource that exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resource {
    /// Its type, as Terraform calls it.
    pub resource_type: String,
    /// Every attribute.
    pub state: Json,
    /// When it was started last, for an instance: seconds since 1970.
    pub started_at: u64,
    /// What runs on an instance has told of itself, by key: `hostkeys/ssh-ed25519`.
    #[serde(default)]
    pub guest_attributes: BTreeMap<String, String>,
    /// It is being deleted.
    #[serde(default)]
    pub is_going: bool,
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
        let project = planned.get("project").text().unwrap_or(project);
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
            guest_attributes: BTreeMap::new(),
            is_going: false,
        };
        world.resources.insert(id, resource);
        self.save(&world)?;
        Ok(state)
    }

    /// Changes a resource in place, but for the power of an instance.
    ///
    /// # Errors
    /// What Google would say.
    pub fn update(&self, schema: &Block, prior: &Value, planned: &Value) -> Result<(), String> {
        let id = prior.get("id").text().unwrap_or_default();
        let mut world = self.world();
        if !world.resources.contains_key(id) {
            return Err(format!(
                "googleapi: Error 404: The resource '{id}' was not found, notFound"
            ));
        }
        let mut state = planned.clone();
        blank_unknowns(schema, &mut state);
        world.next_number += 1;
        let fresh = world.fresh_address();
        if let Some(resource) = world.resources.get_mut(id) {
            let before = std::mem::replace(&mut resource.state, state.to_json());
            let has_same_disks = prior.get("attached_disk") == planned.get("attached_disk");
            keep_own(&mut resource.state, &before, has_same_disks, &fresh);
        }
        self.save(&world)
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

    /// Who keeps a thing from being deleted, by id.
    #[must_use]
    pub fn users(&self, id: &str) -> Vec<String> {
        self.world().users(id)
    }

    /// Google's refusal to delete a resource, while another one needs it.
    ///
    /// # Errors
    /// The refusal.
    pub fn refuse_in_use(&self, id: &str) -> Result<(), String> {
        let world = self.world();
        let Some((resource, user)) = world.resources.get(id).zip(world.users(id).pop()) else {
            return Ok(());
        };
        let kind = kind(&resource.resource_type);
        Err(format!(
            "The {kind} resource '{id}' is already being used by '{user}'"
        ))
    }

    /// Marks a resource as one that is being deleted; whether it was one already.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn begin_deletion(&self, id: &str) -> Result<bool, String> {
        let mut world = self.world();
        let Some(resource) = world.resources.get_mut(id) else {
            return Ok(false);
        };
        if std::mem::replace(&mut resource.is_going, true) {
            return Ok(true);
        }
        if resource.resource_type == "google_compute_instance" {
            resource.state["current_status"] = "STOPPING".into();
        }
        self.save(&world)?;
        Ok(false)
    }

    /// Removes a resource; nothing happens where there is none.
    ///
    /// # Errors
    /// When another resource needs it.
    pub fn delete(&self, id: &str) -> Result<(), String> {
        self.refuse_in_use(id)?;
        let mut world = self.world();
        world.resources.remove(id);
        self.save(&world)
    }

    /// What runs on an instance tells of itself.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn tell(&self, id: &str, attributes: BTreeMap<String, String>) -> Result<(), String> {
        let mut world = self.world();
        let resource = world
            .resources
            .get_mut(id)
            .ok_or_else(|| format!("The resource '{id}' was not found"))?;
        resource.guest_attributes = attributes;
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

/// What Google keeps of an instance whatever Terraform has planned for it: its power, and an address
/// that it has given. A disk that somebody took off comes back only with a change of the disks.
fn keep_own(state: &mut Json, before: &Json, has_same_disks: bool, fresh: &str) {
    for own in ["current_status", "users"] {
        if let (Some(mine), Some(before)) = (state.get_mut(own), before.get(own)) {
            *mine = before.clone();
        }
    }
    if let Some(attached) = before.get("attached_disk").filter(|_| has_same_disks) {
        state["attached_disk"] = attached.clone();
    }
    let is_running = state["current_status"] == "RUNNING";
    let known = before
        .pointer(ACCESS)
        .map(|access| access["nat_ip"].clone());
    if let Some(access) = state.pointer_mut(ACCESS) {
        let given = if is_running { fresh } else { "" };
        access["nat_ip"] = known.unwrap_or_else(|| given.into());
    }
}
