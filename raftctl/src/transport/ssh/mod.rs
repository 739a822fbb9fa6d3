//! Hosts that are reached through SSH, with the operator's own `ssh`.
//!
//! ```text
//! login       who logs in where, and the configuration that ssh is given
//! envelope    a script in an envelope: where its answer begins and ends, and its status
//! connection  one multiplexed connection a host, shared by one raftctl after the other
//! session     what runs over it, and how much at a time    sockets  where connections are found
//! channel     a command over it, with no `ssh` of its own
//! gate        a jump host that refuses a login is asked once
//! key_pair    the cluster's own key                             passphrases  keys that have one
//! transport   scripts over such a connection
//! tunnel      a closed port of a host, brought to this machine
//! causes      what ssh says -> the cause, and what to do next
//! ```
//! The operator's `~/.ssh/config` holds: names, ports, users, keys and jump hosts from there work.
//! Host keys are the cluster's own matter: they are kept in `.raftctl/<cluster>/known_hosts`,
//! accepted at the first contact, and refused when they change.
//!
//! Deliberately absent: passwords, terminals and agent forwarding.

mod causes;
mod channel;
mod connection;
mod envelope;
mod gate;
pub mod key_pair;
pub mod login;
mod passphrases;
mod session;
mod sockets;
pub mod transport;
pub mod tunnel;

pub use causes::is_changed_key;
pub use connection::hang_up;
pub use envelope::Rights;
pub use login::Login;
