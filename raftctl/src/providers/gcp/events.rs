//! The JSON lines that `terraform plan -json` and `apply -json` write, as far as raftctl heeds
//! them. Pure.
//!
//! Types of lines that are not known are skipped, as Terraform's own documentation of this format
//! asks; a major version other than 1 is refused, since nothing could be relied on.

use serde::Deserialize;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed in place.
    Update,
    /// It goes.
    Delete,
    /// It goes, and another one is made.
    Replace,
    /// Terraform no longer looks after it; it stays.
    Remove,
    /// It is there, and Terraform looks after it from now on.
    Import,
    /// Something that this raftctl does not know, or that changes nothing.
    #[serde(other)]
    Other,
}

/// A resource, as a line names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// Its address in Terraform.
    #[serde(rename = "addr")]
    pub address: String,
    /// `google_compute_instance`.
    pub resource_type: String,
    /// The node, or the region; absent where there is only one. A number for a single one.
    #[serde(default)]
    pub resource_key: serde_json::Value,
}

impl Resource {
    /// The node or region that this belongs to.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.resource_key.as_str()
    }
}

/// One line that matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It is at Google otherwise than the state has it.
    Drifted(Resource),
    /// It will be done.
    Planned(Resource, Action),
    /// It has begun.
    Started(Resource, Action),
    /// It is going on, for so many seconds.
    Going(Resource, u64),
    /// It is done.
    Done(Resource, Action),
    /// It has failed; the cause comes in a diagnostic.
    Failed(Resource, Action),
    /// It is being looked at.
    Reading(Resource),
    /// It has been looked at.
    Read(Resource),
    /// Terraform or a provider says that something is wrong.
    Problem(Diagnostic),
    /// What raftctl needs to know of all that was made: the module's output, once all is done.
    Made(serde_json::Value),
    /// raftctl's own words about Terraform: what is waited for.
    Note(String),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// In one sentence, or, from Google's provider, all there is.
    pub summary: String,
    /// More about it.
    #[serde(default)]
    pub detail: String,
    /// The resource it is about.
    #[serde(default)]
    pub address: Option<String>,
}

impl Diagnostic {
    /// Whether it is more than a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// All of it as one text.
    #[must_use]
    pub fn text(&self) -> String {
        match self.detail.as_str() {
            "" => self.summary.clone(),
            detail => format!("{}\n{detail}", self.summary),
        }
    }
}

/// The output of Terraform is of a kind that raftctl does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Terraform speaks version {0} of its JSON output, and raftctl knows 1.x: use an older Terraform or a newer raftctl"
)]
pub struct UnknownFormat(pub String);

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    ui: String,
    change: Option<Body>,
    hook: Option<Body>,
    diagnostic: Option<Diagnostic>,
    #[serde(default)]
    outputs: serde_json::Value,
}

#[derive(Deserialize)]
struct Body {
    resource: Resource,
    action: Option<Action>,
    #[serde(default)]
    elapsed_seconds: f64,
}

/// Reads one line. `None` is a line that doesn't matter, or no JSON at all: plugins write freely.
///
/// # Errors
/// The line announces a format that is not known.
pub fn parse(line: &str) -> Result<Option<Event>, UnknownFormat> {
    let Ok(line) = serde_json::from_str::<Line>(line) else {
        return Ok(None);
    };
    if line.kind == "version" && line.ui.split('.').next() != Some("1") {
        return Err(UnknownFormat(line.ui));
    }
    if line.kind == "diagnostic" {
        return Ok(line.diagnostic.map(Event::Problem));
    }
    if line.kind == "outputs" {
        return Ok(made(&line.outputs).map(Event::Made));
    }
    let Some(body) = line.change.or(line.hook) else {
        return Ok(None);
    };
    if body.resource.resource_type == "terraform_data" {
        return Ok(None); // what the module keeps for itself, and nothing at Google
    }
    let action = body.action.unwrap_or(Action::Other);
    Ok(match line.kind.as_str() {
        "resource_drift" => Some(Event::Drifted(body.resource)),
        "planned_change" => Some(Event::Planned(body.resource, action)),
        "apply_start" => Some(Event::Started(body.resource, action)),
        "apply_progress" => Some(Event::Going(body.resource, seconds(body.elapsed_seconds))),
        "apply_complete" => Some(Event::Done(body.resource, action)),
        "refresh_start" => Some(Event::Reading(body.resource)),
        "refresh_complete" => Some(Event::Read(body.resource)),
        "apply_errored" => Some(Event::Failed(body.resource, action)),
        _ => None,
    })
}

