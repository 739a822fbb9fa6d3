//! The notation of scenario files, without what plays them.

#[path = "../../../raftctl/src/scenario/amounts.rs"]
pub mod amounts;
#[path = "../../../raftctl/src/scenario/file.rs"]
pub mod file;
#[path = "../../../raftctl/src/scenario/notation.rs"]
pub mod notation;
