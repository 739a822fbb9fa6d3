//! OS Login: the keys of a user's profile, and whom it logs in as.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Map, Value as Json, json};

/// The keys of all users, in the order in which they were added.
type Keys = Arc<Mutex<Vec<String>>>;

/// The routes; each server has keys of its own.
pub fn routes() -> Router {
    Router::new()
        .route("/v1/users/{*path}", any(call))
        .with_state(Keys::default())
}

async fn call(
    State(keys): State<Keys>,
    method: Method,
    Path(path): Path<String>,
    body: Bytes,
) -> Response {
    let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
    let (user, rest) = path.split_once(['/', ':']).unwrap_or((&path, ""));
    if method == Method::DELETE {
        // A fingerprint is the place in the list.
        let place = rest
            .rsplit('/')
            .next()
            .and_then(|place| place.parse::<usize>().ok());
        if let Some(key) = place.and_then(|place| keys.get_mut(place)) {
            key.clear();
        }
    } else if rest == "importSshPublicKey" {
        let asked: Json = serde_json::from_slice(&body).unwrap_or_default();
        keys.push(asked["key"].as_str().unwrap_or_default().trim().to_owned());
        let answer = json!({"loginProfile": profile(user, &keys)});
        return shown(&answer);
    }
    shown(&profile(user, &keys))
}

fn shown(answer: &Json) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, answer.to_string()).into_response()
}

fn profile(user: &str, keys: &[String]) -> Json {
    let name: String = user
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let keys = keys.iter().enumerate().filter(|(_, key)| !key.is_empty());
    let keys: Map<String, Json> = keys
        .map(|(place, key)| {
            (
                place.to_string(),
                json!({"key": key, "fingerprint": place.to_string()}),
            )
        })
        .collect();
    json!({
        "name": user, "sshPublicKeys": keys,
        "posixAccounts": [{"primary": true, "username": name, "uid": "1", "gid": "1"}],
    })
}
