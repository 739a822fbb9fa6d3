//! Clients that mean harm, or are broken: with a certificate, without one, and in clear text.
//!
//! Each attack is made on a node of which somebody else goes on asking; what counts is that this client's writes are
//! done meanwhile, that the process is the same afterwards, and what it takes in memory. How long its writes took is told
//! (`--nocapture`; `HOSTILE_WRITES` says how many at least are looked at), and asserted nowhere: that depends on the machine.

use crate::authority::Authority;
use crate::cluster::{Cluster, SOON, eventually, reason};
use crate::secured::{CLUSTER, Through};
use crate::tls::resident_kib;
use raftkv::VALUE_BYTES_MAX;
use raftkv::kv::kv_client::KvClient;
use raftkv::kv::{
    Consistency, GetRequest, Operation, PipelineRequest, SetReply, SetRequest, operation,
};
use rustix::process::{Pid, Signal};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// What all requests, replies and windows of clients may take together, by ARCHITECTURE.md (10), in MiB.
const BOUND_MIB: u64 = 3 * 128 + 256 + 496;
/// What the attacks here may: far less than the bound, because few places are taken.
const GROWN_MIB_MAX: u64 = 300;
const _: () = assert!(GROWN_MIB_MAX < BOUND_MIB);

/// A node, and a client that goes on.
struct Victim {
    cluster: Cluster,
    pid: u32,
    before_kib: u64,
    /// How long each write of the client took, in microseconds, and those that were told of so far.
    took_us: Arc<Mutex<Vec<u64>>>,
    told: AtomicUsize,
    bystander: JoinHandle<()>,
    /// With which certificate attackers come; `None`: in clear text.
    through: Option<Through>,
}

impl Victim {
    async fn new(is_secured: bool) -> Self {
        let cluster = match is_secured {
            true => Cluster::start_secured(1, &["--quiet"]).await,
            false => Cluster::start(1, &["--quiet"]).await,
        };
        let large = "v".repeat(VALUE_BYTES_MAX / 2);
        cluster.set(None, "large", &large).await;
        let pid = cluster.pid(1);
        let took_us = Arc::new(Mutex::new(Vec::new()));
        let counted = Arc::clone(&took_us);
        let kv = {
            let _there = BYSTANDERS.enter();
            cluster.kv(1)
        };
        let bystander = BYSTANDERS.spawn(async move {
            loop {
                let set = SetRequest {
                    request: None,
                    key: "bystander".into(),
                    value: "v".into(),
                };
                let start = Instant::now();
                kv.clone().set(set).await.expect("it is served");
                let took = start.elapsed().as_micros().try_into().unwrap();
                counted.lock().unwrap().push(took);
            }
        });
        let secured = cluster.secured.as_ref();
        let through = secured.map(|secured| secured.role("mallory", "writer"));
        let victim = Victim {
            before_kib: resident_kib(pid),
            cluster,
            pid,
            took_us,
            told: AtomicUsize::new(0),
            bystander,
            through,
        };
        if std::env::var_os("HOSTILE_WRITES").is_some() {
            let_others_first();
        }
        victim.serves_others("nobody means harm").await;
        victim
    }

    fn channel(&self) -> Channel {
        self.cluster.channel_through(1, self.through.clone())
    }

    /// A connection of an attacker's own, on which nothing was said yet but for TLS.
    async fn stream(&self) -> Box<dyn Wire> {
        let address = self.cluster.client_address(1);
        match &self.through {
            Some(through) => Box::new(through.stream(&address).await.unwrap()),
            None => Box::new(TcpStream::connect(address).await.unwrap()),
        }
    }

