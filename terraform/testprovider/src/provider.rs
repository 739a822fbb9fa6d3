//! The protocol, joined to planning and to what Google holds.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::faults::{self, Faults};
use crate::google::{self, Google};
use crate::hook::{Hook, Machine};
use crate::plan::{self, Step};
use crate::resources;
use crate::schema::Block;
use crate::value::Value;
use crate::wire::{self, provider_server::Provider};

/// The provider: one for every Terraform that attaches.
pub struct TestProvider {
    google: Arc<Google>,
    hook: Hook,
    faults: Option<PathBuf>,
    project: OnceLock<String>,
    stop: Notify,
}

impl TestProvider {
    /// A provider that keeps its resources in `google`, reads the failures that are ordered from
    /// `faults`, and makes hosts by `hook`.
    #[must_use]
    pub fn new(google: Arc<Google>, hook: Hook, faults: Option<PathBuf>) -> TestProvider {
        TestProvider {
            google,
            hook,
            faults,
            project: OnceLock::new(),
            stop: Notify::new(),
        }
    }

    fn project(&self) -> &str {
        self.project.get().map_or("unset", String::as_str)
    }

    async fn create(
        &self,
        resource_type: &str,
        schema: &Block,
        planned: &Value,
    ) -> Result<Value, String> {
        let faults = Faults::read(self.faults.as_deref())?;
        self.linger(&faults, resource_type).await;
        let text = |name: &str| planned.get(name).text().unwrap_or("global");
        if let Some(fault) = faults.on_creation(resource_type, text("name")) {
            return Err(fault.message(self.project(), resource_type, text("zone"), text("name")));
        }
        let state = self
            .google
            .create(resource_type, schema, self.project(), planned)?;
        if let Some(time) = faults.stubborn_ms.get(resource_type) {
            tokio::time::sleep(Duration::from_millis(*time)).await;
        }
        if resource_type != "google_compute_instance" {
            return Ok(state);
        }
        self.boot(state).await
    }

    /// Makes a host of an instance; takes the instance back when that fails.
    async fn boot(&self, mut state: Value) -> Result<Value, String> {
        let id = state.get("id").text().unwrap_or_default().to_owned();
        let external = match self.hook.run("create", &machine(&state)).await {
            Ok(external) => external,
            Err(cause) => {
                self.google.delete(&id)?;
                return Err(cause);
            }
        };
        if let (Some(external), Value::List(interfaces)) =
            (external, state.get("network_interface"))
        {
            let mut interface = interfaces[0].clone();
            if let [access] = interface.get("access_config").items() {
                let mut access = access.clone();
                access.set("nat_ip", external.into());
                interface.set("access_config", Value::List(vec![access]));
                state.set("network_interface", Value::List(vec![interface]));
                let saved = state.to_json();
                self.google.touch(&id, |resource| *resource = saved)?;
            }
        }
        Ok(state)
    }

    async fn update(
        &self,
        schema: &Block,
        prior: &Value,
        planned: &Value,
    ) -> Result<Value, String> {
        let state = self.google.update(schema, prior, planned)?;
        let (before, after) = (prior.get("current_status"), state.get("current_status"));
        if before != after {
            let action = if after.text() == Some("RUNNING") {
                "start"
            } else {
                "stop"
            };
            let external = self.hook.run(action, &machine(&state)).await?;
            let id = state.get("id").text().unwrap_or_default();
            self.google.set_address(id, external)?;
        }
        Ok(state)
    }

    async fn delete(&self, resource_type: &str, prior: &Value) -> Result<(), String> {
        let faults = Faults::read(self.faults.as_deref())?;
        self.linger(&faults, resource_type).await;
        if resource_type == "google_compute_instance" {
            self.hook.run("remove", &machine(prior)).await?;
        }
        let id = prior.get("id").text().unwrap_or_default();
        if resource_type == "google_compute_disk" {
            self.google.detach(id)?;
        }
        self.google.delete(id)
    }

    /// Waits as long as was ordered, or until Terraform asks for an end.
    async fn linger(&self, faults: &Faults, resource_type: &str) {
        if let Some(time) = faults.slow_ms.get(resource_type) {
            let _ = tokio::time::timeout(Duration::from_millis(*time), self.stop.notified()).await;
        }
    }
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

#[tonic::async_trait]
impl Provider for TestProvider {
    async fn get_provider_schema(
        &self,
        _: Request<wire::get_provider_schema::Request>,
    ) -> Result<Response<wire::get_provider_schema::Response>, Status> {
        let resource_schemas = resources::TYPES
            .iter()
            .filter_map(|name| Some(((*name).into(), resources::schema(name)?.to_wire())))
            .collect();
        Ok(Response::new(wire::get_provider_schema::Response {
            provider: Some(resources::provider().to_wire()),
            resource_schemas,
            diagnostics: Vec::new(),
        }))
    }

    async fn validate_provider_config(
        &self,
        _: Request<wire::validate_provider_config::Request>,
    ) -> Result<Response<wire::validate_provider_config::Response>, Status> {
        Ok(Response::new(
            wire::validate_provider_config::Response::default(),
        ))
    }

    async fn validate_resource_config(
        &self,
        request: Request<wire::validate_resource_config::Request>,
    ) -> Result<Response<wire::validate_resource_config::Response>, Status> {
        let request = request.into_inner();
        let schema = schema_of(&request.type_name)?;
        let wrong = schema.check(&read(request.config.as_ref())?, "");
        Ok(Response::new(wire::validate_resource_config::Response {
            diagnostics: wrong.into_iter().map(error).collect(),
        }))
    }

