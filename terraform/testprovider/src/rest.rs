//! The few REST calls that raftctl makes through gcloud. Of Compute Engine: instances and disks
//! listed, an instance read, stopped, started, deleted and given another type or scheduling, the
//! operations that stand for these changes, and the quotas of the project and its regions. An operation is done when its
//! request is answered. Of Service Usage: the APIs that are enabled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value as Json, json};

use crate::faults::Faults;
use crate::google::{Google, Resource, SELF_LINK_PREFIX};
use crate::hook::Hook;
use crate::provider::{instance_id, machine};
use crate::value::Value;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    /// What exists.
    pub google: Arc<Google>,
    /// Stops and starts hosts.
    pub hook: Hook,
    /// The file with the failures that are ordered.
    pub faults: Option<PathBuf>,
}

type At = Path<(String, String, String)>;

/// The routes, below the prefix that gcloud's endpoint override names.
pub fn routes(api: Api) -> Router {
    let base = "/compute/v1/projects/{project}/zones/{zone}";
    let instance = format!("{base}/instances/{{name}}");
    Router::new()
        .route("/v1/projects/{project}/services", get(services))
        .route("/compute/v1/projects/{project}", get(project))
        .route(
            "/compute/v1/projects/{project}/regions/{region}",
            get(region),
        )
        .route(
            "/compute/v1/projects/{project}/aggregated/instances",
            get(list),
        )
        .route(
            "/compute/v1/projects/{project}/aggregated/disks",
            get(disks),
        )
        .route(&instance, get(read).delete(remove))
        .route(&format!("{instance}/stop"), post(stop))
        .route(&format!("{instance}/start"), post(start))
        .route(&format!("{instance}/setScheduling"), post(set_scheduling))
        .route(
            &format!("{instance}/setMachineType"),
            post(set_machine_type),
        )
        .route(&format!("{base}/operations/{{name}}"), get(operation))
        .route(&format!("{base}/operations/{{name}}/wait"), post(operation))
        .with_state(api)
}

async fn read(State(api): State<Api>, Path((project, zone, name)): At) -> Response {
    let id = instance_id(&project, &zone, &name);
    match api.google.find(&id) {
        Some(resource) => reply(StatusCode::OK, &instance(&id, &resource)),
        None => not_found(&id),
    }
}

/// Every instance by zone. gcloud filters by label itself, beside asking for it.
async fn list(State(api): State<Api>, Path(project): Path<String>) -> Response {
    let mut zones: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for (id, resource) in api.google.of_type("google_compute_instance") {
        let zone = resource.state["zone"].as_str().unwrap_or_default();
        zones
            .entry(format!("zones/{zone}"))
            .or_default()
            .push(instance(&id, &resource));
    }
    let zones: serde_json::Map<String, Json> = zones
        .into_iter()
        .map(|(zone, instances)| (zone, json!({"instances": instances})))
        .collect();
    let answer = json!({"kind": "compute#instanceAggregatedList", "id": project, "items": zones});
    reply(StatusCode::OK, &answer)
}

