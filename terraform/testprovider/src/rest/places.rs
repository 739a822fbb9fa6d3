//! What Google offers: the project with its APIs and quotas, regions, zones, machine types and images.

use serde_json::{Value as Json, json};

use super::{Answer, Api, not_found, refusal};
use crate::google::SELF_LINK_PREFIX;

/// The regions that there are.
const REGIONS: [&str; 9] = [
    "asia-east1",
    "asia-northeast1",
    "europe-west1",
    "europe-west3",
    "europe-west4",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-west1",
];

/// The zones of each, by letter.
const LETTERS: [&str; 5] = ["a", "b", "c", "d", "f"];

/// Families of machine types.
const FAMILIES: [&str; 10] = [
    "c2", "c3", "c4", "e2", "n1", "n2", "n2d", "n4", "t2a", "t2d",
];

/// The APIs that are enabled: those that the module needs, but for those that a fault disables.
pub fn services(api: &Api, project: &str) -> Answer {
    let orders = api.orders()?;
    let enabled = ["compute.googleapis.com", "iap.googleapis.com"]
        .into_iter()
        .filter(|name| !orders.is_disabled(name));
    let service = |name: &str| {
        json!({
            "name": format!("projects/{project}/services/{name}"), "config": {"name": name},
            "state": "ENABLED", "parent": format!("projects/{project}"),
        })
    };
    let services: Vec<Json> = enabled.map(service).collect();
    Ok(json!({"services": services}))
}

/// A project that is new: its quotas are enough for five small machines, and little more.
pub fn project(project: &str) -> Json {
    let quotas = json!([
        {"metric": "CPUS_ALL_REGIONS", "limit": 12.0, "usage": 0.0},
        {"metric": "NETWORKS", "limit": 5.0, "usage": 1.0},
        {"metric": "SUBNETWORKS", "limit": 100.0, "usage": 0.0},
        {"metric": "FIREWALLS", "limit": 100.0, "usage": 4.0},
    ]);
    json!({
        "kind": "compute#project", "id": "123456789012", "name": project, "quotas": quotas,
        "selfLink": format!("{SELF_LINK_PREFIX}projects/{project}"),
    })
}

/// All zones, or all regions.
pub fn list(project: &str, kind: &str) -> Json {
    let names: Vec<String> = if kind == "regions" {
        REGIONS.map(String::from).to_vec()
    } else {
        let zones = REGIONS
            .iter()
            .flat_map(|region| LETTERS.map(|letter| format!("{region}-{letter}")));
        zones.collect()
    };
    let items: Vec<Json> = names
        .iter()
        .map(|name| shown(project, kind, name))
        .collect();
    json!({"kind": format!("compute#{}List", kind.trim_end_matches('s')), "items": items})
}

/// One zone or region.
pub fn place(project: &str, kind: &str, name: &str) -> Answer {
    let is_there = if kind == "regions" {
        REGIONS.contains(&name)
    } else {
        is_zone(name)
    };
    if is_there {
        return Ok(shown(project, kind, name));
    }
    let noun = kind.trim_end_matches('s');
    let cause = format!("Invalid value for field '{noun}': '{name}'. Unknown {noun}.");
    Err(refusal(400, "invalid", cause))
}

fn is_zone(name: &str) -> bool {
    let parts = name.rsplit_once('-');
    parts.is_some_and(|(region, letter)| REGIONS.contains(&region) && LETTERS.contains(&letter))
}

fn shown(project: &str, kind: &str, name: &str) -> Json {
    let link =
        |kind: &str, name: &str| format!("{SELF_LINK_PREFIX}projects/{project}/{kind}/{name}");
    let mut answer = json!({
        "kind": format!("compute#{}", kind.trim_end_matches('s')), "name": name, "status": "UP",
        "selfLink": link(kind, name),
    });
    if let (true, Some((region, _))) = (kind == "zones", name.rsplit_once('-')) {
        answer["region"] = link("regions", region).into();
    } else {
        let zones = LETTERS.map(|letter| link("zones", &format!("{name}-{letter}")));
        answer["zones"] = zones.to_vec().into();
        answer["quotas"] = json!([
            {"metric": "CPUS", "limit": 8.0, "usage": 0.0},
            {"metric": "INSTANCES", "limit": 24.0, "usage": 0.0},
            {"metric": "IN_USE_ADDRESSES", "limit": 4.0, "usage": 0.0},
            {"metric": "SSD_TOTAL_GB", "limit": 500.0, "usage": 20.0},
        ]);
    }
    answer
}

/// A machine type, a type of disk, an image or a family of images.
pub fn offer(project: &str, place: &str, collection: &str, rest: &[&str]) -> Answer {
    let id = format!("projects/{project}/{place}/{collection}/{}", rest.join("/"));
    let name = rest.last().copied().unwrap_or_default();
    let link = format!("{SELF_LINK_PREFIX}{id}");
    let is_in_zone = place.strip_prefix("zones/").is_some_and(is_zone);
    match collection {
        "machineTypes" if is_in_zone && is_machine_type(name) => Ok(json!({
            "kind": "compute#machineType", "id": "1", "name": name, "guestCpus": 2, "memoryMb": 2048,
            "zone": place.trim_start_matches("zones/"), "selfLink": link,
        })),
        "machineTypes" if is_in_zone && rest.is_empty() => {
            let zone = place.trim_start_matches("zones/");
            let items = LISTED_TYPES.map(|name| json!({"name": name, "zone": zone}));
            Ok(json!({"kind": "compute#machineTypeList", "items": items}))
        }
        "diskTypes"
            if is_in_zone && (name.starts_with("pd-") || name.starts_with("hyperdisk-")) =>
        {
            Ok(json!({"kind": "compute#diskType", "name": name, "selfLink": link}))
        }
        // The projects of public images; of whatever name but one that says that it is missing.
        "images" | "imageFamilyViews"
            if project.ends_with("-cloud") && !name.contains("missing") =>
        {
            let image = json!({
                "kind": "compute#image", "id": "1", "name": name, "status": "READY", "diskSizeGb": "10",
                "selfLink": link, "architecture": "X86_64",
            });
            let is_view = collection == "imageFamilyViews";
            Ok(if is_view {
                json!({"image": image})
            } else {
                image
            })
        }
        _ => Err(not_found(&id)),
    }
}

/// What a list of types shows; Google's is longer.
const LISTED_TYPES: [&str; 4] = ["e2-micro", "e2-small", "e2-medium", "n2-standard-2"];

fn is_machine_type(name: &str) -> bool {
    let mut parts = name.split('-');
    let (family, kind) = (parts.next().unwrap_or_default(), parts.next());
    FAMILIES.contains(&family)
        && kind.is_some_and(|kind| {
            [
                "micro", "small", "medium", "standard", "highmem", "highcpu", "custom",
            ]
            .contains(&kind)
        })
}
