//! The REST calls that gcloud makes for raftctl. Of Compute Engine: all six kinds of resources listed,
//! read and deleted, instances stopped, started and given another type or scheduling, the operations
//! that stand for these changes, and what a project, zones, types and images are asked about. Of Service
//! Usage: the APIs that are enabled.
//!
//! ```text
//! mod      what is called: path -> resource, list or change
//! views    how each kind of resource looks from outside
//! changes  what changes something, each an operation
//! places   the project, regions, zones, machine types and images
//! os_login the keys of a user's profile
//! batch    several calls in one, as gcloud sends deletions
//! ```

mod batch;
mod changes;
mod os_login;
mod places;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use serde_json::{Map, Value as Json, json};

use crate::google::{Google, SELF_LINK_PREFIX};
use crate::hook::Hook;
use crate::operations::{Entry, Register};
use crate::orders::{Book, Http};

/// A call's body is small; more is no call of gcloud's.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    /// What exists.
    pub google: Arc<Google>,
    /// Stops and starts hosts.
    pub hook: Hook,
    /// What is ordered.
    pub book: Arc<Book>,
    /// The operations that were begun here.
    pub operations: Register,
}

/// An answer, or Google's refusal.
type Answer = Result<Json, Http>;

/// One call.
struct Call<'a> {
    method: Method,
    project: &'a str,
    /// What stands behind the project.
    parts: Vec<&'a str>,
    query: &'a str,
    body: Json,
}

/// The routes, below the prefixes that gcloud's endpoint overrides name.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/compute/v1/{*path}", any(single))
        .route("/v1/projects/{project}/services", any(single))
        .route("/batch/{*path}", post(batch::several))
        .with_state(api)
        .merge(os_login::routes())
}

async fn single(State(api): State<Api>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let query = head.uri.query().unwrap_or_default();
    let (status, answer) = answer(&api, head.method, head.uri.path(), query, &body).await;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, answer.to_string()).into_response()
}

/// The answer to one call.
async fn answer(
    api: &Api,
    method: Method,
    path: &str,
    query: &str,
    body: &Bytes,
) -> (StatusCode, Json) {
    let path = path
        .trim_start_matches("/compute/v1/")
        .trim_start_matches("/v1/");
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let found = match (parts.next(), parts.next()) {
        (Some("projects"), Some(project)) => {
            let call = Call {
                method,
                project,
                parts: parts.collect(),
                query,
                body: serde_json::from_slice(body).unwrap_or_default(),
            };
            dispatch(api, &call).await
        }
        _ => Err(refusal(404, "notFound", "Not Found")),
    };
    match found {
        Ok(answer) => (StatusCode::OK, answer),
        Err(refused) => {
            let Http {
                code,
                reason,
                message,
            } = refused;
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let answer = json!({"error": {
                "code": code, "message": message,
                "errors": [{"message": message, "domain": "global", "reason": reason}],
            }});
            (status, answer)
        }
    }
}

async fn dispatch(api: &Api, call: &Call<'_>) -> Answer {
    match &call.parts[..] {
        [] => {
            api.strike("projects.get", call.project)?;
            Ok(places::project(call.project))
        }
        ["services"] => {
            api.strike("services.list", "")?;
            places::services(api, call.project)
        }
        ["aggregated", collection] => {
            api.strike(&format!("{collection}.aggregatedList"), "")?;
            aggregated(api, call.project, collection)
        }
        [kind @ ("zones" | "regions")] => {
            api.strike(&format!("{kind}.list"), "")?;
            Ok(places::list(call.project, kind))
        }
        [kind @ ("zones" | "regions"), name] => {
            api.strike(&format!("{kind}.get"), name)?;
            places::place(call.project, kind, name)
        }
        ["global", collection, rest @ ..] => within(api, call, "global", collection, rest).await,
        [kind @ ("zones" | "regions"), name, collection, rest @ ..] => {
            within(api, call, &format!("{kind}/{name}"), collection, rest).await
        }
        _ => Err(refusal(404, "notFound", "Not Found")),
    }
}

