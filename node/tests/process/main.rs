//! The node as a process: what its operators and clients see.

#[path = "../support/authority.rs"]
#[allow(dead_code)]
mod authority;
mod backups;
mod clients;
mod clocks;
mod cluster;
mod connections;
mod crashes;
mod damage;
mod files;
mod hostile;
mod kills;
mod members;
mod membership;
mod metrics;
mod newcomers;
mod overload;
mod partitions;
mod pauses;
mod proofs;
mod refusals;
mod room;
mod scraping;
mod secured;
mod snapshots;
mod standards;
mod starts;
mod tls;
mod tls_changes;
mod upgrades;
