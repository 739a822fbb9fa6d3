//! What Google's provider does for Terraform when a plan is carried out: it asks Google for a change,
//! and then again and again whether that is done.
//!
//! It is as careless as the real one. Whoever is interrupted, or gets no answer to one question, goes
//! away with an error; what was asked for goes on at Google. A resource in the making is in no state
//! then, and one that is being changed or deleted is in the state as it was before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::faults::{On, Target};
use crate::google::Google;
use crate::hook::{Hook, Machine};
use crate::operations::{Operation, Outcome};
use crate::orders::{Book, Orders};
use crate::schema::Block;
use crate::value::Value;

/// What became of a resource: its state, and what went wrong.
pub struct Applied {
    /// Null where Terraform is to know nothing of it.
    pub state: Value,
    /// What the provider says.
    pub problem: Option<String>,
}

/// The end of a wait of which nobody will hear how it ended.
const CANCELLED: &str =
    "error while retrieving operation: unable to finish polling, context has been cancelled";

const NEEDS_STOPPING: &str = "Changing the machine_type, min_cpu_platform, service_account, enable_display, \
shielded_instance_config, scheduling.node_affinities or network_interface.[#d].(network/\
subnetwork/subnetwork_project) or advanced_machine_features on a started instance requires \
stopping it. To acknowledge this, please set allow_stopping_for_update = true in your config.";

/// One resource of one plan.
pub struct Apply<'a> {
    /// What exists.
    pub google: &'a Arc<Google>,
    /// Makes hosts of instances.
    pub hook: &'a Hook,
    /// What is ordered.
    pub book: &'a Book,
    /// What it is about.
    pub target: Target<'a>,
    /// Whether Terraform has asked for an end.
    pub stop: watch::Receiver<bool>,
}

/// A step of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The power goes off.
    Off,
    /// What is to be changed is.
    Set,
    /// The power comes on.
    On,
}

