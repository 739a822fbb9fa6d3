//! What a supervisor hears of the node's loop.

use crate::cluster::Cluster;
use crate::on_a_runtime;
use crate::scraping::ask;
use harness::{Need, Test, program_is_missing, tests};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// Bound on every wait here.
const SOON: Duration = Duration::from_secs(60);
/// What the supervisor wants to hear within this time.
const LIMIT: Duration = Duration::from_millis(400);
const SIGN_OF_LIFE: &str = "WATCHDOG_USEC=400000\nWATCHDOG=1\n";

static PTRACE: Need = Need::new(|| {
    let install = "install the package python3";
    program_is_missing("python3", install).or_else(|| {
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        let forbidden =
            scope.is_ok_and(|scope| scope.trim() != "0") && !rustix::process::geteuid().is_root();
        forbidden
            .then(|| "only root may stop single threads here (kernel.yama.ptrace_scope)".into())
    })
});

pub fn tests() -> Vec<Test> {
    tests!([PTRACE], a_loop_that_is_stuck_feeds_no_watchdog)
}

/// Stops one thread, as a debugger does, until its input ends; then the thread goes on.
const STOP_ONE_THREAD: &str = "\
import ctypes, os, sys
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
libc, thread = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
def ptrace(request):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
ptrace(SEIZE)
ptrace(INTERRUPT)
os.waitpid(thread, WALL)
print('!', end='', flush=True)
sys.stdin.read()
ptrace(DETACH)
";

/// A thread that is stopped, and no other of its process; it goes on with the end of this value.
struct Stopped(Child);

impl Stopped {
    fn thread(id: u32) -> Stopped {
        let mut python = Command::new("python3");
        python.args(["-c", STOP_ONE_THREAD, &id.to_string()]);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut said = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut said)
            .unwrap();
        Stopped(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// What the node tells a supervisor.
struct Heard(UnixDatagram);

impl Heard {
    async fn within(&self, bound: Duration) -> Option<String> {
        let mut bytes = [0; 128];
        let length = timeout(bound, self.0.recv(&mut bytes)).await.ok()?.unwrap();
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    async fn next(&self) -> String {
        self.within(SOON).await.expect("told in time")
    }

    /// All that was told already.
    fn drain(&self) {
        while self.0.try_recv(&mut [0; 128]).is_ok() {}
    }
}

/// Starts a node that somebody supervises, with metrics.
fn start(cluster: &mut Cluster, notify: &Path, metrics: &str) {
    let child = Command::new(crate::cluster::BINARY)
        .args(cluster.arguments(1))
        .arg(format!("--metrics-listen={metrics}"))
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", LIMIT.as_micros().to_string())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    cluster.adopt(1, child);
}

// An idle loop tells time and again that it goes on. One that is stuck tells nothing, though other threads
// of its process are well; and when it goes on, it tells that again.
fn a_loop_that_is_stuck_feeds_no_watchdog() {
    on_a_runtime(async {
        let mut cluster = Cluster::new(1, &[]);
        let path = cluster.directory.path().join("notify");
        let heard = Heard(UnixDatagram::bind(&path).unwrap());
        let metrics = format!(
            "{}:{}",
            crate::cluster::own_host(),
            crate::cluster::own_ports(1)
        );
        start(&mut cluster, &path, &metrics);
        assert_eq!(heard.next().await, "READY=1\n");
        for _ in 0..20 {
            assert_eq!(heard.next().await, SIGN_OF_LIFE);
        }

        // The loop runs on the first thread of the process.
        let stopped = Stopped::thread(cluster.pid(1));
        heard.drain();
        for _ in 0..10 {
            ask(&metrics, "GET /metrics").await;
            assert_eq!(
                heard.within(LIMIT / 2).await,
                None,
                "told by another thread"
            );
        }
        drop(stopped);
        assert_eq!(heard.next().await, SIGN_OF_LIFE);
    });
}
