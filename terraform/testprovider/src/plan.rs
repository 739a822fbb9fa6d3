//! What a change would do: (description, configuration, prior state) -> planned state, and what
//! makes a new resource necessary. Pure.
//!
//! The general rules follow from the description of the resource type. Those that Google's provider
//! has written by hand are in `custom_rules`, written by hand here as well.

use crate::schema::Block;
use crate::value::Value;

/// One step of a path into a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into an attribute or block, by name.
    Name(&'static str),
    /// Into an element of a list of blocks.
    Index(usize),
}

/// A planned change.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The state after it, as far as it is known.
    pub state: Value,
    /// The changes that a resource can't live through; empty when it is changed in place.
    pub replace: Vec<Vec<Step>>,
}

/// Plans a creation (`prior` is null) or a change.
#[must_use]
pub fn plan(
    resource_type: &str,
    schema: &Block,
    config: &Value,
    prior: &Value,
    proposed: &Value,
) -> Planned {
    let mut state = fill(schema, config, prior, proposed);
    settle_labels(schema, &mut state);
    let mut replace = Vec::new();
    if !prior.is_null() {
        differences(schema, prior, &state, &[], &mut replace);
        replace.extend(custom_rules(resource_type, prior, &mut state));
    }
    Planned { state, replace }
}

/// The proposed values, where a default or an unknown value takes the place of what is not given.
fn fill(block: &Block, config: &Value, prior: &Value, proposed: &Value) -> Value {
    let Value::Object(_) = proposed else {
        return proposed.clone(); // null, or unknown as a whole
    };
    let mut state = proposed.clone();
    for attribute in &block.attributes {
        if !attribute.computed || !config.get(attribute.name).is_null() {
            continue;
        }
        if let Some(default) = &attribute.default {
            state.set(attribute.name, default.clone());
        } else if prior.is_null() {
            state.set(attribute.name, Value::Unknown);
        } // else Terraform has proposed the prior value
    }
    for nested in block.blocks.iter().filter(|nested| !nested.set) {
        let Value::List(proposed) = proposed.get(nested.name) else {
            continue;
        };
        let items = proposed.iter().enumerate().map(|(index, item)| {
            let config = config.get(nested.name).at(index);
            let prior = prior.get(nested.name).at(index);
            fill(&nested.block, config, prior, item)
        });
        state.set(nested.name, Value::List(items.collect()));
    }
    state
}

/// Labels in all their forms are known as soon as they are given.
fn settle_labels(schema: &Block, state: &mut Value) {
    if !schema
        .attributes
        .iter()
        .any(|attribute| attribute.name == "effective_labels")
    {
        return;
    }
    let mut labels = match state.get("labels") {
        Value::Unknown => return,
        Value::Null => Value::object(),
        labels => labels.clone(),
    };
    labels.set("goog-terraform-provisioned", "true".into());
    state.set("terraform_labels", labels.clone());
    state.set("effective_labels", labels);
}

/// Collects the paths where a difference means a new resource.
fn differences(
    block: &Block,
    prior: &Value,
    planned: &Value,
    path: &[Step],
    found: &mut Vec<Vec<Step>>,
) {
    for attribute in block
        .attributes
        .iter()
        .filter(|attribute| attribute.force_new)
    {
        if prior.get(attribute.name) != planned.get(attribute.name) {
            found.push(extended(path, &[Step::Name(attribute.name)]));
        }
    }
    for nested in block.blocks.iter().filter(|nested| !nested.set) {
        let (before, after) = (
            prior.get(nested.name).items(),
            planned.get(nested.name).items(),
        );
        if nested.force_new && before.len() != after.len() {
            found.push(extended(path, &[Step::Name(nested.name)]));
            continue;
        }
        for (index, (before, after)) in before.iter().zip(after).enumerate() {
            let path = extended(path, &[Step::Name(nested.name), Step::Index(index)]);
            differences(&nested.block, before, after, &path, found);
        }
    }
}

fn extended(path: &[Step], more: &[Step]) -> Vec<Step> {
    [path, more].concat()
}

/// The rules that Google's provider has written by hand, as far as the module meets them.
fn custom_rules(resource_type: &str, prior: &Value, state: &mut Value) -> Vec<Vec<Step>> {
    let mut replace = Vec::new();
    match resource_type {
        "google_compute_subnetwork" => {
            let (before, after) = (prior.get("ip_cidr_range"), state.get("ip_cidr_range"));
            if before != after && !expands(before.text(), after.text()) {
                replace.push(vec![Step::Name("ip_cidr_range")]);
            }
        }
        "google_compute_disk" if state.get("size").number() < prior.get("size").number() => {
            replace.push(vec![Step::Name("size")]);
        }
        "google_compute_instance" => {
            replace.extend(moved_address(prior, state));
            if !state.get("desired_status").is_null()
                && state.get("desired_status") != prior.get("current_status")
            {
                state.set("current_status", Value::Unknown);
            }
        }
        _ => {}
    }
    replace
}

