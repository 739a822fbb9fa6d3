//! The protocol, joined to planning, to what the provider does and to what Google holds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::apply::{Applied, Apply};
use crate::faults::{self, On, Target};
use crate::google::{Google, SELF_LINK_PREFIX};
use crate::hook::Hook;
use crate::orders::Book;
use crate::plan::{self, Step};
use crate::resources;
use crate::schema::Block;
use crate::value::Value;
use crate::wire::{self, provider_server::Provider};

/// The provider: one for every Terraform that attaches.
pub struct TestProvider {
    google: Arc<Google>,
    hook: Hook,
    book: Arc<Book>,
    project: OnceLock<String>,
    /// By connection: a Terraform has one of its own for each plan that it makes or carries out.
    sessions: Mutex<HashMap<Option<SocketAddr>, Arc<Session>>>,
}

/// What one Terraform has said.
struct Session {
    /// It asks for an end.
    stop: watch::Sender<bool>,
    /// What is made gets the label of Google's provider.
    attribution: bool,
}

impl Default for Session {
    fn default() -> Session {
        Session {
            stop: watch::Sender::new(false),
            attribution: true,
        }
    }
}

impl TestProvider {
    /// A provider that keeps its resources in `google`, reads what is ordered from `book`, and makes
    /// hosts by `hook`.
    #[must_use]
    pub fn new(google: Arc<Google>, hook: Hook, book: Arc<Book>) -> TestProvider {
        TestProvider {
            google,
            hook,
            book,
            project: OnceLock::new(),
            sessions: Mutex::default(),
        }
    }

    fn project(&self) -> &str {
        self.project.get().map_or("unset", String::as_str)
    }

    /// What the Terraform behind a connection has said.
    fn session<T>(&self, request: &Request<T>) -> Arc<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.entry(request.remote_addr()).or_default().clone()
    }

    /// Work on one resource, whose name and place stand in `state`.
    fn apply<'a>(
        &'a self,
        resource_type: &'a str,
        state: &'a Value,
        session: &Session,
    ) -> Apply<'a> {
        let text = |name: &str| state.get(name).text();
        Apply {
            google: &self.google,
            hook: &self.hook,
            book: &self.book,
            target: Target {
                resource_type,
                name: text("name").unwrap_or_default(),
                zone: text("zone").unwrap_or("global"),
                project: text("project").unwrap_or_else(|| self.project()),
            },
            stop: session.stop.subscribe(),
        }
    }

    /// What a plan or an import learns of a resource: what Google tells of it, and what only Terraform
    /// knows as it was. Null where there is none.
    fn read(&self, resource_type: &str, schema: &Block, current: &Value) -> Value {
        let id = current.get("id").text().unwrap_or_default();
        let found = self.google.find(id);
        let Some(resource) = found.filter(|found| found.resource_type == resource_type) else {
            return Value::Null;
        };
        let mut state = Value::from_json(&resource.state);
        for ours in [
            "allow_stopping_for_update",
            "create_snapshot_before_destroy",
            "delete_default_routes_on_create",
            "terraform_labels",
        ] {
            if schema.attributes.iter().any(|there| there.name == ours) {
                state.set(ours, current.get(ours).clone());
            }
        }
        // A machine that was stopped behind Terraform's back shows in the attribute that asks for it.
        if !current.get("desired_status").is_null() {
            state.set("desired_status", state.get("current_status").clone());
        } else if resource_type == "google_compute_instance" {
            state.set("desired_status", Value::Null);
        }
        if let Value::Object(effective) = state.get("effective_labels") {
            let mut labels = effective.clone();
            labels.retain(|name, _| !current.get("labels").get(name).is_null());
            state.set("labels", Value::Object(labels));
        }
        for attribute in &schema.attributes {
            if attribute.name == "users" {
                let links = self.google.users(id).into_iter();
                let links = links.map(|user| format!("{SELF_LINK_PREFIX}{user}").into());
                state.set("users", Value::List(links.collect()));
            } else if attribute.kind.is_collection() && state.get(attribute.name).is_null() {
                state.set(attribute.name, attribute.kind.blank()); // Google's provider knows no difference
            }
        }
        state
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
        let at = request.remote_addr();
        let config = read(request.into_inner().config.as_ref())?;
        let attribution = config.get("add_terraform_attribution_label");
        let session = Session {
            attribution: attribution != &Value::Bool(false),
            ..Session::default()
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(at, Arc::new(session));
        drop(sessions);
        if let Some(project) = config.get("project").text() {
            // Whoever attaches later works on the same project: a test has one.
            let _ = self.project.set(project.into());
        }
        let orders = self.book.read().map_err(Status::internal)?;
        let missing = orders
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
        let session = self.session(&request);
        let request = request.into_inner();
        let schema = schema_of(&request.type_name)?;
        let current = read(request.current_state.as_ref())?;
        let failed = self
            .apply(&request.type_name, &current, &session)
            .fail(On::Read)
            .await;
        let state = match failed {
            Ok(()) => self.read(&request.type_name, &schema, &current),
            Err(_) => current,
        };
        Ok(Response::new(wire::read_resource::Response {
            new_state: Some(write(&state)?),
            diagnostics: failed.err().into_iter().map(error).collect(),
            private: request.private,
        }))
    }

    async fn import_resource_state(
        &self,
        request: Request<wire::import_resource_state::Request>,
    ) -> Result<Response<wire::import_resource_state::Response>, Status> {
        let request = request.into_inner();
        // The rest is read by the request that follows, which finds out as well if there is none.
        let mut state = schema_of(&request.type_name)?.unset();
        state.set("id", request.id.into());
        let imported = wire::import_resource_state::ImportedResource {
            type_name: request.type_name,
            state: Some(write(&state)?),
            private: Vec::new(),
        };
        Ok(Response::new(wire::import_resource_state::Response {
            imported_resources: vec![imported],
            diagnostics: Vec::new(),
        }))
    }

    async fn plan_resource_change(
        &self,
        request: Request<wire::plan_resource_change::Request>,
    ) -> Result<Response<wire::plan_resource_change::Response>, Status> {
        let attribution = self.session(&request).attribution;
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
            plan::plan(
                &request.type_name,
                &schema,
                &config,
                &prior,
                &proposed,
                attribution,
            )
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
            legacy_type_system: true,
        }))
    }

    async fn apply_resource_change(
        &self,
        request: Request<wire::apply_resource_change::Request>,
    ) -> Result<Response<wire::apply_resource_change::Response>, Status> {
        let session = self.session(&request);
        let request = request.into_inner();
        let resource_type = request.type_name.as_str();
        let schema = schema_of(resource_type)?;
        let (prior, planned) = (
            read(request.prior_state.as_ref())?,
            read(request.planned_state.as_ref())?,
        );
        let Applied { state, problem } = if planned.is_null() {
            self.apply(resource_type, &prior, &session)
                .delete(&prior)
                .await
        } else {
            let apply = self.apply(resource_type, &planned, &session);
            if prior.is_null() {
                apply.create(&schema, &planned).await
            } else {
                apply.update(&schema, &prior, &planned).await
            }
        };
        Ok(Response::new(wire::apply_resource_change::Response {
            new_state: Some(write(&state)?),
            private: request.planned_private,
            diagnostics: problem.into_iter().map(error).collect(),
            legacy_type_system: true,
        }))
    }

    async fn stop_provider(
        &self,
        request: Request<wire::stop_provider::Request>,
    ) -> Result<Response<wire::stop_provider::Response>, Status> {
        self.session(&request).stop.send_replace(true);
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