    /// Somebody else's writes go on: so many more are done from now on.
    async fn serves_others(&self, during: &str) {
        let count = || self.took_us.lock().unwrap().len();
        let wanted = count() + writes();
        let is_done = async || (count() >= wanted).then_some(());
        eventually(during, is_done).await;
        assert!(!self.bystander.is_finished(), "{during}: refused");
        let all = self.took_us.lock().unwrap();
        let mut since = all[self.told.swap(all.len(), Relaxed)..].to_vec();
        since.sort_unstable();
        let within_us = |share: usize| since[since.len() * share / 100];
        println!(
            "{during}: {} writes of others, half of them within {} us, 99 % within {} us",
            since.len(),
            within_us(50),
            within_us(99)
        );
    }

    /// The end: it is the process that it was, within its bound, and stops in good order.
    async fn survives(mut self) {
        self.serves_others("afterwards").await;
        let grown = resident_kib(self.pid).saturating_sub(self.before_kib) / 1024;
        assert!(grown < GROWN_MIB_MAX, "{grown} MiB more");
        self.bystander.abort();
        self.cluster.signal(1, Signal::TERM);
        assert_eq!(self.cluster.ended(1).await.code(), Some(0));
    }
}

/// What the others run on: attackers have no part in how fast they are.
static BYSTANDERS: LazyLock<Runtime> = LazyLock::new(|| {
    let mut threads = Builder::new_multi_thread();
    let threads = threads.worker_threads(1).thread_name(BYSTANDER);
    threads.enable_all().build().unwrap()
});
const BYSTANDER: &str = "bystander";

/// Gives the threads of attackers what processor the node and the others leave, as if they were on machines of their own.
fn let_others_first() {
    for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let id = thread.file_name().into_string().unwrap().parse().unwrap();
        if name.trim_end() != BYSTANDER {
            // One that has just ended needs nothing.
            rustix::process::setpriority_process(Pid::from_raw(id), 19).ok();
        }
    }
}

/// So many writes of others have to be done after each attack.
fn writes() -> usize {
    let asked = std::env::var("HOSTILE_WRITES");
    asked.map_or(20, |writes| writes.parse().expect("a number"))
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A block of headers that is small on the wire and large when read: one of 4,000 bytes goes into the table, and is
/// named again and again.
fn bomb() -> Vec<u8> {
    // POST, http, and a path.
    let mut block = vec![0x83, 0x86, 0x04, 1, b'/'];
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'a'; 4000]);
    block.extend([0xbe; 12_000]);
    block
}

/// Whether the other side has ended the connection, once all that it has said is read.
async fn is_closed(stream: &mut dyn Wire) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let end = async { while matches!(stream.read(&mut buffer).await, Ok(1..)) {} };
    timeout(SOON, end).await.is_ok()
}

/// Headers that explode, and such that never end.
async fn header_bombs(victim: &Victim) {
    let mut bombed = victim.stream().await;
    bombed.write_all(HELLO).await.unwrap();
    for stream in (1..).step_by(2).take(200) {
        let bomb = frame(HEADERS, END_HEADERS, stream, &bomb());
        if bombed.write_all(&bomb).await.is_err() {
            break; // It has had enough of it.
        }
    }
    victim.serves_others("headers that explode").await;
    let mut endless = victim.stream().await;
    endless.write_all(HELLO).await.unwrap();
    let begin = [0x83, 0x86, 0x04, 1, b'/'];
    endless
        .write_all(&frame(HEADERS, 0, 1, &begin))
        .await
        .unwrap();
    // A header that is not indexed, of 1,000 bytes, 16 times in each frame.
    let mut one = vec![0x00, 1, b'y', 0x7f, 0xe9, 0x06];
    one.extend([b'b'; 1000]);
    let more = frame(CONTINUATION, 0, 1, &one.repeat(16));
    let mut refused = false;
    for _ in 0..20_000 {
        if endless.write_all(&more).await.is_err() {
            refused = true;
            break;
        }
    }
    assert!(
        refused || is_closed(&mut *endless).await,
        "320 MB of headers"
    );
    victim.serves_others("headers without an end").await;
}

