//! The node as a process: what its operators and clients see.

mod backups;
mod clients;
mod clocks;
mod cluster;
mod connections;
mod crashes;
mod damage;
mod files;
mod kills;
mod members;
mod metrics;
mod overload;
mod partitions;
mod pauses;
mod refusals;
mod room;
mod scraping;
mod snapshots;
mod standards;
mod starts;
mod upgrades;
