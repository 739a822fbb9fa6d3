//! A stand-in for Google Cloud under real Terraform.
//!
//! Google's provider can't be fetched where the tests run, and no cloud is reached from there. So
//! this program serves Terraform's provider protocol itself, with the six resource types that the
//! module beside it uses, and keeps what "Google" holds in one JSON file. Terraform is told of it
//! by `TF_REATTACH_PROVIDERS`, and neither Terraform nor the module can tell the difference.
//!
//! ```text
//! value      Terraform's values, to and from MessagePack and JSON
//! schema     how a resource type is described; the description on the wire
//! resources  the six resource types, attribute by attribute
//! plan       (schema, configuration, prior state) -> planned state, what needs replacing: pure
//! google     what Google holds: creating, updating, deleting
//! world      Google's rules: what it refuses and decides, and what uses what
//! operations changes that take their time, whoever waits for them
//! faults     the failures that a test can order, in Google's words
//! policies   what an organization forbids, where a test says so
//! orders     the file in which it orders them, and how long things take
//! hook       the command that turns an instance into a test host
//! apply      what the provider does when a plan is carried out
//! provider   the protocol, joined to the above
//! server     all of it on one address, as a program or within a test
//! rest       the calls of the Compute REST API that gcloud makes for raftctl
//! bucket     the few calls of Cloud Storage that Terraform makes to keep its state in a bucket
//! ```
//!
//! Deliberately absent: data sources, moves, functions, attributes that the module doesn't
//! use, and every resource type but those six.

pub mod apply;
pub mod bucket;
pub mod faults;
pub mod google;
pub mod hook;
pub mod operations;
pub mod orders;
pub mod plan;
pub mod policies;
pub mod provider;
pub mod resources;
pub mod rest;
pub mod schema;
pub mod server;
pub mod value;
pub mod world;

/// Messages and service of the protocol, generated from `proto/tfplugin6.proto`.
#[allow(missing_docs, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("tfplugin6");
}
