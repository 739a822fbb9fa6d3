//! A port of a host that is closed to this machine, brought here through SSH.
//!
//! Each connection to the local end becomes a channel of the host's one SSH connection (`ssh -W`),
//! so that it costs no login. The local end lives as long as this process: other users of this
//! machine can reach the port through it for that long, and no longer.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::transport::SshTransport;
use crate::error::{Error, Result};

/// Connections at a time; gRPC makes one for each client. sshd allows ten sessions, scripts included,
/// but counts no channel of this kind among them.
pub const CONNECTIONS_MAX: usize = 32;

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
    tokio::spawn(serve(listener, Arc::clone(transport), target.to_owned()));
    Ok(address)
}

async fn serve(listener: TcpListener, transport: Arc<SshTransport>, target: String) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so there is always a turn.
        let turn = Arc::clone(&turns).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (transport, target) = (Arc::clone(&transport), target.clone());
        tokio::spawn(async move {
            // Whoever connected sees the connection end, and asks the host over SSH for the cause.
            let _ = carry(stream, &transport, &target).await;
            drop(turn);
        });
    }
}

/// Carries bytes both ways until both ends have closed.
async fn carry(
    mut stream: TcpStream,
    transport: &SshTransport,
    target: &str,
) -> std::io::Result<()> {
    let mut child = channel(transport, target).await?;
    let (Some(mut to), Some(mut from)) = (child.stdin.take(), child.stdout.take()) else {
        return Ok(()); // Both were asked for as pipes.
    };
    let (mut read, mut write) = stream.split();
    let there = async {
        let copied = tokio::io::copy(&mut read, &mut to).await;
        drop(to); // Closes the pipe: the other end learns that nothing more comes.
        copied
    };
    let back = async {
        let copied = tokio::io::copy(&mut from, &mut write).await;
        write.shutdown().await.and(copied)
    };
    // When the host's end is closed nothing more can be answered, whatever is still to be said.
    tokio::select! {
        result = back => result.map(drop),
        result = async { there.await?; std::future::pending().await } => result,
    }
}

async fn channel(transport: &SshTransport, target: &str) -> std::io::Result<Child> {
    let socket = transport
        .control_socket()
        .await
        .map_err(std::io::Error::other)?;
    Command::new("ssh")
        .arg("-F")
        .arg(&transport.login().config_file)
        .arg("-S")
        .arg(&socket)
        .args(["-o", "BatchMode=yes", "-W", target])
        .arg(&transport.login().destination)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}