/// An address is changed in place only together with the subnet that it belongs to.
fn moved_address(prior: &Value, state: &Value) -> Option<Vec<Step>> {
    let (before, after) = (
        prior.get("network_interface").at(0),
        state.get("network_interface").at(0),
    );
    let moved = before.get("network_ip") != after.get("network_ip")
        && before.get("subnetwork") == after.get("subnetwork");
    moved.then(|| {
        vec![
            Step::Name("network_interface"),
            Step::Index(0),
            Step::Name("network_ip"),
        ]
    })
}

/// Whether one IPv4 range holds the other, so that a subnet can grow from it. Ranges that are not
/// known yet hold nothing.
#[must_use]
pub fn expands(before: Option<&str>, after: Option<&str>) -> bool {
    match (before.and_then(range), after.and_then(range)) {
        (Some((first, last)), Some((new_first, new_last))) => {
            new_first <= first && last <= new_last
        }
        _ => false,
    }
}

/// First and last address of an IPv4 range in CIDR notation.
#[must_use]
pub fn range(cidr: &str) -> Option<(u32, u32)> {
    let (address, length) = cidr.split_once('/')?;
    let address = u32::from(address.parse::<std::net::Ipv4Addr>().ok()?);
    let length = length.parse::<u32>().ok().filter(|length| *length <= 32)?;
    let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
    Some((address & !hosts, address | hosts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::schema;

    fn object(members: &[(&str, Value)]) -> Value {
        let mut value = Value::object();
        for (name, member) in members {
            value.set(name, member.clone());
        }
        value
    }

    // On creation, what Google decides is unknown, and what has a default takes it.
    #[test]
    fn a_creation_has_defaults_and_unknowns() {
        let schema = schema("google_compute_disk").unwrap();
        let config = object(&[("name", "d".into()), ("size", 20u32.into())]);
        let planned = plan(
            "google_compute_disk",
            &schema,
            &config,
            &Value::Null,
            &config,
        );
        assert_eq!(planned.state.get("type"), &"pd-standard".into());
        assert_eq!(planned.state.get("size"), &20u32.into());
        assert_eq!(planned.state.get("self_link"), &Value::Unknown);
        assert!(planned.replace.is_empty());
    }

    // A data disk grows in place; another zone or a smaller size needs a new one.
    #[test]
    fn a_disk_grows_in_place_and_is_replaced_otherwise() {
        let schema = schema("google_compute_disk").unwrap();
        let prior = object(&[
            ("size", 20u32.into()),
            ("zone", "us-central1-a".into()),
            ("type", "pd-ssd".into()),
        ]);
        let replaced = |name: &str, value: Value| {
            let mut config = prior.clone();
            config.set(name, value);
            plan("google_compute_disk", &schema, &config, &prior, &config).replace
        };
        assert_eq!(replaced("size", 30u32.into()), Vec::<Vec<Step>>::new());
        assert_eq!(replaced("size", 10u32.into()), [[Step::Name("size")]]);
        assert_eq!(
            replaced("zone", "us-central1-b".into()),
            [[Step::Name("zone")]]
        );
    }

    // A block's own attribute that forces a new resource is found at its place.
    #[test]
    fn a_nested_difference_is_found() {
        let schema = schema("google_compute_instance").unwrap();
        let at = |seconds: u32| {
            let duration = object(&[("seconds", seconds.into())]);
            let scheduling = object(&[
                ("max_run_duration", Value::List(vec![duration])),
                ("automatic_restart", false.into()),
                ("preemptible", false.into()),
            ]);
            object(&[("scheduling", Value::List(vec![scheduling]))])
        };
        let planned = plan(
            "google_compute_instance",
            &schema,
            &at(60),
            &at(90),
            &at(60),
        );
        let path = vec![
            Step::Name("scheduling"),
            Step::Index(0),
            Step::Name("max_run_duration"),
            Step::Index(0),
            Step::Name("seconds"),
        ];
        assert!(planned.replace.contains(&path), "{:?}", planned.replace);
    }

    // A subnet may grow around what it holds, and nothing else.
    #[test]
    fn a_subnet_only_grows() {
        assert!(expands(Some("10.80.0.0/24"), Some("10.80.0.0/20")));
        assert!(!expands(Some("10.80.0.0/24"), Some("10.80.1.0/24")));
        assert!(!expands(Some("10.80.0.0/20"), Some("10.80.0.0/24")));
        assert!(!expands(Some("10.80.0.0/24"), None));
        assert_eq!(range("10.0.0.7/32"), Some((0x0a00_0007, 0x0a00_0007)));
        assert_eq!(range("10.0.0.0/33"), None);
    }
}
