//! How each kind of resource looks from outside: the state that Terraform knows, in the words of the API.

use serde_json::{Value as Json, json};

use super::{Answer, not_found};
use crate::google::{Google, Resource, SELF_LINK_PREFIX, kind};

/// Every resource of a kind, by id. A kind is named as in links: `instances`.
pub fn all(google: &Google, collection: &str) -> Vec<(String, Json)> {
    let kind = match collection {
        "addresses" => "address",
        other => other.trim_end_matches('s'),
    };
    let resources = google.of_type(&format!("google_compute_{kind}"));
    let views = resources.into_iter().map(|(id, resource)| {
        let view = view(google, &id, &resource);
        (id, view)
    });
    let boot = match collection {
        "disks" => google.of_type("google_compute_instance"),
        _ => Vec::new(),
    };
    let boot = boot
        .into_iter()
        .map(|(id, resource)| boot_disk(&id, &resource));
    views.chain(boot).collect()
}

/// The disk that an instance boots from: it bears its name, and goes with it.
fn boot_disk(instance: &str, resource: &Resource) -> (String, Json) {
    let id = instance.replace("/instances/", "/disks/");
    let place = instance.split("/instances/").next().unwrap_or_default();
    let state = &resource.state;
    let answer = json!({
        "kind": "compute#disk", "id": number(state), "name": state["name"],
        "selfLink": format!("{SELF_LINK_PREFIX}{id}"), "zone": format!("{SELF_LINK_PREFIX}{place}"),
        "creationTimestamp": "2026-01-01T00:00:00.000-00:00", "status": "READY",
        "labels": state["boot_disk"][0]["initialize_params"][0]["labels"],
        "users": [format!("{SELF_LINK_PREFIX}{instance}")],
    });
    (id, answer)
}

/// A resource as the API shows it. What is not set is not shown.
pub fn view(google: &Google, id: &str, resource: &Resource) -> Json {
    let state = &resource.state;
    let kind = kind(&resource.resource_type);
    let mut answer = json!({
        "kind": format!("compute#{kind}"), "id": number(state), "name": state["name"],
        "description": state["description"], "selfLink": format!("{SELF_LINK_PREFIX}{id}"),
        "creationTimestamp": "2026-01-01T00:00:00.000-00:00", "labels": state["effective_labels"],
    });
    let place = id.rsplitn(3, '/').nth(2).unwrap_or_default(); // projects/p/zones/z
    for (part, name) in [("/zones/", "zone"), ("/regions/", "region")] {
        if place.contains(part) {
            answer[name] = format!("{SELF_LINK_PREFIX}{place}").into();
        }
    }
    let users = || -> Vec<String> {
        let users = google.users(id).into_iter();
        users
            .map(|user| format!("{SELF_LINK_PREFIX}{user}"))
            .collect()
    };
    let more = match kind {
        "network" => network(google, id, state),
        "subnetwork" => json!({
            "network": link(&state["network"]), "ipCidrRange": state["ip_cidr_range"],
            "privateIpGoogleAccess": state["private_ip_google_access"], "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
        }),
        "firewall" => firewall(state),
        "address" => {
            let users = users();
            let status = if users.is_empty() {
                "RESERVED"
            } else {
                "IN_USE"
            };
            json!({
                "address": state["address"], "addressType": state["address_type"], "status": status,
                "subnetwork": link(&state["subnetwork"]), "purpose": "GCE_ENDPOINT", "users": users,
            })
        }
        "disk" => json!({
            "status": "READY", "sizeGb": state["size"].to_string(), "users": users(),
            "type": format!("{SELF_LINK_PREFIX}{place}/diskTypes/{}", text(&state["type"])),
        }),
        _ => instance(place, resource),
    };
    if let (Some(answer), Json::Object(more)) = (answer.as_object_mut(), more) {
        answer.extend(more);
        answer.retain(|_, value| !is_unset(value));
    }
    answer
}

