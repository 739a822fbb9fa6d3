//! Several calls in one, as gcloud sends them for several resources: MIME parts, each with a call of
//! HTTP in it, answered by as many parts with answers.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Api, answer};

/// Stands between the parts of an answer.
const BOUNDARY: &str = "batch_of_answers";

/// Answers several calls.
pub async fn several(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Some((_, boundary)) = kind.split_once("boundary=") else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let boundary = format!("--{}", boundary.trim_matches('"'));
    let text = String::from_utf8_lossy(&body).replace("\r\n", "\n");
    let mut answers = String::new();
    for part in text.split(&boundary).skip(1) {
        let Some(part) = Part::read(part) else {
            continue; // what stands behind the last one
        };
        let body = Bytes::from(part.body.to_owned());
        let (status, answer) = answer(&api, part.method, part.path, part.query, &body).await;
        answers.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: <response-{}>\r\n\r\n\
             HTTP/1.1 {status}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{answer}\r\n",
            part.id
        ));
    }
    answers.push_str(&format!("--{BOUNDARY}--\r\n"));
    let kind = format!("multipart/mixed; boundary={BOUNDARY}");
    ([(header::CONTENT_TYPE, kind)], answers).into_response()
}

/// One call of several.
struct Part<'a> {
    id: &'a str,
    method: Method,
    path: &'a str,
    query: &'a str,
    body: &'a str,
}

impl Part<'_> {
    fn read(text: &str) -> Option<Part<'_>> {
        let (outer, call) = text.trim_start().split_once("\n\n")?;
        let id = outer
            .lines()
            .find_map(|line| line.strip_prefix("Content-ID: "))?;
        let (head, body) = call.split_once("\n\n").unwrap_or((call, ""));
        let mut words = head.lines().next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // A link may be whole, with a host before it.
        let path = path.find("/compute/").map_or(path, |at| &path[at..]);
        Some(Part {
            id: id.trim_matches(['<', '>']),
            method: method.parse().ok()?,
            path,
            query,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A part as gcloud writes it.
    #[test]
    fn a_part_is_read() {
        let text = "\nContent-Type: application/http\nMIME-Version: 1.0\nContent-ID: <a+0>\n\n\
                    DELETE /compute/v1/projects/p/zones/z/disks/d?alt=json HTTP/1.1\nAccept: json\n\n\n";
        let part = Part::read(text).unwrap();
        assert_eq!((part.id, part.method), ("a+0", Method::DELETE));
        assert_eq!(part.path, "/compute/v1/projects/p/zones/z/disks/d");
        assert!(Part::read("--\n").is_none());
    }
}
