//! Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when raftctl is asked to end, with Ctrl-C or SIGTERM. Where signals can't be had, never:
/// then they end raftctl in their own way.
pub async fn interruption() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => if pressed.is_err() {
            std::future::pending().await
        },
        _ = terminate.recv() => {}
    }
}
