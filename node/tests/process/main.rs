//! The node as a process: what its operators and clients see.

mod clients;
mod clocks;
mod cluster;
mod connections;
mod crashes;
mod files;
mod overload;
mod partitions;
mod pauses;
mod room;
mod standards;
mod starts;