/// An instance as the API shows it.
fn instance(id: &str, resource: &Resource) -> Json {
    let state = &resource.state;
    let interface = &state["network_interface"][0];
    let scheduling = &state["scheduling"][0];
    let seconds = scheduling["max_run_duration"][0]["seconds"].as_u64();
    let (zone, _) = id.split_once("/instances/").unwrap_or((id, ""));
    let machine_type = state["machine_type"].as_str().unwrap_or_default();
    let mut answer = json!({
        "kind": "compute#instance", "name": state["name"], "zone": format!("{SELF_LINK_PREFIX}{zone}"),
        "selfLink": format!("{SELF_LINK_PREFIX}{id}"), "status": state["current_status"],
        "machineType": format!("{SELF_LINK_PREFIX}{zone}/machineTypes/{machine_type}"),
        "labels": state["effective_labels"],
        "lastStartTimestamp": timestamp(resource.started_at),
        "networkInterfaces": [{
            "networkIP": interface["network_ip"],
            "accessConfigs": [{"natIP": interface["access_config"][0]["nat_ip"]}],
        }],
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

/// Every disk by zone.
async fn disks(State(api): State<Api>, Path(project): Path<String>) -> Response {
    let mut zones: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for (id, resource) in api.google.of_type("google_compute_disk") {
        let zone = resource.state["zone"].as_str().unwrap_or_default();
        zones.entry(format!("zones/{zone}")).or_default().push(json!({
            "kind": "compute#disk", "name": resource.state["name"], "labels": resource.state["effective_labels"],
            "zone": format!("{SELF_LINK_PREFIX}projects/{project}/zones/{zone}"),
            "selfLink": format!("{SELF_LINK_PREFIX}{id}"), "status": "READY", "sizeGb": "10",
        }));
    }
    let zones: serde_json::Map<String, Json> = zones
        .into_iter()
        .map(|(zone, disks)| (zone, json!({"disks": disks})))
        .collect();
    let answer = json!({"kind": "compute#diskAggregatedList", "id": project, "items": zones});
    reply(StatusCode::OK, &answer)
}

/// The APIs that are enabled: those that the module needs, but for those that a fault disables.
async fn services(State(api): State<Api>, Path(project): Path<String>) -> Response {
    let faults = match Faults::read(api.faults.as_deref()) {
        Ok(faults) => faults,
        Err(cause) => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "backendError", &cause);
        }
    };
    let enabled = ["compute.googleapis.com", "iap.googleapis.com"]
        .into_iter()
        .filter(|name| !faults.is_disabled(name));
    let service = |name: &str| {
        json!({
            "name": format!("projects/{project}/services/{name}"), "config": {"name": name},
            "state": "ENABLED", "parent": format!("projects/{project}"),
        })
    };
    let services: Vec<Json> = enabled.map(service).collect();
    reply(StatusCode::OK, &json!({"services": services}))
}

/// Quotas of a project that is new: enough for five small machines, and little more.
async fn project(Path(project): Path<String>) -> Response {
    let quotas = json!([{"metric": "CPUS_ALL_REGIONS", "limit": 12.0, "usage": 0.0}]);
    reply(
        StatusCode::OK,
        &json!({"kind": "compute#project", "name": project, "quotas": quotas}),
    )
}

async fn region(Path((_, region)): Path<(String, String)>) -> Response {
    let quotas = json!([
        {"metric": "CPUS", "limit": 8.0, "usage": 0.0},
        {"metric": "INSTANCES", "limit": 24.0, "usage": 0.0},
        {"metric": "IN_USE_ADDRESSES", "limit": 4.0, "usage": 0.0},
        {"metric": "SSD_TOTAL_GB", "limit": 500.0, "usage": 20.0},
    ]);
    reply(
        StatusCode::OK,
        &json!({"kind": "compute#region", "name": region, "quotas": quotas}),
    )
}

async fn stop(State(api): State<Api>, Path((project, zone, name)): At) -> Response {
    change_status(&api, &project, &zone, &name, "stop", "TERMINATED").await
}

async fn start(State(api): State<Api>, Path((project, zone, name)): At) -> Response {
    change_status(&api, &project, &zone, &name, "start", "RUNNING").await
}

async fn change_status(
    api: &Api,
    project: &str,
    zone: &str,
    name: &str,
    action: &str,
    status: &str,
) -> Response {
    let id = instance_id(project, zone, name);
    let Some(resource) = api.google.find(&id) else {
        return not_found(&id);
    };
    let host = machine(&Value::from_json(&resource.state));
    let external = match api.hook.run(action, &host).await {
        Ok(external) => external,
        Err(cause) => return failure(StatusCode::INTERNAL_SERVER_ERROR, "backendError", &cause),
    };
    let google = &api.google;
    let switched = google.switch(&id, status);
    match switched.and_then(|()| google.set_address(&id, external)) {
        Ok(()) => done(project, zone, &operation_name(action, name)),
        Err(cause) => failure(StatusCode::NOT_FOUND, "notFound", &cause),
    }
}

async fn remove(State(api): State<Api>, Path((project, zone, name)): At) -> Response {
    let id = instance_id(&project, &zone, &name);
    let Some(resource) = api.google.find(&id) else {
        return not_found(&id);
    };
    let host = machine(&Value::from_json(&resource.state));
    if let Err(cause) = api.hook.run("remove", &host).await {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "backendError", &cause);
    }
    match api.google.delete(&id) {
        Ok(()) => done(&project, &zone, &operation_name("delete", &name)),
        Err(cause) => failure(
            StatusCode::BAD_REQUEST,
            "resourceInUseByAnotherResource",
            &cause,
        ),
    }
}

