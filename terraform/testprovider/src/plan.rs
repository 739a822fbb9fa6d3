//! What a change would do: (description, configuration, prior state) -> planned state, and what
//! makes a new resource necessary. Pure.
//!
//! The general rules follow from the description of the resource type. Those that Google's provider
//! has written by hand are in `custom_rules`, written by hand here as well.

use std::collections::BTreeMap;

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

/// Plans a creation (`prior` is null) or a change. `attribution`: what is made gets a label that says
/// that Terraform has made it.
#[must_use]
pub fn plan(
    resource_type: &str,
    schema: &Block,
    config: &Value,
    prior: &Value,
    proposed: &Value,
    attribution: bool,
) -> Planned {
    let is_new = prior.is_null();
    let mut state = fill(schema, config, is_new, proposed);
    if !is_new {
        keep_empty(schema, prior, &mut state);
    }
    settle_labels(schema, prior, &mut state, attribution);
    let mut replace = Vec::new();
    if !prior.is_null() {
        differences(schema, prior, &state, &[], &mut replace);
        replace.extend(custom_rules(resource_type, prior, &mut state));
    }
    Planned { state, replace }
}

/// The proposed values, where a default takes the place of what is not given, and in something new an
/// unknown value that of what Google decides. In what exists, a block that is added has nothing there:
/// Google's provider knows its values after the change alone.
fn fill(block: &Block, config: &Value, is_new: bool, proposed: &Value) -> Value {
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
        } else if is_new {
            state.set(attribute.name, Value::Unknown);
        } // else Terraform has proposed the prior value
    }
    for nested in block.blocks.iter().filter(|nested| !nested.set) {
        let Value::List(proposed) = proposed.get(nested.name) else {
            continue;
        };
        let items = proposed.iter().enumerate().map(|(index, item)| {
            let config = config.get(nested.name).at(index);
            fill(&nested.block, config, is_new, item)
        });
        state.set(nested.name, Value::List(items.collect()));
    }
    state
}

/// Nothing given, and a list or map of nothing, are the same to Google's provider.
fn keep_empty(block: &Block, prior: &Value, state: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    for attribute in block
        .attributes
        .iter()
        .filter(|one| one.kind.is_collection())
    {
        let before = prior.get(attribute.name);
        if is_empty(before) && is_empty(state.get(attribute.name)) {
            state.set(attribute.name, before.clone());
        }
    }
}

/// The label by which Google's provider says that it has made something.
const ATTRIBUTION: &str = "goog-terraform-provisioned";

/// Labels in all their forms are known as soon as they are given. Those that others have set stay. The
/// provider's own comes with a creation, and goes when it is switched off.
fn settle_labels(schema: &Block, prior: &Value, state: &mut Value, attribution: bool) {
    if !schema
        .attributes
        .iter()
        .any(|attribute| attribute.name == "effective_labels")
    {
        return;
    }
    let mut given = match state.get("labels") {
        Value::Unknown => return,
        Value::Null => Value::object(),
        labels => labels.clone(),
    };
    let mut effective = match prior.get("effective_labels") {
        Value::Object(members) => members.clone(),
        _ => BTreeMap::new(),
    };
    if attribution && (prior.is_null() || effective.contains_key(ATTRIBUTION)) {
        given.set(ATTRIBUTION, "true".into());
    }
    if let (Value::Object(before), Value::Object(after)) = (prior.get("terraform_labels"), &given) {
        effective.retain(|name, _| !before.contains_key(name) || after.contains_key(name));
    }
    if let Value::Object(given) = &given {
        effective.extend(given.clone());
    }
    state.set("terraform_labels", given);
    state.set("effective_labels", Value::Object(effective));
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
        }
        "google_compute_firewall" => keep_open(prior, state),
        _ => {}
    }
    replace
}

/// The removal of a lone 0.0.0.0/0 is no difference to Google's provider: without any range it stays
/// alone, and with one it stays beside that.
fn keep_open(prior: &Value, state: &mut Value) {
    let everybody = Value::from("0.0.0.0/0");
    let (before, after) = (prior.get("source_ranges"), state.get("source_ranges"));
    let is_lone = before.items() == std::slice::from_ref(&everybody);
    if !is_lone || after == &Value::Unknown || after.items().contains(&everybody) {
        return;
    }
    if let [] | [_] = after.items() {
        let kept = before.items().iter().chain(after.items()).cloned();
        state.set("source_ranges", Value::List(kept.collect()));
    }
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
            true,
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
            plan(
                "google_compute_disk",
                &schema,
                &config,
                &prior,
                &config,
                true,
            )
            .replace
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
            true,
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

    // A rule that is open to everybody stays open to everybody when one range takes the place of all.
    #[test]
    fn a_lone_open_range_is_not_removed() {
        let schema = schema("google_compute_firewall").unwrap();
        let rule = |ranges: &[&str]| {
            let ranges = ranges.iter().map(|range| Value::from(*range)).collect();
            object(&[("source_ranges", Value::List(ranges))])
        };
        let narrowed = |before: &[&str], after: &[&str]| {
            let (prior, config) = (rule(before), rule(after));
            let planned = plan(
                "google_compute_firewall",
                &schema,
                &config,
                &prior,
                &config,
                true,
            );
            planned.state.get("source_ranges").items().to_vec()
        };
        let ranges = |ranges: &[&str]| rule(ranges).get("source_ranges").items().to_vec();
        let (open, one, two) = ("0.0.0.0/0", "192.0.2.1/32", "192.0.2.2/32");
        assert_eq!(narrowed(&[open], &[one]), ranges(&[open, one]));
        assert_eq!(narrowed(&[open], &[]), ranges(&[open]));
        assert_eq!(narrowed(&[open, one], &[one]), ranges(&[one]));
        assert_eq!(narrowed(&[open], &[one, two]), ranges(&[one, two]));
        assert_eq!(narrowed(&[two], &[one]), ranges(&[one]));
    }

    // A label that somebody else has set stays, one of Terraform's goes with its configuration, and the
    // provider's own when it is switched off.
    #[test]
    fn labels_of_others_stay() {
        let schema = schema("google_compute_disk").unwrap();
        let labels = |names: &[&str]| {
            let mut labels = Value::object();
            for name in names {
                labels.set(name, "true".into());
            }
            labels
        };
        let prior = object(&[
            ("labels", labels(&["a", "b"])),
            ("terraform_labels", labels(&["a", "b", ATTRIBUTION])),
            (
                "effective_labels",
                labels(&["a", "b", "other", ATTRIBUTION]),
            ),
        ]);
        let config = object(&[("labels", labels(&["a"]))]);
        let effective = |attribution: bool| {
            let planned = plan(
                "google_compute_disk",
                &schema,
                &config,
                &prior,
                &config,
                attribution,
            );
            planned.state.get("effective_labels").clone()
        };
        assert_eq!(effective(true), labels(&["a", ATTRIBUTION, "other"]));
        assert_eq!(effective(false), labels(&["a", "other"]));
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