impl Apply<'_> {
    /// Makes a resource.
    pub async fn create(&self, schema: &Block, planned: &Value) -> Applied {
        match self.made(schema, planned).await {
            Ok(applied) => applied,
            // What Google makes all the same is in no state.
            Err(problem) => Applied {
                state: Value::Null,
                problem: Some(problem),
            },
        }
    }

    async fn made(&self, schema: &Block, planned: &Value) -> Result<Applied, String> {
        self.fail(On::Create).await?;
        let policies = self.book.read()?.policies.into_iter();
        let mut refusals = policies.filter_map(|policy| policy.refusal(&self.target, planned));
        if let Some(refusal) = refusals.next() {
            return Err(refusal);
        }
        let resource_type = self.target.resource_type;
        let state = self
            .google
            .create(resource_type, schema, self.target.project, planned)?;
        let id = state.get("id").text().unwrap_or_default().to_owned();
        let orders = self.book.read()?;
        let is_instance = resource_type == "google_compute_instance";
        let operation = if is_instance {
            self.google
                .touch(&id, |state| state["current_status"] = "STAGING".into())?;
            let boot = boot(self.google.clone(), self.hook.clone(), id.clone());
            self.begin(&orders, boot)
        } else {
            self.begin(&orders, async { Ok(()) })
        };
        self.wait(&operation, &self.target.creating()).await?;
        let mut problem = None;
        if resource_type == "google_compute_address" && has_labels(planned) {
            // Google takes no labels with the creation of an address: the provider sets them afterwards.
            let labelling = self.begin(&orders, async { Ok(()) });
            let doing = "Error waiting for Updating ComputeAddress Labels";
            problem = self.wait(&labelling, doing).await.err();
        }
        if is_instance && !planned.get("desired_status").is_null() {
            tokio::time::sleep(orders.status()).await;
        }
        let state = self.found(&id)?;
        Ok(Applied { state, problem })
    }

    /// Changes a resource in place.
    pub async fn update(&self, schema: &Block, prior: &Value, planned: &Value) -> Applied {
        match self.changed(schema, prior, planned).await {
            Ok(state) => Applied {
                state,
                problem: None,
            },
            Err(problem) => Applied {
                state: prior.clone(),
                problem: Some(problem),
            },
        }
    }

    async fn changed(
        &self,
        schema: &Block,
        prior: &Value,
        planned: &Value,
    ) -> Result<Value, String> {
        self.fail(On::Update).await?;
        let id = prior.get("id").text().unwrap_or_default().to_owned();
        if self.google.find(&id).is_none() {
            return Err(format!(
                "googleapi: Error 404: The resource '{id}' was not found, notFound"
            ));
        }
        for turn in turns(prior, planned)? {
            let orders = self.book.read()?;
            let (operation, doing) = match turn {
                Turn::Set => {
                    let google = self.google.clone();
                    let (schema, prior, planned) = (schema.clone(), prior.clone(), planned.clone());
                    let set = async move { google.update(&schema, &prior, &planned) };
                    let doing = format!("Error waiting for Updating {}", self.target.title());
                    (self.begin(&orders, set), doing)
                }
                Turn::On | Turn::Off => {
                    let is_on = turn == Turn::On;
                    let (google, hook) = (self.google.clone(), self.hook.clone());
                    let power = begin_power(google, hook, id.clone(), is_on)?;
                    let verb = if is_on { "starting" } else { "stopping" };
                    (
                        self.begin(&orders, power),
                        format!("Error waiting for {verb} instance"),
                    )
                }
            };
            self.wait(&operation, &doing).await?;
            if turn == Turn::On {
                tokio::time::sleep(orders.status()).await;
            }
        }
        self.found(&id)
    }

    /// Deletes a resource.
    pub async fn delete(&self, prior: &Value) -> Applied {
        match self.deleted(prior).await {
            Ok(()) => Applied {
                state: Value::Null,
                problem: None,
            },
            Err(problem) => Applied {
                state: prior.clone(),
                problem: Some(problem),
            },
        }
    }

    async fn deleted(&self, prior: &Value) -> Result<(), String> {
        self.fail(On::Delete).await?;
        let id = prior.get("id").text().unwrap_or_default().to_owned();
        if self.google.find(&id).is_none() {
            return Ok(()); // what is gone already is as it is to be
        }
        if self.target.resource_type == "google_compute_disk" {
            self.google.detach(&id)?;
        }
        let title = self.target.title();
        self.google.refuse_in_use(&id).map_err(|cause| {
            format!(
                "Error when reading or editing {title}: googleapi: Error 400: {cause}, \
                 resourceInUseByAnotherResource"
            )
        })?;
        let orders = self.book.read()?;
        let operation = if self.google.begin_deletion(&id)? {
            // Whoever comes second finds nothing any more.
            let cause = format!("The resource '{id}' was not found");
            self.begin(&orders, async { Err(cause) })
        } else {
            let removal = remove(self.google.clone(), self.hook.clone(), id);
            self.begin(&orders, removal)
        };
        self.wait(&operation, &self.target.deleting()).await
    }

    fn begin(
        &self,
        orders: &Orders,
        effect: impl Future<Output = Outcome> + Send + 'static,
    ) -> Operation {
        self.book.begin(orders, self.target.resource_type, effect)
    }

    fn found(&self, id: &str) -> Result<Value, String> {
        let resource = self.google.find(id);
        let resource = resource.ok_or_else(|| format!("The resource '{id}' was not found"))?;
        Ok(Value::from_json(&resource.state))
    }

    /// The failure that is ordered for a step, if any.
    ///
    /// # Errors
    /// The failure.
    pub async fn fail(&self, on: On) -> Result<(), String> {
        let Some(fault) = self.book.strike(on, &self.target)? else {
            return Ok(());
        };
        let mut stop = self.stop.clone();
        let again = Duration::from_millis(fault.after_ms);
        let _ = tokio::time::timeout(again, stop.wait_for(|stopped| *stopped)).await;
        Err(fault.kind.message(on, &self.target))
    }

    /// Asks again and again whether an operation is done. Where nothing is ordered about the time between
    /// two questions, its end and Terraform's wish for an end are heard at once.
    async fn wait(&self, operation: &Operation, doing: &str) -> Result<(), String> {
        let mut stop = self.stop.clone();
        loop {
            let told = |cause: String| format!("{doing}: {cause}");
            let poll = self.book.read()?.poll(self.target.resource_type);
            self.fail(On::Poll).await.map_err(told)?;
            let is_stopped = *stop.borrow();
            let outcome = operation.outcome();
            if is_stopped && (outcome.is_none() || !poll.is_zero()) {
                return Err(told(CANCELLED.into()));
            }
            if let Some(outcome) = outcome {
                return outcome.map_err(told);
            }
            if poll.is_zero() {
                tokio::select! {
                    _ = operation.end() => {}
                    _ = stop.wait_for(|stopped| *stopped) => {}
                }
            } else {
                tokio::time::sleep(poll).await;
            }
        }
    }
}