/// Metadata of a call may have 8 KiB (rpc/serve.rs): what is longer is refused, and the call is not carried out.
async fn long_metadata(victim: &Victim) {
    let with = async |bytes: usize| {
        let mut request = Request::new(set("metadata"));
        let long = "m".repeat(bytes).parse().unwrap();
        request.metadata_mut().insert("long", long);
        KvClient::new(victim.channel()).set(request).await
    };
    with(4 * 1024).await.expect("it fits");
    let refused = with(16 * 1024).await.expect_err("more than fits");
    assert_ne!(refused.code(), Code::Unavailable, "{refused:?}");
}

fn pipelined(id: u64, operation: operation::Operation) -> Operation {
    Operation {
        id,
        operation: Some(operation),
    }
}

/// Streams on which much is asked for, and nothing read: once, and time and again for as long as is looked at.
async fn streams_never_read(victim: &Victim) {
    let held = unread_streams(victim).await;
    victim.serves_others("streams that nobody reads").await;
    drop(held);
    if std::env::var_os("HOSTILE_WRITES").is_some() {
        let again = async {
            loop {
                unread_streams(victim).await;
            }
        };
        tokio::select! {
            () = victim.serves_others("the same time and again") => (),
            () = again => (),
        }
    }
}

/// Many of them, on which all is asked for that may wait.
async fn unread_streams(victim: &Victim) -> Vec<impl Sized + use<>> {
    let mut held = Vec::new();
    for _ in 0..8 {
        let channel = victim.channel();
        for _ in 0..8 {
            let get = |id| {
                let get = GetRequest {
                    key: "large".into(),
                    consistency: Consistency::Stale.into(),
                };
                pipelined(id, operation::Operation::Get(get))
            };
            let request = move |number: u64| PipelineRequest {
                operations: (number * 10..number * 10 + 10).map(get).collect(),
            };
            let requests = tokio_stream::iter((0..20).map(request));
            let mut kv = KvClient::new(channel.clone());
            // Its replies stay unread for as long as this is held.
            match timeout(SOON, kv.pipeline(requests))
                .await
                .expect("an answer")
            {
                Ok(replies) => held.push(replies),
                Err(refused) => assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}"),
            }
        }
    }
    assert!(held.len() >= 8, "{}", held.len());
    held
}

fn set(key: &str) -> SetRequest {
    SetRequest {
        request: None,
        key: key.into(),
        value: "v".into(),
    }
}

/// Calls whose time is over before they begin, and such that nobody waits for.
async fn calls_without_patience(victim: &Victim) {
    let channel = victim.channel();
    for _ in 0..300 {
        let mut request = Request::new(set("late"));
        request
            .metadata_mut()
            .insert("grpc-timeout", "0n".parse().unwrap());
        let outcome = KvClient::new(channel.clone()).set(request).await;
        // It may have been done all the same: the answer is the time's matter.
        if let Err(late) = outcome {
            let is_late = matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled)
                || reason(&late) == "OUTCOME_UNKNOWN";
            assert!(is_late, "{late:?}");
        }
    }
    victim.serves_others("deadlines of zero").await;
    for number in 0..3000 {
        let mut kv = KvClient::new(channel.clone());
        let call = kv.set(set("cancelled"));
        let given_up = Duration::from_micros(number % 50 * 10);
        // Dropped at any point of its way, which cancels it.
        timeout(given_up, call).await.ok();
    }
    victim.serves_others("cancelled calls").await;
}