fn is_unset(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

/// The number that Google calls a thing by.
fn number(state: &Json) -> Json {
    ["instance_id", "disk_id", "address_id"]
        .into_iter()
        .map(|name| &state[name])
        .find(|number| number.is_string())
        .map_or_else(|| json!("1"), Json::clone)
}

/// A whole link, of one or of an id.
fn link(reference: &Json) -> Json {
    reference.as_str().map_or(Json::Null, |reference| {
        let id = crate::google::id_of(reference);
        format!("{SELF_LINK_PREFIX}{id}").into()
    })
}

fn network(google: &Google, id: &str, state: &Json) -> Json {
    let subnets = google.users(id).into_iter();
    let subnets = subnets.filter(|user| user.contains("/subnetworks/"));
    let subnets: Vec<String> = subnets
        .map(|user| format!("{SELF_LINK_PREFIX}{user}"))
        .collect();
    json!({
        "autoCreateSubnetworks": state["auto_create_subnetworks"], "subnetworks": subnets,
        "routingConfig": {"routingMode": "REGIONAL"},
    })
}

fn firewall(state: &Json) -> Json {
    let rules = |name: &str| -> Vec<Json> {
        let rules = state[name].as_array().cloned().unwrap_or_default();
        let shown = rules.iter().map(|rule| {
            let mut shown = json!({"IPProtocol": rule["protocol"]});
            if !is_unset(&rule["ports"]) {
                shown["ports"] = rule["ports"].clone();
            }
            shown
        });
        shown.collect()
    };
    json!({
        "network": link(&state["network"]), "direction": state["direction"],
        "priority": state["priority"], "sourceRanges": state["source_ranges"],
        "sourceTags": state["source_tags"], "targetTags": state["target_tags"],
        "allowed": rules("allow"), "denied": rules("deny"),
        "disabled": state["disabled"].as_bool().unwrap_or_default(),
    })
}

fn instance(place: &str, resource: &Resource) -> Json {
    let state = &resource.state;
    let interface = &state["network_interface"][0];
    let scheduling = &state["scheduling"][0];
    let seconds = scheduling["max_run_duration"][0]["seconds"].as_u64();
    let mut nic = json!({
        "name": "nic0", "network": link(&interface["network"]),
        "subnetwork": link(&interface["subnetwork"]), "networkIP": interface["network_ip"],
    });
    if let Some(access) = interface["access_config"].get(0) {
        let mut config = json!({"kind": "compute#accessConfig", "type": "ONE_TO_ONE_NAT", "name": "external-nat"});
        if !is_unset(&access["nat_ip"]) {
            config["natIP"] = access["nat_ip"].clone();
        }
        nic["accessConfigs"] = json!([config]);
    }
    let items = state["metadata"].as_object().into_iter().flatten();
    let items: Vec<Json> = items
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    let attached = state["attached_disk"].as_array().into_iter().flatten();
    let disks: Vec<Json> = attached
        .map(|disk| {
            json!({
                "source": link(&disk["source"]), "deviceName": disk["device_name"], "boot": false,
                "autoDelete": false, "type": "PERSISTENT", "mode": "READ_WRITE",
            })
        })
        .collect();
    let machine_type = text(&state["machine_type"]);
    let mut answer = json!({
        "status": state["current_status"], "disks": disks, "networkInterfaces": [nic],
        "machineType": format!("{SELF_LINK_PREFIX}{place}/machineTypes/{machine_type}"),
        "metadata": {"kind": "compute#metadata", "items": items}, "tags": {"items": state["tags"]},
        "lastStartTimestamp": timestamp(resource.started_at),
        "scheduling": {
            "automaticRestart": scheduling["automatic_restart"],
            "provisioningModel": scheduling["provisioning_model"],
            "instanceTerminationAction": scheduling["instance_termination_action"],
        },
    });
    if let Some(seconds) = seconds {
        answer["scheduling"]["maxRunDuration"] = json!({"seconds": seconds.to_string()});
        if state["current_status"] == "RUNNING" {
            let end = timestamp(resource.started_at + seconds);
            answer["resourceStatus"] = json!({"scheduling": {"terminationTimestamp": end}});
        }
    }
    answer
}

/// What runs on an instance tells of itself, below the path that is asked for; nothing where the
/// machine's metadata does not allow it.
pub fn guest_attributes(id: &str, resource: &Resource, query: &str) -> Answer {
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("queryPath="))
        .unwrap_or_default()
        .replace("%2F", "/");
    let is_allowed = resource.state["metadata"]["enable-guest-attributes"] == "TRUE";
    let fitting = resource.guest_attributes.iter();
    let fitting = fitting.filter(|(key, _)| is_allowed && key.starts_with(&asked));
    let items: Vec<Json> = fitting
        .filter_map(|(key, value)| {
            let (namespace, key) = key.split_once('/')?;
            Some(json!({"namespace": namespace, "key": key, "value": value}))
        })
        .collect();
    if items.is_empty() {
        return Err(not_found(&format!("{id}/guestAttributes/{asked}")));
    }
    Ok(
        json!({"kind": "compute#guestAttributes", "queryPath": asked, "queryValue": {"items": items}}),
    )
}

/// RFC 3339, UTC. Days to date after Howard Hinnant's `civil_from_days`.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    // Dates around leap days, checked against `date -u`.
    #[test]
    fn timestamps_are_right() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00+00:00");
        assert_eq!(timestamp(1_772_323_199), "2026-02-28T23:59:59+00:00");
        assert_eq!(timestamp(1_772_323_200), "2026-03-01T00:00:00+00:00");
    }
}