/// The steps of a change. Another machine type takes a machine that is off.
fn turns(prior: &Value, planned: &Value) -> Result<Vec<Turn>, String> {
    let (status, wanted) = (
        prior.get("current_status").text(),
        planned.get("desired_status").text(),
    );
    let is_running = status == Some("RUNNING");
    if prior.get("machine_type") != planned.get("machine_type") && is_running {
        if planned.get("allow_stopping_for_update") != &Value::Bool(true) {
            return Err(NEEDS_STOPPING.into());
        }
        let mut turns = vec![Turn::Off, Turn::Set, Turn::On];
        turns.truncate(if wanted == Some("TERMINATED") { 2 } else { 3 });
        return Ok(turns);
    }
    Ok(match wanted {
        Some("RUNNING") if !is_running => vec![Turn::Set, Turn::On],
        Some("TERMINATED") if is_running => vec![Turn::Set, Turn::Off],
        _ => vec![Turn::Set],
    })
}

fn has_labels(planned: &Value) -> bool {
    matches!(planned.get("effective_labels"), Value::Object(labels) if !labels.is_empty())
}

/// Makes a host of an instance; takes the instance back when that fails.
async fn boot(google: Arc<Google>, hook: Hook, id: String) -> Outcome {
    let Some(resource) = google.find(&id) else {
        return Ok(()); // deleted meanwhile
    };
    match hook
        .run("create", &machine(&Value::from_json(&resource.state)))
        .await
    {
        Ok(external) => {
            google.touch(&id, |state| state["current_status"] = "RUNNING".into())?;
            google.set_address(&id, external)
        }
        Err(cause) => {
            google.delete(&id)?;
            Err(cause)
        }
    }
}

/// Begins to switch an instance on or off; what is left to be done.
///
/// # Errors
/// When there is no such instance.
pub fn begin_power(
    google: Arc<Google>,
    hook: Hook,
    id: String,
    is_on: bool,
) -> Result<impl Future<Output = Outcome> + Send + 'static, String> {
    let (action, meanwhile, status) = if is_on {
        ("start", "STAGING", "RUNNING")
    } else {
        ("stop", "STOPPING", "TERMINATED")
    };
    let mut host = Machine::default();
    google.touch(&id, |state| {
        host = machine(&Value::from_json(state));
        if state["current_status"] != status {
            state["current_status"] = meanwhile.into();
        }
    })?;
    Ok(async move {
        let external = hook.run(action, &host).await?;
        google.switch(&id, status)?;
        google.set_address(&id, external)
    })
}

/// Removes what is being deleted, and its host.
pub async fn remove(google: Arc<Google>, hook: Hook, id: String) -> Outcome {
    let Some(resource) = google.find(&id) else {
        return Ok(());
    };
    if resource.resource_type == "google_compute_instance" {
        hook.run("remove", &machine(&Value::from_json(&resource.state)))
            .await?;
    }
    google.delete(&id)
}

/// What the hook is told of an instance.
#[must_use]
pub fn machine(state: &Value) -> Machine {
    let text = |value: &Value| value.text().unwrap_or_default().to_owned();
    let interface = state.get("network_interface").at(0);
    Machine {
        name: text(state.get("name")),
        zone: text(state.get("zone")),
        internal_ip: text(interface.get("network_ip")),
        external_ip: text(interface.get("access_config").at(0).get("nat_ip")),
        ssh_keys: text(state.get("metadata").get("ssh-keys")),
    }
}
