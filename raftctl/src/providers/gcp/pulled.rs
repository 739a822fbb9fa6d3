//! Terraform's state as it is kept, from `terraform state pull`: what was there when it was last looked at. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The form of a state that is known.
const FORM: u64 = 4;

#[derive(Deserialize)]
struct State {
    version: u64,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "type")]
    resource_type: String,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(default)]
    index_key: Value,
    #[serde(default)]
    attributes: Value,
}

/// What belongs to a node or a region each.
#[derive(Debug, Default)]
pub struct Pulled {
    /// By type, then by node or region: the attributes.
    resources: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Pulled {
    /// Reads the text. One of a form that is not known says nothing: whoever makes a plan then finds out the same.
    #[must_use]
    pub fn read(json: &str) -> Self {
        let state: Option<State> = serde_json::from_str(json).ok();
        let Some(state) = state.filter(|state| state.version == FORM) else {
            return Pulled::default();
        };
        let mut pulled = Pulled::default();
        for resource in state.resources {
            let named = resource.instances.into_iter();
            let named =
                named.filter_map(|one| Some((one.index_key.as_str()?.to_owned(), one.attributes)));
            let of_type = pulled.resources.entry(resource.resource_type).or_default();
            of_type.extend(named);
        }
        pulled
    }

    /// The resources of a type, each with the node or region that it belongs to.
    pub fn of_type(&self, resource_type: &str) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.resources.get(resource_type).into_iter().flatten();
        all.map(|(name, attributes)| (name.as_str(), attributes))
    }

    /// Whether there is one of a type for a node or region.
    #[must_use]
    pub fn has(&self, resource_type: &str, name: &str) -> bool {
        let of_type = self.resources.get(resource_type);
        of_type.is_some_and(|all| all.contains_key(name))
    }
}
