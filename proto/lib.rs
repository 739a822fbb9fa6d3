//! The wire: what nodes say to each other ([`raft`]), what clients say to nodes ([`kv`]) and
//! what operators say to nodes ([`admin`]). Generated from the files below `proto/raftkv/`; beside
//! that here is only what both need of it, so that the node and the operator tool share the wire and nothing more.

#![allow(missing_docs)] // The generated items carry the comments of the .proto files.

mod codec;
mod members;
mod operations;

/// Node to node: one long-lived stream a peer (`raftkv/raft/v1/raft.proto`).
pub mod raft {
    tonic::include_proto!("raftkv.raft.v1");
}

/// Clients: the typed API and the classic `ServeClient` (`raftkv/v1/kv.proto`).
pub mod kv {
    tonic::include_proto!("raftkv.v1");
}

/// Operators: status, transfer of leadership, fault injection (`raftkv/admin/v1/admin.proto`).
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

/// Metadata key under which a client names the configuration that it knows ([`kv::ClusterMembers`]).
pub const MEMBERS_METADATA: &str = "raftkv-members";

/// Metadata key of the [`kv::ClusterMembers`] that a node answers with where it knows of a later one.
pub const MEMBERS_METADATA_BIN: &str = "raftkv-members-bin";

/// Most sessions that a node keeps, of all clients together.
pub const SESSIONS_MAX: usize = 4096;

/// How far the unanswered writes of one session may be apart, and so how many there may be (see
/// [`kv::RequestId`]).
pub const SESSION_WINDOW: usize = 256;

/// How long a lease may be, in milliseconds.
pub const LEASE_MS: std::ops::RangeInclusive<u64> = 2_000..=10_000;

/// Client ids that `OpenSession` gives out are lower, so that a client whose numbers are doubles
/// sends back the one it was given.
pub const CLIENT_ID_END: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::{FileDescriptorProto, FileDescriptorSet};

    fn files() -> Vec<FileDescriptorProto> {
        FileDescriptorSet::decode(DESCRIPTORS).unwrap().file
    }

    // Stubs live in one process with those of other projects: protobuf's registries go by the path
    // of a file, and others have a kv.proto as well.
    #[test]
    fn files_stand_where_their_package_says() {
        let mut packages = Vec::new();
        for file in files() {
            let (directory, _) = file.name().rsplit_once('/').unwrap();
            assert_eq!(directory.replace('/', "."), file.package());
            packages.push(file.package().to_owned());
        }
        packages.sort();
        // What is on the wire stays as it is.
        assert_eq!(packages, ["raftkv.admin.v1", "raftkv.raft.v1", "raftkv.v1"]);
    }

    // Each language's generator finds a package for what it makes, without a flag for it.
    #[test]
    fn files_name_their_packages_in_other_languages() {
        for file in files() {
            let options = file.options.as_ref().unwrap();
            let path = file.package().replace('.', "/");
            assert!(
                options.go_package().starts_with(&format!("{path};")),
                "{path}"
            );
            assert_eq!(options.java_package(), file.package());
            assert!(options.java_multiple_files());
            let namespace = options.csharp_namespace().to_lowercase();
            assert_eq!(namespace, file.package());
        }
    }

    // A message must not hide what a language calls by the same name.
    #[test]
    fn no_message_hides_a_name_of_a_language() {
        for file in files() {
            for message in &file.message_type {
                let taken = [
                    "Error",
                    "Exception",
                    "Object",
                    "String",
                    "Number",
                    "Promise",
                    "Map",
                ];
                assert!(!taken.contains(&message.name()), "{}", message.name());
            }
        }
    }
}
