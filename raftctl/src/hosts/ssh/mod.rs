//! Hosts that are reached through SSH, with the operator's own `ssh`.
//!
//! ```text
//! login       who logs in where, and the configuration that ssh is given
//! envelope    a script in an envelope: where its answer begins and ends, and its status
//! connection  one multiplexed connection a host, shared by one raftctl after the other
//! transport   scripts over such a connection
//! tunnel      a closed port of a host, brought to this machine
//! causes      what ssh says -> the cause, and what to do next
//! place       what a login finds on a host: root or not, home, systemd; kept between runs
//! inventory   cluster.yaml -> hosts and members
//! ```
//! The operator's `~/.ssh/config` holds: names, ports, users, keys and jump hosts from there work.
//! Host keys are the cluster's own matter: they are kept in `.raftctl/<cluster>/known_hosts`,
//! accepted at the first contact, and refused when they change.
//!
//! Deliberately absent: passwords, terminals and agent forwarding.

mod causes;
mod connection;
mod envelope;
pub mod inventory;
pub mod login;
pub mod place;
pub mod transport;
pub mod tunnel;

pub use causes::is_changed_key;
pub use login::Login;
pub use transport::SshTransport;
