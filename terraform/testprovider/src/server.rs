//! Serving all of it on one address, from a program of its own or from within a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use serde_json::json;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;

use crate::bucket::{self, Storage};
use crate::google::Google;
use crate::hook::Hook;
use crate::operations::Register;
use crate::orders::Book;
use crate::provider::TestProvider;
use crate::rest::{Api, routes};
use crate::wire::provider_server::ProviderServer;

/// Terraform sends a whole configuration in one message.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What to serve.
#[derive(Clone, Default)]
pub struct Options {
    /// Where to listen; a free port of 127.0.0.1 where it is absent.
    pub listen: Option<String>,
    /// The file that keeps what Google holds; nothing is kept where it is absent.
    pub state: Option<PathBuf>,
    /// The file with the failures that are ordered.
    pub faults: Option<PathBuf>,
    /// What turns an instance into a host.
    pub hook: Hook,
}

/// A listener that is bound, and what it will serve.
pub struct Bound {
    listener: tokio::net::TcpListener,
    google: Arc<Google>,
    storage: Storage,
    options: Options,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Binds the address and reads what Google holds.
///
/// # Errors
/// When the address is taken or the file of resources can't be read.
pub async fn bind(options: Options) -> Result<Bound, String> {
    let google = Arc::new(Google::open(options.state.as_deref())?);
    let listen = options.listen.as_deref().unwrap_or("127.0.0.1:0");
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| format!("{listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(Bound {
        listener,
        google,
        storage: Storage::default(),
        options,
        address,
    })
}

impl Bound {
    /// The value for `TF_REATTACH_PROVIDERS`, for Terraform and OpenTofu alike.
    #[must_use]
    pub fn reattach(&self) -> String {
        let attach = json!({
            "Protocol": "grpc", "ProtocolVersion": 6, "Pid": std::process::id(), "Test": true,
            "Addr": {"Network": "tcp", "String": self.address.to_string()},
        });
        json!({
            "registry.terraform.io/hashicorp/google": attach,
            "registry.opentofu.org/hashicorp/google": attach,
        })
        .to_string()
    }

    /// The value for `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE`.
    #[must_use]
    pub fn compute_endpoint(&self) -> String {
        format!("http://{}/compute/v1/", self.address)
    }

    /// The value for `CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE`.
    #[must_use]
    pub fn services_endpoint(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The value for `GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT`.
    #[must_use]
    pub fn storage_endpoint(&self) -> String {
        format!("http://{}/storage/v1/", self.address)
    }

    /// Serves until `stop` is done.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let hook = self.options.hook;
        let book = Arc::new(Book::new(self.options.faults));
        let provider = TestProvider::new(self.google.clone(), hook.clone(), book.clone());
        let provider = ProviderServer::new(provider).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let rest = routes(Api {
            google: self.google,
            hook,
            book,
            operations: Register::default(),
        })
        .merge(bucket::routes(self.storage));
        tonic::transport::Server::builder()
            .accept_http1(true) // gcloud speaks HTTP/1.1
            .add_routes(tonic::service::Routes::from(rest).add_service(provider))
            .serve_with_incoming_shutdown(TcpListenerStream::new(self.listener), stop)
            .await
    }
}

/// A server on a thread of its own, for tests. It ends when this is dropped.
pub struct Running {
    /// The value for `TF_REATTACH_PROVIDERS`.
    pub reattach: String,
    /// The value for `CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE`.
    pub compute_endpoint: String,
    /// The value for `CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE`.
    pub services_endpoint: String,
    /// The value for `GOOGLE_BACKEND_STORAGE_CUSTOM_ENDPOINT`.
    pub storage_endpoint: String,
    /// What exists.
    pub google: Arc<Google>,
    /// Buckets.
    pub storage: Storage,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Starts serving.
    ///
    /// # Errors
    /// Those of [`bind`].
    pub fn start(options: Options) -> Result<Running, String> {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return ready.send(Err(error.to_string())).unwrap_or(()),
            };
            runtime.block_on(async {
                let bound = match bind(options).await {
                    Ok(bound) => bound,
                    Err(error) => return ready.send(Err(error)).unwrap_or(()),
                };
                let about = Running {
                    reattach: bound.reattach(),
                    compute_endpoint: bound.compute_endpoint(),
                    services_endpoint: bound.services_endpoint(),
                    storage_endpoint: bound.storage_endpoint(),
                    google: bound.google.clone(),
                    storage: bound.storage.clone(),
                    stop: None,
                    thread: None,
                };
                let _ = ready.send(Ok(about));
                // A sender that was dropped means the same as a word from it.
                let stop = async { stopped.await.unwrap_or(()) };
                if let Err(error) = bound.serve(stop).await {
                    eprintln!("test provider: {error}");
                }
            });
            // Connections that Terraform left open are cut.
            runtime.shutdown_background();
        });
        let about = started
            .recv()
            .map_err(|_| "the test provider's thread ended".to_owned())??;
        Ok(about.on(stop, thread))
    }

    fn on(mut self, stop: oneshot::Sender<()>, thread: thread::JoinHandle<()>) -> Running {
        self.stop = Some(stop);
        self.thread = Some(thread);
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
