//! Open files: how many this process may have, and how they are shared out. Every connection
//! takes one, and so does the disk whenever it replaces a file; a node that has none left for its
//! disk could not go on, so clients get only what nobody else needs.

use super::Failure;
use crate::command::MEMBERS_MAX;
use crate::rpc::Places;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// For everything that is no connection: standard streams, sockets that listen, the runtime, the
/// lock, the port of the metrics and its scrapers, the log, the dump and its rotation, a file that is being replaced and its directory, and
/// for each socket a connection that has no place yet.
const OTHER_FILES: usize = 50;
/// Connections of one peer: the one in each direction, and older ones that are not closed yet.
const PEER_FILES: usize = 4;
/// Places on the peers' socket for others than peers, who are sent away as soon as they greet, ...
const STRANGERS: usize = 16;
/// ... and who have to greet within this time: a peer does at once.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Places on the clients' socket to which only the calls of operators come.
const OPERATORS: usize = 8;
/// Fewer places for clients than this are of no use.
const CLIENT_PLACES_MIN: usize = 16;
/// More are not given, however many files there may be: each connection takes memory, too.
const CLIENT_PLACES_MAX: usize = 4096;

/// How many connections each socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) peers: Places,
    pub(super) clients: Places,
}

/// Raises the limit as far as this process may, and shares it out: for as many members as a cluster may come
/// to have, or where that is too much, for those that this node was started with.
pub(super) fn shares(members: usize) -> Result<Shares, Failure> {
    let files = raise_limit();
    let grown = share_out(files, members.max(MEMBERS_MAX));
    grown.or_else(|_| share_out(files, members))
}

/// The soft limit is often low, for the sake of programs that can't use more; the hard one is
/// what the operator allows.
fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where the kernel refuses (macOS, when the hard limit is infinite), what there is must do.
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    // `None`: without a limit.
    let files = current.and_then(|files| usize::try_from(files).ok());
    files.unwrap_or(usize::MAX)
}

fn share_out(files: usize, members: usize) -> Result<Shares, Failure> {
    let peers = STRANGERS + PEER_FILES * members;
    let reserved = OTHER_FILES + peers + members + OPERATORS;
    let needed = reserved + CLIENT_PLACES_MIN;
    match files.checked_sub(reserved) {
        Some(left) if left >= CLIENT_PLACES_MIN => Ok(Shares {
            peers: Places {
                all: peers,
                operators: 0,
                idle_max: Some(GREETING_MAX),
            },
            clients: Places {
                all: left.min(CLIENT_PLACES_MAX),
                operators: OPERATORS,
                idle_max: None,
            },
        }),
        _ => Err(Failure::TooFewFiles { files, needed }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whatever the limit is, all connections together leave enough for the disk; below a minimum
    // the node does not start.
    #[test]
    fn connections_leave_room_for_the_disk() {
        for files in [160, 256, 1024, 65_536] {
            let Shares { peers, clients } = share_out(files, 5).unwrap();
            assert!((CLIENT_PLACES_MIN..=CLIENT_PLACES_MAX).contains(&clients.all));
            let connections = peers.all + peers.operators + clients.all + clients.operators;
            assert!(connections + 5 + OTHER_FILES <= files, "{files}");
        }
        let unlimited = share_out(usize::MAX, 5).unwrap();
        assert_eq!(unlimited.clients.all, CLIENT_PLACES_MAX);
        let refused = share_out(64, 5).unwrap_err().to_string();
        assert!(
            refused.contains("64") && refused.contains("115"),
            "{refused}"
        );
    }
}
