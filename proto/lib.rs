//! The wire: what nodes say to each other ([`raft`]), what clients say to nodes ([`kv`]) and
//! what operators say to nodes ([`admin`]). Generated from `proto/*.proto`; nothing else is here,
//! so that the node and the operator tool share the wire and nothing more.

#![allow(missing_docs)] // The generated items carry the comments of the .proto files.

/// Node to node: one long-lived stream a peer (`proto/raft.proto`).
pub mod raft {
    tonic::include_proto!("raftkv.raft.v1");
}

/// Clients: the typed API and the classic `ServeClient` (`proto/kv.proto`).
pub mod kv {
    tonic::include_proto!("raftkv.v1");
}

/// Operators: status, transfer of leadership, fault injection (`proto/admin.proto`).
pub mod admin {
    tonic::include_proto!("raftkv.admin.v1");
}

/// The encoded `FileDescriptorSet` of all three files, for the gRPC reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// Longest value, in bytes of UTF-8.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Most operations in one [`kv::PipelineRequest`].
pub const PIPELINE_OPERATIONS_MAX: usize = 4096;

/// Longest message that a node takes from a client of `Kv`, in bytes: more than any operation
/// needs by itself.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Metadata key that carries the believed leader's id on an error.
pub const LEADER_ID_METADATA: &str = "raft-leader-id";

/// Metadata key that carries the believed leader's client address (`host:port`) on an error.
pub const LEADER_ADDRESS_METADATA: &str = "raft-leader-address";

/// Metadata key that carries the [`kv::ErrorReason`] of an error, by its name in the .proto file.
pub const REASON_METADATA: &str = "raft-error-reason";
