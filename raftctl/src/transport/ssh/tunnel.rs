//! A port of a host that is closed to this machine, brought here through SSH.
//!
//! Each connection to the local end becomes a channel of the host's one SSH connection (`ssh -W`),
//! so that it costs no login. The local end lives as long as this process: other users of this
//! machine can reach the port through it for that long, and no longer.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::Semaphore;

use super::causes;
use super::transport::SshTransport;
use crate::client::tunnel_trouble;
use crate::error::{Error, Result};
use crate::transport::local::keep_end;

/// Connections at a time; gRPC makes one for each client. sshd allows ten sessions, scripts included,
/// but counts no channel of this kind among them.
pub const CONNECTIONS_MAX: usize = 32;

/// How much is carried at a time.
const PIECE_BYTES: usize = 64 << 10;

/// How long the last words of an `ssh` that has closed its output may take.
const WORDS_WITHIN: Duration = Duration::from_secs(1);

/// After a failure to accept, which means that this process has too many files open.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the local end of a tunnel to `target`, a `host:port` as the host itself sees it, and gives
/// its address. Connects to the host when the first one connects here. Needs a runtime.
///
/// # Errors
/// No port of this machine is free.
pub fn open(transport: &Arc<SshTransport>, target: &str) -> Result<SocketAddr> {
    let failed =
        |error: std::io::Error| Error::Other(format!("cannot open a port for a tunnel: {error}"));
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let name = address.to_string();
    tokio::spawn(serve(
        listener,
        name,
        Arc::clone(transport),
        target.to_owned(),
    ));
    Ok(address)
}

async fn serve(listener: TcpListener, name: String, transport: Arc<SshTransport>, target: String) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so there is always a turn.
        let turn = Arc::clone(&turns).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (transport, target, name) = (Arc::clone(&transport), target.clone(), name.clone());
        tokio::spawn(async move {
            carry(stream, &name, &transport, &target).await;
            drop(turn);
        });
    }
}

/// Carries bytes both ways until both ends have closed. Why nothing came from the host is noted before
/// whoever connected sees the end, so that it is told.
async fn carry(mut stream: TcpStream, name: &str, transport: &SshTransport, target: &str) {
    let (mut child, log_bytes, session) = match transport.session().await {
        Ok(session) => {
            let log_bytes = session.log_bytes();
            match session
                .ssh(&["-W", target, "none"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
            {
                Ok(child) => (child, log_bytes, session),
                Err(error) => {
                    return tunnel_trouble::note(name, format!("cannot start ssh: {error}"));
                }
            }
        }
        Err(error) => return tunnel_trouble::note(name, error.to_string()),
    };
    let mut said = Vec::new();
    let came = exchange(&mut stream, name, &mut child, &mut said).await;
    if came == 0 && !said.is_empty() {
        let own = String::from_utf8_lossy(&said);
        let cause = causes::closed_channel(&own, &session.log_since(log_bytes));
        tunnel_trouble::note(name, cause);
    }
}

/// How many bytes came from the host; what `ssh` said meanwhile is put into `said`.
async fn exchange(
    stream: &mut TcpStream,
    name: &str,
    child: &mut Child,
    said: &mut Vec<u8>,
) -> u64 {
    let (Some(mut to), Some(mut from), Some(mut errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return 0; // All were asked for as pipes.
    };
    let (mut read, mut write) = stream.split();
    let there = async {
        // Whatever ends it, the other end learns that nothing more comes.
        let _ = tokio::io::copy(&mut read, &mut to).await;
        drop(to);
        std::future::pending().await
    };
    let mut came = 0;
    let back = async {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            if came == 0 {
                tunnel_trouble::clear(name);
            }
            came += count as u64;
            if write.write_all(&piece[..count]).await.is_err() {
                return;
            }
        }
        if came == 0 {
            // It has ended, and so it has said what it had to say.
            let _ = tokio::time::timeout(WORDS_WITHIN, keep_end(&mut errors, said)).await;
        }
    };
    // When the host's end is closed nothing more can be answered, whatever is still to be said.
    tokio::select! {
        () = back => {}
        () = there => {}
    }
    came
}