/// The refusal, unless there is such a machine and it is stopped: Google changes `what` of no other.
fn refuse_unless_stopped(api: &Api, id: &str, what: &str) -> Option<Response> {
    let Some(resource) = api.google.find(id) else {
        return Some(not_found(id));
    };
    let cause = format!("{what} can only be changed while the instance is stopped");
    (resource.state["current_status"] != "TERMINATED")
        .then(|| failure(StatusCode::BAD_REQUEST, "resourceNotReady", &cause))
}

async fn set_machine_type(
    State(api): State<Api>,
    Path((project, zone, name)): At,
    body: Bytes,
) -> Response {
    let id = instance_id(&project, &zone, &name);
    if let Some(refusal) = refuse_unless_stopped(&api, &id, "Machine type") {
        return refusal;
    }
    let asked: Json = serde_json::from_slice(&body).unwrap_or_default();
    let link = asked["machineType"].as_str().unwrap_or_default();
    let Some((_, machine_type)) = link.rsplit_once("/machineTypes/") else {
        return failure(
            StatusCode::BAD_REQUEST,
            "invalid",
            "no machine type is named",
        );
    };
    match api
        .google
        .touch(&id, |state| state["machine_type"] = json!(machine_type))
    {
        Ok(()) => done(&project, &zone, &operation_name("setMachineType", &name)),
        Err(cause) => failure(StatusCode::NOT_FOUND, "notFound", &cause),
    }
}

async fn set_scheduling(
    State(api): State<Api>,
    Path((project, zone, name)): At,
    body: Bytes,
) -> Response {
    let id = instance_id(&project, &zone, &name);
    if let Some(refusal) = refuse_unless_stopped(&api, &id, "Instance scheduling") {
        return refusal;
    }
    let Ok(asked) = serde_json::from_slice::<Json>(&body) else {
        return failure(StatusCode::BAD_REQUEST, "invalid", "the body is no JSON");
    };
    // Google writes 64-bit numbers as text; gcloud sends either.
    let seconds = &asked["maxRunDuration"]["seconds"];
    let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok());
    let changed = api.google.touch(&id, |state| {
        let scheduling = &mut state["scheduling"][0];
        scheduling["max_run_duration"] = seconds.map_or(
            json!([]),
            |seconds| json!([{"seconds": seconds, "nanos": null}]),
        );
        if !asked["instanceTerminationAction"].is_null() {
            scheduling["instance_termination_action"] = asked["instanceTerminationAction"].clone();
        }
    });
    match changed {
        Ok(()) => done(&project, &zone, &operation_name("setScheduling", &name)),
        Err(cause) => failure(StatusCode::NOT_FOUND, "notFound", &cause),
    }
}

async fn operation(Path((project, zone, name)): At) -> Response {
    done(&project, &zone, &name)
}

/// An operation's name tells all that there is to know of it: `stop.raft-demo-n1`.
fn operation_name(action: &str, instance: &str) -> String {
    format!("{action}.{instance}")
}

fn done(project: &str, zone: &str, name: &str) -> Response {
    let (action, instance) = name.split_once('.').unwrap_or((name, ""));
    let zone = format!("{SELF_LINK_PREFIX}projects/{project}/zones/{zone}");
    let answer = json!({
        "kind": "compute#operation", "name": name, "operationType": action, "status": "DONE",
        "progress": 100, "zone": zone, "selfLink": format!("{zone}/operations/{name}"),
        "targetLink": format!("{zone}/instances/{instance}"),
    });
    reply(StatusCode::OK, &answer)
}

fn not_found(id: &str) -> Response {
    failure(
        StatusCode::NOT_FOUND,
        "notFound",
        &format!("The resource '{id}' was not found"),
    )
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Response {
    let answer = json!({"error": {
        "code": status.as_u16(), "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
    }});
    reply(status, &answer)
}

fn reply(status: StatusCode, answer: &Json) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        answer.to_string(),
    )
        .into_response()
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
