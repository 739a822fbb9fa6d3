//! Clients that ask for much and take nothing, or begin much and end nothing: over connections by
//! hand, because no client of a library can be made to.

use crate::cluster::{Cluster, SOON, eventually, reason};
use raftkv::kv::{ListReply, ListRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW_SIZE: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_BYTES: usize = 16 * 1024;
/// INITIAL_WINDOW_SIZE 0: nothing comes through but the heads of replies.
const NO_WINDOW: &[u8] = &[0, 4, 0, 0, 0, 0];
/// What the node has for requests, and for replies, that are on their way.
const ROOM_BYTES: usize = 128 * 1024 * 1024;

/// A connection by hand.
struct Raw {
    stream: TcpStream,
    last_id: u32,
    /// What the node takes of one stream, and of all, before anybody has read anything.
    stream_window: usize,
    window: usize,
    /// Which stream the frame read last belongs to.
    frame_id: u32,
}

impl Raw {
    /// With these settings, and what the node takes of all streams.
    async fn open(cluster: &Cluster, settings: &[u8]) -> Self {
        let mut raw = Raw::greet(cluster, settings).await;
        raw.window += number(&raw.frame(WINDOW_UPDATE).await);
        raw
    }

    /// With these settings.
    async fn greet(cluster: &Cluster, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(cluster.client_address(1)).await.unwrap();
        let mut raw = Raw {
            stream,
            last_id: 0,
            stream_window: 65_535,
            window: 65_535,
            frame_id: 0,
        };
        raw.stream.write_all(PREFACE).await.unwrap();
        raw.send(SETTINGS, 0, 0, settings).await;
        // The windows that the node offers: of a stream, once this is acknowledged, and of all.
        let offered = raw.frame(SETTINGS).await;
        for setting in offered.chunks(6) {
            if setting[..2] == [0, INITIAL_WINDOW_SIZE] {
                raw.stream_window = number(&setting[2..]);
            }
        }
        raw.send(SETTINGS, ACK, 0, &[]).await;
        raw
    }

    /// Sends a piece of a request as soon as the node takes so much; returns whether it does, or has
    /// refused the rest.
    async fn send_within_window(&mut self, id: u32, piece: &[u8]) -> bool {
        while self.window.min(self.stream_window) < piece.len() {
            let (kind, flags, payload) = self.next_frame().await;
            match kind {
                WINDOW_UPDATE if self.frame_id == 0 => self.window += number(&payload),
                WINDOW_UPDATE => self.stream_window += number(&payload),
                RESET => return false,
                HEADERS if flags & END_STREAM != 0 => return false,
                _ => {}
            }
        }
        self.send(DATA, 0, id, piece).await;
        self.window -= piece.len();
        self.stream_window -= piece.len();
        true
    }

    /// The payload of the next frame of a kind that is no acknowledgement.
    async fn frame(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (found, flags, payload) = self.next_frame().await;
            if found == kind && (kind, flags) != (SETTINGS, ACK) {
                return payload;
            }
        }
    }

    /// Sends as much on a stream as the node takes without reading it: messages of no bytes.
    async fn fill(&mut self, id: u32) {
        let mut left = self.stream_window.min(self.window);
        while left > 0 {
            let payload = vec![0; left.min(FRAME_BYTES / 5 * 5)];
            self.send(DATA, 0, id, &payload).await;
            left -= payload.len();
        }
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        // A node that refuses need not read the rest.
        self.stream.write_all(&frame).await.ok();
    }

    /// Begins a call; returns its number.
    async fn call(&mut self, method: &str) -> u32 {
        self.last_id = match self.last_id {
            0 => 1,
            last => last + 2,
        };
        let path = format!("/raftkv.v1.Kv/{method}");
        // HPACK without its compression: POST, http, then literals.
        let mut head = vec![0x83, 0x86];
        let literals: [(&[u8], &str); 4] = [
            (&[0x04], &path),
            (&[0x01], "n1"),
            (&[0x0f, 0x10], "application/grpc"),
            (b"\0\x02te", "trailers"),
        ];
        for (name, value) in literals {
            head.extend(name);
            head.push(u8::try_from(value.len()).unwrap());
            head.extend(value.as_bytes());
        }
        let id = self.last_id;
        self.send(HEADERS, END_HEADERS, id, &head).await;
        id
    }

    /// Kind and flags of the next frame.
    async fn next(&mut self) -> (u8, u8) {
        let (kind, flags, _) = self.next_frame().await;
        (kind, flags)
    }

    /// Kind, flags and payload of the next frame.
    async fn next_frame(&mut self) -> (u8, u8, Vec<u8>) {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        self.frame_id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        (head[3], head[4], payload)
    }

    /// Whether the next reply that begins is a refusal: a head, and no body.
    async fn refused(&mut self) -> bool {
        loop {
            if let (HEADERS, flags) = self.next().await {
                return flags & END_STREAM != 0;
            }
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes.try_into().unwrap()) as usize
}

/// What a process holds in memory.
#[cfg(target_os = "linux")]
fn resident_bytes(pid: u64) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

async fn list(cluster: &Cluster) -> Result<ListReply, Status> {
    let reply = cluster.kv(1).list(ListRequest::default()).await?;
    Ok(reply.into_inner())
}

// Memory is taken by the page, not two megabytes at a time: a store whose values come and go would be half as large again.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_is_taken_by_the_page() {
    let cluster = Cluster::start(1, &["--quiet"]).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(1))).unwrap();
    let huge = status.lines().find(|line| line.starts_with("THP_enabled:"));
    assert_eq!(huge, Some("THP_enabled:\t0"));
}