/// Bytes that are no message, in calls and on a stream.
async fn messages_that_are_none(victim: &Victim) {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Anything {
        /// Where `SetRequest` has its key, and `PipelineRequest` its operations.
        #[prost(bytes = "vec", repeated, tag = "1")]
        first: Vec<Vec<u8>>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        second: Vec<Vec<u8>>,
    }
    let channel = victim.channel();
    let call = async |path: &'static str, first: Vec<u8>| -> Status {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec: ProstCodec<Anything, SetReply> = ProstCodec::default();
        let message = Anything {
            first: vec![first],
            second: Vec::new(),
        };
        let path = PathAndQuery::from_static(path);
        grpc.unary(Request::new(message), path, codec)
            .await
            .unwrap_err()
    };
    for length in 0..200_usize {
        let bytes: Vec<u8> = (0..length)
            .map(|at| (at * 37 + length * 11) as u8 | 0x80)
            .collect();
        let refused = call("/raftkv.v1.Kv/Set", [&[0xff][..], &bytes].concat()).await;
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::InvalidArgument, "INVALID"),
            "{refused:?}"
        );
        let refused = call("/raftkv.v1.Kv/Pipeline", bytes).await;
        assert_ne!(refused.code(), Code::Unknown, "{refused:?}");
    }
    let refused = call("/raftkv.v1.Kv/NoSuchCall", Vec::new()).await;
    let is_refused = matches!(refused.code(), Code::Unimplemented | Code::PermissionDenied);
    assert!(is_refused, "{refused:?}");
    victim.serves_others("what is no message").await;
}

async fn all_of_it(victim: Victim) {
    long_metadata(&victim).await;
    header_bombs(&victim).await;
    streams_never_read(&victim).await;
    calls_without_patience(&victim).await;
    messages_that_are_none(&victim).await;
    victim.survives().await;
}

// Whoever has a certificate, and does with it what no library would, takes nothing from others.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_with_a_certificate() {
    all_of_it(Victim::new(true).await).await;
}

// The same in clear text, where nobody needs one.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_in_clear_text() {
    all_of_it(Victim::new(false).await).await;
}

/// The first words of TLS: a record that says that so much of a handshake follows.
fn record(kind: u8, claimed: u16, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 1];
    record.extend(claimed.to_be_bytes());
    record.extend(body);
    record
}

// Without a certificate of the cluster nobody gets as far as HTTP/2, and floods of those who try keep nobody out:
// handshakes that end in a refusal, such that are left, and bytes that are none.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_without_a_certificate() {
    let mut victim = Victim::new(true).await;
    let secured = victim.cluster.secured.as_ref().unwrap();
    let other = Authority::new("other");
    let strangers = [
        Through::new(&secured.authority.pem, None),
        Through::new(
            &secured.authority.pem,
            Some(&other.role(CLUSTER, "mallory", "admin")),
        ),
    ];
    let address = victim.cluster.client_address(1);
    let mut trying = Vec::new();
    for number in 0..40 {
        let (stranger, address) = (strangers[number % 2].clone(), address.clone());
        trying.push(tokio::spawn(async move {
            for _ in 0..40 {
                // In TLS 1.3 it learns only with the first word whether it was let in.
                let Ok(mut stream) = stranger.stream(&address).await else {
                    continue;
                };
                stream.write_all(HELLO).await.ok();
                let read = timeout(SOON, stream.read(&mut [0])).await.expect("an end");
                assert!(!matches!(read, Ok(1..)), "let in without a certificate");
            }
        }));
    }
    victim.serves_others("handshakes that are refused").await;
    let mut left = Vec::new();
    for number in 0..1000_usize {
        let Ok(Ok(mut stream)) = timeout(SOON, TcpStream::connect(&*address)).await else {
            break; // The kernel's queue is full of them.
        };
        let words = match number % 4 {
            // The begin of a hello that never comes; one that says that it is long, and its alert; noise.
            0 => record(0x16, 512, &[1, 0, 1, 0xfc, 3, 3]),
            1 => record(0x16, 16_384, &[1; 16_000]),
            2 => record(0x15, 2, &[2, 40]),
            _ => vec![0x80 | number as u8; 3000],
        };
        stream.write_all(&words).await.ok();
        left.push(stream);
    }
    victim.serves_others("handshakes that are left").await;
    for trying in trying {
        trying.await.unwrap();
    }
    drop(left);
    victim.through = None;
    victim.survives().await;
}