/// A call about what lies in one place.
async fn within(
    api: &Api,
    call: &Call<'_>,
    place: &str,
    collection: &str,
    rest: &[&str],
) -> Answer {
    let name = rest.first().copied().unwrap_or_default();
    let folder = format!("projects/{}/{place}/{collection}", call.project);
    match collection {
        "operations" => {
            api.strike("operations.get", name)?;
            return operation(api, place, call.project, name, rest.get(1) == Some(&"wait")).await;
        }
        "images" | "imageFamilyViews" | "machineTypes" | "diskTypes" => {
            let name = rest.last().copied().unwrap_or_default();
            api.strike(&format!("{collection}.get"), name)?;
            return places::offer(call.project, place, collection, rest);
        }
        _ => {}
    }
    let verb = match (rest, call.method.as_str()) {
        ([], "GET") => "list",
        ([_], "GET") => "get",
        ([_], "DELETE") => "delete",
        ([_, verb], _) => verb,
        _ => return Err(refusal(404, "notFound", "Not Found")),
    };
    api.strike(&format!("{collection}.{verb}"), name)?;
    if verb == "list" {
        let items = views::all(&api.google, collection)
            .into_iter()
            .filter(|(id, _)| {
                id.rsplit_once('/')
                    .is_some_and(|(there, _)| there == folder)
            });
        let items: Vec<Json> = items.map(|(_, view)| view).collect();
        return Ok(json!({"kind": format!("compute#{collection}List"), "items": items}));
    }
    let id = format!("{folder}/{name}");
    let resource = api.google.find(&id).ok_or_else(|| not_found(&id))?;
    match verb {
        "get" => Ok(views::view(&api.google, &id, &resource)),
        "getGuestAttributes" => views::guest_attributes(&id, &resource, call.query),
        _ => {
            let resource_type = resource.resource_type.clone();
            let effect = changes::begin(api, &id, &resource, verb, &call.body)?;
            let orders = api.orders()?;
            let operation = api.book.begin(&orders, &resource_type, effect);
            if orders.operation(&resource_type).is_zero() && orders.hold.is_empty() {
                let _ = operation.end().await; // how it ended is told with the operation
            }
            let name = api.operations.add(Entry {
                operation,
                action: verb.into(),
                target: id,
            });
            self::operation(api, place, call.project, &name, false).await
        }
    }
}

/// Every resource of a kind, by place. gcloud filters itself, beside asking for it.
fn aggregated(api: &Api, project: &str, collection: &str) -> Answer {
    let mut items = Map::new();
    let prefix = format!("projects/{project}/");
    for (id, view) in views::all(&api.google, collection) {
        let place = id
            .strip_prefix(&prefix)
            .and_then(|rest| rest.split_once(&format!("/{collection}/")));
        let Some((place, _)) = place else { continue };
        let entry = items
            .entry(place)
            .or_insert_with(|| json!({collection: []}));
        if let Some(list) = entry[collection].as_array_mut() {
            list.push(view);
        }
    }
    for place in api.orders()?.unreachable {
        let warning = json!({
            "code": "UNREACHABLE", "message": format!("Some resources of {place} could not be reached."),
            "data": [{"key": "scope", "value": place}],
        });
        items.insert(place, json!({"warning": warning}));
    }
    let kind = format!("compute#{}AggregatedList", collection.trim_end_matches('s'));
    Ok(json!({"kind": kind, "id": format!("{prefix}aggregated/{collection}"), "items": items}))
}

/// How long one call waits for an operation, as Google does at most.
const WAIT_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(110);

async fn operation(api: &Api, place: &str, project: &str, name: &str, is_wait: bool) -> Answer {
    let id = format!("projects/{project}/{place}/operations/{name}");
    let entry = api.operations.find(name).ok_or_else(|| not_found(&id))?;
    if is_wait {
        let _ = tokio::time::timeout(WAIT_TIME_MAX, entry.operation.end()).await;
    }
    let outcome = entry.operation.outcome();
    let (status, progress) = outcome.as_ref().map_or(("RUNNING", 0), |_| ("DONE", 100));
    let mut answer = json!({
        "kind": "compute#operation", "id": "1", "name": name, "operationType": entry.action,
        "status": status, "progress": progress, "selfLink": format!("{SELF_LINK_PREFIX}{id}"),
        "targetLink": format!("{SELF_LINK_PREFIX}{}", entry.target),
    });
    if let Some((kind, _)) = place.split_once('/') {
        let link = format!("{SELF_LINK_PREFIX}projects/{project}/{place}");
        answer[kind.trim_end_matches('s')] = link.into();
    }
    if let Some(Err(cause)) = outcome {
        answer["error"] = json!({"errors": [{"code": "INTERNAL_ERROR", "message": cause}]});
        answer["httpErrorStatusCode"] = 400.into();
        answer["httpErrorMessage"] = "BAD REQUEST".into();
    }
    Ok(answer)
}

impl Api {
    fn orders(&self) -> Result<crate::orders::Orders, Http> {
        self.book.read().map_err(broken)
    }

    /// The failure that is ordered for a call, if any.
    fn strike(&self, call: &str, name: &str) -> Result<(), Http> {
        match self.book.strike_call(call, name).map_err(broken)? {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

/// The stand-in itself is at fault.
fn broken(cause: String) -> Http {
    refusal(500, "backendError", cause)
}

fn refusal(code: u16, reason: &str, message: impl Into<String>) -> Http {
    Http {
        code,
        reason: reason.into(),
        message: message.into(),
    }
}

fn not_found(id: &str) -> Http {
    refusal(
        404,
        "notFound",
        format!("The resource '{id}' was not found"),
    )
}
