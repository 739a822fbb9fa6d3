//! The file in which a test orders what Google does: failures, and how long things take.
//!
//! It is read anew at each step, so that a test orders and lifts failures while the provider runs:
//! ```json
//! {"faults": [{"kind": "quota_exceeded", "resource": "google_compute_instance", "name": "raft-demo-n3"},
//!             {"kind": "refused", "on": "poll", "resource": "google_compute_network", "times": 1}],
//!  "calls": [{"call": "instances.aggregatedList", "times": 1,
//!             "http": {"code": 403, "reason": "forbidden", "message": "Required ..."}}],
//!  "unreachable": ["zones/us-central1-a"], "policies": ["requireOsLogin"],
//!  "op_ms": {"google_compute_network": 3000}, "hold": ["google_compute_disk"], "poll_ms": {"*": 50},
//!  "time_scale": 0.01}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use crate::faults::{Fault, Kind, On, Target};
use crate::operations::{Operation, Outcome};
use crate::policies::Policy;

/// An operation's real times: how long one lasts at least, how often Google's provider asks, and how
/// long it waits before it asks whether a machine runs.
const REAL_OPERATION: Duration = Duration::from_millis(300);
const REAL_POLL: Duration = Duration::from_secs(10);
const REAL_STATUS: Duration = Duration::from_secs(5);

/// An operation that is held ends by itself after this long: the test has forgotten it.
const HELD_MAX: Duration = Duration::from_secs(600);
/// How often one that is held looks whether it still is.
const HELD_POLL: Duration = Duration::from_millis(10);

/// A failure of the REST API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallFault {
    /// The calls that fail: `instances.aggregatedList`, `networks.list`, `disks.get`, `addresses.delete`,
    /// `operations.get`, `projects.get`, `services.list`; with `*` for any text.
    pub call: String,
    /// The name that the call is about, with `*` likewise; any where it is absent.
    pub name: Option<String>,
    /// The answer.
    pub http: Http,
    /// How often it strikes; always where it is absent.
    pub times: Option<u64>,
    /// How many calls it lets pass before.
    #[serde(default)]
    pub skip: u64,
}

/// An answer of Google's that is an error.
#[derive(Debug, Clone, Deserialize)]
pub struct Http {
    /// The status.
    pub code: u16,
    /// Google's own word for it, as `rateLimitExceeded`.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// Everything that is ordered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Orders {
    /// Failures of Google's provider; the first that fits strikes.
    pub faults: Vec<Fault>,
    /// Failures of the REST API; the first that fits strikes.
    pub calls: Vec<CallFault>,
    /// Zones and regions of which lists know nothing just now, as `zones/us-central1-a`.
    pub unreachable: Vec<String>,
    /// Policies of the organization that are in force.
    pub policies: Vec<Policy>,
    /// How long an operation lasts, milliseconds, by resource type; `*` for all others.
    pub op_ms: BTreeMap<String, u64>,
    /// Resource types whose operations end only when this is no longer ordered. A test that is to meet
    /// one under way orders this, and no time that a busy machine may need for something else.
    pub hold: Vec<String>,
    /// How often Google's provider asks whether it is done, likewise; where it is 0, it hears of the end
    /// at once.
    pub poll_ms: BTreeMap<String, u64>,
    /// Real times, so many times as long: 0.01 makes 10 seconds 100 ms.
    pub time_scale: f64,
}

impl Orders {
    /// Whether credentials are missing.
    #[must_use]
    pub fn no_credentials(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.kind == Kind::NoCredentials)
    }

    /// Whether an API is disabled by its name, as `compute.googleapis.com`.
    #[must_use]
    pub fn is_disabled(&self, api: &str) -> bool {
        self.faults.iter().any(|fault| {
            fault.kind == Kind::ServiceDisabled && fault.resource.as_deref() == Some(api)
        })
    }

    /// How long an operation on a resource of this type lasts.
    #[must_use]
    pub fn operation(&self, resource_type: &str) -> Duration {
        of_type(&self.op_ms, resource_type).unwrap_or_else(|| self.scaled(REAL_OPERATION))
    }

    /// How often the provider asks whether it is done.
    #[must_use]
    pub fn poll(&self, resource_type: &str) -> Duration {
        of_type(&self.poll_ms, resource_type).unwrap_or_else(|| self.scaled(REAL_POLL))
    }

    /// How long the provider waits before it asks whether a machine is as it is to be.
    #[must_use]
    pub fn status(&self) -> Duration {
        self.scaled(REAL_STATUS)
    }

    fn scaled(&self, real: Duration) -> Duration {
        real.mul_f64(self.time_scale.clamp(0.0, 1.0))
    }
}

fn of_type(times: &BTreeMap<String, u64>, resource_type: &str) -> Option<Duration> {
    let time = times.get(resource_type).or_else(|| times.get("*"));
    time.copied().map(Duration::from_millis)
}

/// The file, and how often each failure in it has struck.
#[derive(Debug, Default)]
pub struct Book {
    file: Option<PathBuf>,
    struck: Mutex<Struck>,
}

