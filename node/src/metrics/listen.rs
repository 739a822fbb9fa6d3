//! The port of the metrics: HTTP/1.1, one answer a connection, in a thread of its own.
//!
//! A scraper that says nothing, or does not read, is cut off after a few seconds. There are few places;
//! where all are taken, whoever has been there longest goes, so that nobody is kept out by the slow.

use super::page::{CONTENT_TYPE, Sources};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE as TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Scrapers at a time.
pub const SCRAPERS_MAX: usize = 8;
/// From the connection to the end of its answer.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request, which is a line and some headers.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Wait after a connection could not be taken: the machine is out of files, most likely.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// The port, before anybody is answered.
#[derive(Debug)]
pub struct Bound(StdListener);

/// Binds `host:port`.
pub fn bind(address: &str) -> io::Result<Bound> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(Bound(listener))
}

impl Bound {
    /// Starts the thread. It ends with the process.
    pub fn serve(self, sources: Sources) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("metrics".into());
        thread.spawn(move || runtime.block_on(accept_all(self.0, Arc::new(sources))))?;
        Ok(())
    }
}

async fn accept_all(listener: StdListener, sources: Arc<Sources>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the metrics can't be served: {error}"),
    };
    let mut scrapers: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                scrapers.retain(|scraper| !scraper.is_finished());
                if scrapers.len() >= SCRAPERS_MAX
                    && let Some(longest) = scrapers.pop_front()
                {
                    longest.abort();
                }
                let answered = answer(stream, Arc::clone(&sources));
                scrapers.push_back(tokio::spawn(answered).abort_handle());
            }
            Err(error) => {
                tracing::warn!("a connection for metrics could not be taken: {error}");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, sources: Arc<Sources>) {
    let service = service_fn(|request| {
        let reply = reply(&request, &sources);
        async { Ok::<_, Infallible>(reply) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SCRAPE_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(SCRAPE_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a scrape ended early: {error}"),
        Err(_) => tracing::debug!("a slow scrape was cut off"),
    }
}

fn reply(request: &Request<Incoming>, sources: &Sources) -> Response<String> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match sources.text() {
            Ok(text) => (StatusCode::OK, CONTENT_TYPE, text),
            Err(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("{error}\n"),
            ),
        },
        (&Method::GET | &Method::HEAD, _) => {
            let hint = "here are metrics for Prometheus: /metrics\n";
            (StatusCode::NOT_FOUND, "text/plain", hint.to_owned())
        }
        _ => {
            let hint = "only GET and HEAD\n";
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                hint.to_owned(),
            )
        }
    };
    let mut reply = Response::new(text);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = HeaderValue::from_static("GET, HEAD");
        reply.headers_mut().insert(ALLOW, methods);
    }
    reply
}