    async fn configure_provider(
        &self,
        request: Request<wire::configure_provider::Request>,
    ) -> Result<Response<wire::configure_provider::Response>, Status> {
        let config = read(request.into_inner().config.as_ref())?;
        if let Some(project) = config.get("project").text() {
            // Whoever attaches later works on the same project: a test has one.
            let _ = self.project.set(project.into());
        }
        let faults = Faults::read(self.faults.as_deref()).map_err(Status::internal)?;
        let missing = faults
            .no_credentials()
            .then(|| error(faults::NO_CREDENTIALS.into()));
        Ok(Response::new(wire::configure_provider::Response {
            diagnostics: missing.into_iter().collect(),
        }))
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<wire::upgrade_resource_state::Request>,
    ) -> Result<Response<wire::upgrade_resource_state::Response>, Status> {
        let raw = request.into_inner().raw_state.unwrap_or_default();
        let json = serde_json::from_slice(&raw.json)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(wire::upgrade_resource_state::Response {
            upgraded_state: Some(write(&Value::from_json(&json))?),
            diagnostics: Vec::new(),
        }))
    }

    async fn read_resource(
        &self,
        request: Request<wire::read_resource::Request>,
    ) -> Result<Response<wire::read_resource::Response>, Status> {
        let request = request.into_inner();
        let current = read(request.current_state.as_ref())?;
        let found = self
            .google
            .find(current.get("id").text().unwrap_or_default());
        let mut state = found.map_or(Value::Null, |resource| Value::from_json(&resource.state));
        // A machine that was stopped behind Terraform's back shows in the attribute that asks for it.
        if !state.get("desired_status").is_null() {
            state.set("desired_status", state.get("current_status").clone());
        }
        Ok(Response::new(wire::read_resource::Response {
            new_state: Some(write(&state)?),
            diagnostics: Vec::new(),
            private: request.private,
        }))
    }

    async fn plan_resource_change(
        &self,
        request: Request<wire::plan_resource_change::Request>,
    ) -> Result<Response<wire::plan_resource_change::Response>, Status> {
        let request = request.into_inner();
        let schema = schema_of(&request.type_name)?;
        let (prior, proposed) = (
            read(request.prior_state.as_ref())?,
            read(request.proposed_new_state.as_ref())?,
        );
        let planned = if proposed.is_null() {
            plan::Planned {
                state: Value::Null,
                replace: Vec::new(),
            }
        } else {
            let config = read(request.config.as_ref())?;
            plan::plan(&request.type_name, &schema, &config, &prior, &proposed)
        };
        Ok(Response::new(wire::plan_resource_change::Response {
            planned_state: Some(write(&planned.state)?),
            requires_replace: planned
                .replace
                .iter()
                .map(|path| path_to_wire(path))
                .collect(),
            planned_private: request.prior_private,
            diagnostics: Vec::new(),
        }))
    }

    async fn apply_resource_change(
        &self,
        request: Request<wire::apply_resource_change::Request>,
    ) -> Result<Response<wire::apply_resource_change::Response>, Status> {
        let request = request.into_inner();
        let resource_type = request.type_name.as_str();
        let schema = schema_of(resource_type)?;
        let (prior, planned) = (
            read(request.prior_state.as_ref())?,
            read(request.planned_state.as_ref())?,
        );
        let outcome = if planned.is_null() {
            self.delete(resource_type, &prior)
                .await
                .map(|()| Value::Null)
        } else if prior.is_null() {
            self.create(resource_type, &schema, &planned).await
        } else {
            self.update(&schema, &prior, &planned).await
        };
        // What failed is as it was before.
        let (state, diagnostics) = match outcome {
            Ok(state) => (state, Vec::new()),
            Err(cause) => (prior, vec![error(cause)]),
        };
        Ok(Response::new(wire::apply_resource_change::Response {
            new_state: Some(write(&state)?),
            private: request.planned_private,
            diagnostics,
        }))
    }

    async fn stop_provider(
        &self,
        _: Request<wire::stop_provider::Request>,
    ) -> Result<Response<wire::stop_provider::Response>, Status> {
        self.stop.notify_waiters();
        Ok(Response::new(wire::stop_provider::Response::default()))
    }
}

fn schema_of(resource_type: &str) -> Result<Block, Status> {
    resources::schema(resource_type).ok_or_else(|| {
        Status::invalid_argument(format!("there is no resource type {resource_type}"))
    })
}

fn read(value: Option<&wire::DynamicValue>) -> Result<Value, Status> {
    let bytes = value
        .map(|value| value.msgpack.as_slice())
        .unwrap_or_default();
    Value::from_message_pack(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn write(value: &Value) -> Result<wire::DynamicValue, Status> {
    let msgpack = value
        .to_message_pack()
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(wire::DynamicValue {
        msgpack,
        json: Vec::new(),
    })
}

fn error(summary: String) -> wire::Diagnostic {
    wire::Diagnostic {
        severity: wire::diagnostic::Severity::Error.into(),
        summary,
        detail: String::new(),
        attribute: None,
    }
}

fn path_to_wire(path: &[Step]) -> wire::AttributePath {
    use wire::attribute_path::step::Selector;
    let steps = path.iter().map(|step| wire::attribute_path::Step {
        selector: Some(match step {
            Step::Name(name) => Selector::AttributeName((*name).into()),
            // Lists of blocks are short.
            Step::Index(index) => {
                Selector::ElementKeyInt(i64::try_from(*index).unwrap_or(i64::MAX))
            }
        }),
    });
    wire::AttributePath {
        steps: steps.collect(),
    }
}

/// The state of an instance in the project, by the path of a REST request.
#[must_use]
pub fn instance_id(project: &str, zone: &str, name: &str) -> String {
    let mut state = Value::object();
    state.set("name", name.into());
    state.set("zone", zone.into());
    google::id("google_compute_instance", project, &state)
}