// Replies that nobody takes take a bounded room; further ones are refused at once, and when the
// client has gone there is room again.
#[tokio::test]
async fn replies_that_nobody_takes_are_bounded() {
    const CALLS: usize = 50;
    const PAGE_BYTES: usize = 4 * 900_000;
    let cluster = Cluster::start(1, &["--quiet"]).await;
    for key in ["a", "b", "c", "d"] {
        cluster.set(None, key, &"x".repeat(PAGE_BYTES / 4)).await;
    }
    let mut closed = Raw::open(&cluster, NO_WINDOW).await;
    for _ in 0..CALLS {
        let id = closed.call("List").await;
        closed.send(DATA, END_STREAM, id, &[0; 5]).await;
    }
    let mut held = 0;
    for _ in 0..CALLS {
        let refused = timeout(SOON, closed.refused()).await.expect("an answer");
        held += usize::from(!refused);
    }
    assert!(held * PAGE_BYTES <= ROOM_BYTES, "{held} replies are held");
    assert!(held * PAGE_BYTES > ROOM_BYTES / 2, "only {held} fit");
    let refusal = list(&cluster).await.unwrap_err();
    assert_eq!(reason(&refusal), "OVERLOADED", "{refusal:?}");
    let status = cluster.told(1).await;
    assert!(status.counters.unwrap().refused_overload > 0);
    drop(closed);
    let page = eventually("room for a page", async || list(&cluster).await.ok()).await;
    assert_eq!(page.entries.len(), 4);
}

// So do requests that stop short of their end, calls and streams alike; small ones are still
// served.
#[tokio::test]
async fn requests_that_do_not_end_are_bounded() {
    const FRAMES: usize = 255;
    const FITTING: usize = ROOM_BYTES / (FRAMES * FRAME_BYTES) + 1;
    let cluster = Cluster::start(1, &["--quiet"]).await;
    let mut open = Vec::new();
    for number in 0..2 * FITTING {
        let mut raw = Raw::open(&cluster, &[]).await;
        let method = ["Set", "Pipeline"][number % 2];
        let id = raw.call(method).await;
        let mut first = vec![0; FRAME_BYTES];
        let length = (FRAMES * FRAME_BYTES) as u32;
        first[1..5].copy_from_slice(&length.to_be_bytes());
        let mut piece = first;
        for _ in 0..FRAMES {
            if !timeout(SOON, raw.send_within_window(id, &piece))
                .await
                .expect("an answer")
            {
                break;
            }
            piece = vec![b'x'; FRAME_BYTES];
        }
        open.push(raw);
    }
    eventually("that those are refused that do not fit", async || {
        let counters = cluster.status(1).await?.counters.unwrap();
        (counters.refused_overload >= FITTING as u64).then_some(())
    })
    .await;
    cluster.set(None, "small", "value").await;
    drop(open);
    let long = "x".repeat(1024 * 1024);
    cluster.set(None, "long", &long).await;
}

// Streams that are filled by clients who take no replies are not read. What waits in the windows of
// HTTP/2 is bounded for each connection, and more narrowly for those that come late.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn clients_that_read_nothing_take_a_bounded_memory() {
    const CLIENTS: usize = 64;
    const WIDE: usize = 256;
    const WIDE_BYTES: usize = 1024 * 1024;
    /// Of the wide places the test's own clients may have some.
    const OTHERS: usize = 8;
    let cluster = Cluster::start(1, &["--quiet"]).await;
    let pid = cluster.told(1).await.pid;
    let before = resident_bytes(pid);
    let mut open = Vec::new();
    for _ in 0..CLIENTS {
        let mut raw = Raw::open(&cluster, NO_WINDOW).await;
        let id = raw.call("Pipeline").await;
        raw.fill(id).await;
        open.push(raw);
    }
    // Whoever is served now comes behind them.
    cluster.set(None, "k", "v").await;
    let grown = resident_bytes(pid).saturating_sub(before);
    assert!(
        grown <= CLIENTS * WIDE_BYTES * 3 / 2 + 16 * 1024 * 1024,
        "{} KiB for each client that reads nothing",
        grown / CLIENTS / 1024
    );
    while open.len() < WIDE - OTHERS {
        open.push(Raw::open(&cluster, &[]).await);
    }
    assert!(open.iter().all(|raw| raw.window == WIDE_BYTES));
    // Late ones get no more of all streams than the protocol's own default, so it is not even said.
    let mut rest = Vec::new();
    loop {
        let late = Raw::greet(&cluster, &[]).await;
        if late.stream_window == 64 * 1024 {
            break;
        }
        rest.push(late);
        assert!(rest.len() <= OTHERS, "so many are wide");
    }
}
