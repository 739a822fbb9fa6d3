//! Why load can't be brought.

/// Why a load was not run, or a peer for it not found.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address of another store is none, or nobody answers there: ask for another.
    #[error("{0}")]
    Store(String),
    /// This machine has no room for what is measured beside: the message names what.
    #[error("{0}")]
    Machine(String),
    /// The cluster did not answer as its client hoped.
    #[error(transparent)]
    Client(#[from] raftkv_client::ClientError),
}