/// Counted per text of the file: another text begins anew.
#[derive(Debug, Default)]
struct Struck {
    text: Vec<u8>,
    counts: HashMap<(&'static str, usize), u64>,
}

impl Book {
    /// The orders in `file`; no file orders nothing.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Book {
        Book {
            file,
            struck: Mutex::default(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When the file is there and can't be read or understood.
    pub fn read(&self) -> Result<Orders, String> {
        let Some(path) = &self.file else {
            return Ok(Orders::default());
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        if struck.text != bytes {
            *struck = Struck {
                text: bytes.clone(),
                counts: HashMap::new(),
            };
        }
        drop(struck);
        if bytes.is_empty() {
            return Ok(Orders::default());
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Begins an operation, which lasts as long as is ordered for its resource type.
    #[must_use]
    pub fn begin(
        &self,
        orders: &Orders,
        resource_type: &str,
        effect: impl Future<Output = Outcome> + Send + 'static,
    ) -> Operation {
        let held = Held {
            book: Book::new(self.file.clone()),
            resource_type: resource_type.to_owned(),
        };
        Operation::begin(orders.operation(resource_type), async move {
            held.released().await?;
            effect.await
        })
    }

    /// The failure that strikes a step of Google's provider, if any.
    ///
    /// # Errors
    /// Those of [`Book::read`].
    pub fn strike(&self, on: On, target: &Target) -> Result<Option<Fault>, String> {
        let orders = self.read()?;
        let mut fitting = orders
            .faults
            .iter()
            .enumerate()
            .filter(|(_, fault)| fault.fits(on, target));
        let struck = fitting
            .find(|(index, fault)| self.counts("fault", *index, fault.skip, fault.times))
            .map(|(_, fault)| fault.clone());
        Ok(struck)
    }

    /// The failure that strikes a call of the REST API, if any.
    ///
    /// # Errors
    /// Those of [`Book::read`].
    pub fn strike_call(&self, call: &str, name: &str) -> Result<Option<Http>, String> {
        let orders = self.read()?;
        let mut fitting = orders.calls.iter().enumerate().filter(|(_, fault)| {
            let is_named = fault.name.as_deref().is_none_or(|glob| matches(glob, name));
            matches(&fault.call, call) && is_named
        });
        let struck = fitting
            .find(|(index, fault)| self.counts("call", *index, fault.skip, fault.times))
            .map(|(_, fault)| fault.http.clone());
        Ok(struck)
    }

    /// Counts a step that a failure fits; whether it strikes.
    fn counts(&self, list: &'static str, index: usize, skip: u64, times: Option<u64>) -> bool {
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let count = struck.counts.entry((list, index)).or_default();
        *count += 1;
        *count > skip && times.is_none_or(|times| *count <= skip.saturating_add(times))
    }
}

/// What an operation waits for before it ends.
struct Held {
    book: Book,
    resource_type: String,
}

impl Held {
    /// Waits until nobody orders any more that operations on this type don't end.
    async fn released(&self) -> Outcome {
        let looks = HELD_MAX.as_millis() / HELD_POLL.as_millis();
        for _ in 0..looks {
            if !self.book.read()?.hold.contains(&self.resource_type) {
                return Ok(());
            }
            tokio::time::sleep(HELD_POLL).await;
        }
        Err(format!("held for {} s", HELD_MAX.as_secs()))
    }
}

/// Whether a text is what a pattern says, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A pattern stands for what it says.
    #[test]
    fn patterns_match() {
        assert!(matches("*.aggregatedList", "disks.aggregatedList"));
        assert!(matches("instances.*", "instances.get"));
        assert!(matches("*", ""));
        assert!(!matches("disks.*", "instances.get"));
        assert!(!matches("*.get", "instances.getX"));
    }

    // A failure that is ordered once strikes once, and again when it is ordered anew.
    #[test]
    fn a_failure_strikes_as_often_as_ordered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.json");
        let book = Book::new(Some(file.clone()));
        let strike = || book.strike_call("disks.get", "d").unwrap().is_some();
        let order = |message: &str| {
            let text = format!(
                r#"{{"calls": [{{"call": "disks.*", "skip": 1, "times": 1,
                    "http": {{"code": 503, "reason": "backendError", "message": "{message}"}}}}]}}"#
            );
            std::fs::write(&file, text).unwrap();
        };
        order("one");
        assert_eq!([strike(), strike(), strike()], [false, true, false]);
        order("two");
        assert_eq!([strike(), strike(), strike()], [false, true, false]);
    }

    // What is held lasts until that is lifted, and nothing else does.
    #[tokio::test]
    async fn what_is_held_ends_when_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.json");
        std::fs::write(&file, r#"{"hold": ["google_compute_disk"]}"#).unwrap();
        let book = Book::new(Some(file.clone()));
        let orders = book.read().unwrap();
        let disk = book.begin(&orders, "google_compute_disk", async { Ok(()) });
        let network = book.begin(&orders, "google_compute_network", async { Ok(()) });
        assert_eq!(network.end().await, Ok(()));
        assert_eq!(disk.outcome(), None);
        std::fs::remove_file(file).unwrap();
        assert_eq!(disk.end().await, Ok(()));
    }

    // Real times are scaled, and those that are named hold.
    #[test]
    fn times_are_as_ordered() {
        let orders: Orders =
            serde_json::from_str(r#"{"time_scale": 0.1, "op_ms": {"google_compute_disk": 7}}"#)
                .unwrap();
        assert_eq!(
            orders.operation("google_compute_disk"),
            Duration::from_millis(7)
        );
        assert_eq!(
            orders.operation("google_compute_network"),
            Duration::from_millis(30)
        );
        assert_eq!(
            orders.poll("google_compute_network"),
            Duration::from_secs(1)
        );
        assert_eq!(
            Orders::default().poll("google_compute_network"),
            Duration::ZERO
        );
    }
}