/// The output of the module that is for raftctl, among all of them, as `terraform output -json` prints them, too.
/// `None` where nothing is known of it: before the first complete apply, or in a plan.
#[must_use]
pub fn made(outputs: &serde_json::Value) -> Option<serde_json::Value> {
    let value = &outputs["raftctl"]["value"];
    (!value.is_null()).then(|| value.clone())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded on the line itself
fn seconds(elapsed: f64) -> u64 {
    elapsed.clamp(0.0, 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines as Terraform 1.11.4 writes them.
    const START: &str = r#"{"@level":"info","@message":"google_compute_instance.node[\"n3\"]: Creating...","@module":"terraform.ui","@timestamp":"2026-11-21T09:56:19.308306Z","hook":{"resource":{"addr":"google_compute_instance.node[\"n3\"]","module":"","resource":"google_compute_instance.node[\"n3\"]","implied_provider":"google","resource_type":"google_compute_instance","resource_name":"node","resource_key":"n3"},"action":"create"},"type":"apply_start"}"#;
    const NETWORK: &str = r#"{"@level":"info","@message":"google_compute_network.cluster[0]: Plan to create","@module":"terraform.ui","@timestamp":"2026-11-21T09:56:18.854414Z","change":{"resource":{"addr":"google_compute_network.cluster[0]","module":"","resource":"google_compute_network.cluster[0]","implied_provider":"google","resource_type":"google_compute_network","resource_name":"cluster","resource_key":0},"action":"create"},"type":"planned_change"}"#;

    // A line about a node tells the node.
    #[test]
    fn a_line_names_its_node() {
        let Ok(Some(Event::Started(resource, Action::Create))) = parse(START) else {
            panic!("not read");
        };
        assert_eq!(resource.key(), Some("n3"));
        assert_eq!(resource.address, "google_compute_instance.node[\"n3\"]");
        let Ok(Some(Event::Planned(network, _))) = parse(NETWORK) else {
            panic!("not read");
        };
        assert_eq!(network.key(), None);
    }

    // The end of an apply tells what was made; a plan tells that there will be something.
    #[test]
    fn what_was_made_is_told_in_the_end() {
        let line = |raftctl: &str| {
            let line = format!(
                r#"{{"@level":"info","@message":"Outputs: 1","outputs":{{"raftctl":{raftctl}}},"type":"outputs"}}"#
            );
            parse(&line).unwrap()
        };
        let made = serde_json::json!({"schema": 1});
        let told =
            r#"{"sensitive":false,"type":["object",{"schema":"number"}],"value":{"schema":1}}"#;
        assert_eq!(line(told), Some(Event::Made(made)));
        assert_eq!(line(r#"{"sensitive":false,"action":"create"}"#), None);
    }

    // Terraform says that types may be added; plugins write lines of their own.
    #[test]
    fn what_is_unknown_is_skipped() {
        for line in [
            r#"{"type":"something_new","hook":{"resource":{"addr":"a","resource_type":"b"},"action":"dance"}}"#,
            r#"{"type":"apply_start","hook":{"resource":{"addr":"a","resource_type":"terraform_data"},"action":"create"}}"#,
            r#"{"type":"log","@message":"hello"}"#,
            "2026/11/21 09:56:18 [WARN] something",
            "",
        ] {
            assert_eq!(parse(line), Ok(None), "{line}");
        }
    }

    // Another major version may mean anything.
    #[test]
    fn another_major_version_is_refused() {
        assert_eq!(
            parse(r#"{"type":"version","terraform":"1.11.4","ui":"1.2"}"#),
            Ok(None)
        );
        let refused = parse(r#"{"type":"version","terraform":"2.0.0","ui":"2.0"}"#);
        assert_eq!(refused, Err(UnknownFormat("2.0".into())));
    }
}
