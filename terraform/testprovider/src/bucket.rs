//! The few calls of Cloud Storage that Terraform's backend `gcs` makes: objects listed, read, written
//! and deleted, on condition of a generation where one is given, which is how the backend locks.
//! Objects live in memory.
//!
//! `GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT`, the backend's own variable, leads there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value as Json, json};

/// The buckets and what they hold. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Storage(Arc<Mutex<Buckets>>);

#[derive(Debug, Default)]
struct Buckets {
    names: BTreeSet<String>,
    /// By bucket and name.
    objects: BTreeMap<(String, String), Object>,
    /// That of the object that was written last.
    generation: u64,
}

#[derive(Debug, Clone)]
struct Object {
    generation: u64,
    bytes: Bytes,
}

impl Storage {
    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        self.buckets().names.insert(name.into());
    }

    /// An object's text; `None` where there is none.
    #[must_use]
    pub fn read(&self, bucket: &str, name: &str) -> Option<String> {
        let key = (bucket.to_owned(), name.to_owned());
        let object = self.buckets().objects.get(&key)?.clone();
        Some(String::from_utf8_lossy(&object.bytes).into_owned())
    }

    /// Writes an object from outside Terraform.
    pub fn write(&self, bucket: &str, name: &str, text: &str) {
        let key = (bucket.to_owned(), name.to_owned());
        self.buckets().put(key, Bytes::from(text.to_owned()));
    }

    /// Deletes an object from outside Terraform.
    pub fn delete(&self, bucket: &str, name: &str) {
        let key = (bucket.to_owned(), name.to_owned());
        self.buckets().objects.remove(&key);
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        // Each change is a single step, so that whoever panicked left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn put(&mut self, key: (String, String), bytes: Bytes) -> u64 {
        self.generation += 1;
        let generation = self.generation;
        self.objects.insert(key, Object { generation, bytes });
        generation
    }

    /// Whether an object has the generation that a request asks for; 0 stands for no object.
    fn fits(&self, key: &(String, String), asked: &Asked) -> bool {
        let found = self.objects.get(key).map_or(0, |object| object.generation);
        asked.if_generation_match.is_none_or(|asked| asked == found)
    }
}

/// What a request asks for beside its path.
#[derive(Debug, Default)]
struct Asked {
    name: String,
    prefix: String,
    if_generation_match: Option<u64>,
}

impl Asked {
    fn parse(query: Option<&str>) -> Asked {
        let mut asked = Asked::default();
        for (key, value) in query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
        {
            match key {
                "name" => asked.name = decoded(value),
                "prefix" => asked.prefix = decoded(value),
                "ifGenerationMatch" => asked.if_generation_match = value.parse().ok(),
                _ => {}
            }
        }
        asked
    }
}

/// Text without its percent signs.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The routes, on a host of their own or beside others.
pub fn routes(storage: Storage) -> Router {
    let objects = "/storage/v1/b/{bucket}/o";
    Router::new()
        .route(objects, get(list))
        .route(&format!("/upload{objects}"), post(write))
        .route(&format!("{objects}/{{name}}"), get(describe).delete(remove))
        .route("/{bucket}/{*name}", get(read))
        .with_state(storage)
}

async fn list(
    State(storage): State<Storage>,
    Path(bucket): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = Asked::parse(query.as_deref());
    let buckets = storage.buckets();
    if !buckets.names.contains(&bucket) {
        return no_bucket();
    }
    let objects = buckets.objects.iter();
    let items: Vec<Json> = objects
        .filter(|((at, name), _)| *at == bucket && name.starts_with(&asked.prefix))
        .map(|((_, name), object)| description(&bucket, name, object.generation))
        .collect();
    let answer = json!({"kind": "storage#objects", "items": items});
    (StatusCode::OK, answer.to_string()).into_response()
}

async fn describe(State(storage): State<Storage>, Path(key): Path<(String, String)>) -> Response {
    match storage.buckets().objects.get(&key) {
        Some(object) => {
            let answer = description(&key.0, &key.1, object.generation);
            (StatusCode::OK, answer.to_string()).into_response()
        }
        None => failure(StatusCode::NOT_FOUND, "notFound", "No such object"),
    }
}

async fn read(
    State(storage): State<Storage>,
    Path((bucket, name)): Path<(String, String)>,
) -> Response {
    match storage.buckets().objects.get(&(bucket, name)) {
        Some(object) => (
            [("x-goog-generation", object.generation.to_string())],
            object.bytes.clone(),
        )
            .into_response(),
        None => (StatusCode::NOT_FOUND, "NoSuchKey").into_response(),
    }
}

async fn write(
    State(storage): State<Storage>,
    Path(bucket): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::parse(query.as_deref());
    let Some(bytes) = second_part(&headers, &body) else {
        return failure(
            StatusCode::BAD_REQUEST,
            "invalid",
            "no such upload is known",
        );
    };
    let mut buckets = storage.buckets();
    if !buckets.names.contains(&bucket) {
        return no_bucket();
    }
    let key = (bucket.clone(), asked.name.clone());
    if !buckets.fits(&key, &asked) {
        return not_that();
    }
    let generation = buckets.put(key, bytes);
    let answer = description(&bucket, &asked.name, generation);
    (StatusCode::OK, answer.to_string()).into_response()
}

async fn remove(
    State(storage): State<Storage>,
    Path(key): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = Asked::parse(query.as_deref());
    let mut buckets = storage.buckets();
    if !buckets.objects.contains_key(&key) {
        return failure(StatusCode::NOT_FOUND, "notFound", "No such object");
    }
    if !buckets.fits(&key, &asked) {
        return not_that();
    }
    buckets.objects.remove(&key);
    StatusCode::NO_CONTENT.into_response()
}

/// The object in a body of two parts, of which the first describes it.
fn second_part(headers: &HeaderMap, body: &Bytes) -> Option<Bytes> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let boundary = kind.strip_prefix("multipart/related; boundary=")?;
    let boundary = format!("\r\n--{boundary}");
    let find = |text: &[u8], from: usize| {
        let windows = body.get(from..)?.windows(text.len());
        Some(from + windows.into_iter().position(|window| window == text)?)
    };
    let head = find(boundary.as_bytes(), 0)? + boundary.len();
    let start = find(b"\r\n\r\n", head)? + 4;
    let end = find(boundary.as_bytes(), start)?;
    Some(body.slice(start..end))
}

fn description(bucket: &str, name: &str, generation: u64) -> Json {
    json!({
        "kind": "storage#object", "bucket": bucket, "name": name,
        // Google writes 64-bit numbers as text.
        "generation": generation.to_string(), "metageneration": "1",
    })
}

fn no_bucket() -> Response {
    let cause = "The specified bucket does not exist.";
    failure(StatusCode::NOT_FOUND, "notFound", cause)
}

fn not_that() -> Response {
    let cause = "At least one of the pre-conditions you specified did not hold.";
    failure(StatusCode::PRECONDITION_FAILED, "conditionNotMet", cause)
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Response {
    let answer = json!({"error": {
        "code": status.as_u16(), "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
    }});
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, answer.to_string()).into_response()
}
