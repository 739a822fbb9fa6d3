//! What changes something at Google. Each change is refused at once, or is what an operation does.

use std::pin::Pin;

use serde_json::{Value as Json, json};

use super::{Api, not_found, refusal};
use crate::apply::{begin_power, remove};
use crate::google::Resource;
use crate::operations::Outcome;
use crate::orders::Http;

/// What an operation is to do.
type Effect = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Begins a change; what is left to be done.
///
/// # Errors
/// Google's refusal.
pub fn begin(
    api: &Api,
    id: &str,
    resource: &Resource,
    verb: &str,
    body: &Json,
) -> Result<Effect, Http> {
    let is_instance = resource.resource_type == "google_compute_instance";
    match verb {
        "delete" => deletion(api, id),
        "start" | "stop" if is_instance => power(api, id, resource, verb == "start"),
        "setMachineType" if is_instance => machine_type(api, id, resource, body),
        "setScheduling" if is_instance => scheduling(api, id, resource, body),
        _ => Err(refusal(
            404,
            "notFound",
            format!("Not Found: {verb} of {id} is not in this stand-in"),
        )),
    }
}

fn deletion(api: &Api, id: &str) -> Result<Effect, Http> {
    let in_use = |cause| refusal(400, "resourceInUseByAnotherResource", cause);
    api.google.refuse_in_use(id).map_err(in_use)?;
    if api.google.begin_deletion(id).map_err(super::broken)? {
        return Err(refusal(
            400,
            "resourceNotReady",
            format!("The resource '{id}' is not ready"),
        ));
    }
    let removal = remove(api.google.clone(), api.hook.clone(), id.into());
    Ok(Box::pin(removal))
}

fn power(api: &Api, id: &str, resource: &Resource, is_on: bool) -> Result<Effect, Http> {
    let meanwhile = if is_on { "STOPPING" } else { "STAGING" };
    if resource.state["current_status"] == meanwhile {
        return Err(refusal(
            400,
            "resourceNotReady",
            format!("The resource '{id}' is not ready"),
        ));
    }
    let (google, hook) = (api.google.clone(), api.hook.clone());
    let power = begin_power(google, hook, id.into(), is_on).map_err(|_| not_found(id))?;
    Ok(Box::pin(power))
}

/// The refusal of a change to a machine that is not stopped: Google changes `what` of no other.
fn refuse_unless_stopped(resource: &Resource, what: &str) -> Result<(), Http> {
    if resource.state["current_status"] == "TERMINATED" {
        return Ok(());
    }
    let cause = format!("{what} can only be changed while the instance is stopped");
    Err(refusal(400, "resourceNotReady", cause))
}

fn machine_type(api: &Api, id: &str, resource: &Resource, body: &Json) -> Result<Effect, Http> {
    refuse_unless_stopped(resource, "Machine type")?;
    let link = body["machineType"].as_str().unwrap_or_default();
    let Some((_, machine_type)) = link.rsplit_once("/machineTypes/") else {
        return Err(refusal(400, "invalid", "no machine type is named"));
    };
    let machine_type = machine_type.to_owned();
    Ok(touch(api, id, move |state| {
        state["machine_type"] = machine_type.into();
    }))
}

fn scheduling(api: &Api, id: &str, resource: &Resource, body: &Json) -> Result<Effect, Http> {
    refuse_unless_stopped(resource, "Instance scheduling")?;
    if body.is_null() {
        return Err(refusal(400, "invalid", "the body is no JSON"));
    }
    // Google writes 64-bit numbers as text; gcloud sends either.
    let seconds = &body["maxRunDuration"]["seconds"];
    let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok());
    let action = body["instanceTerminationAction"].clone();
    Ok(touch(api, id, move |state| {
        let scheduling = &mut state["scheduling"][0];
        scheduling["max_run_duration"] = seconds.map_or(
            json!([]),
            |seconds| json!([{"seconds": seconds, "nanos": null}]),
        );
        if !action.is_null() {
            scheduling["instance_termination_action"] = action;
        }
    }))
}

fn touch(api: &Api, id: &str, change: impl FnOnce(&mut Json) + Send + 'static) -> Effect {
    let (google, id) = (api.google.clone(), id.to_owned());
    Box::pin(async move { google.touch(&id, change) })
}
