//! Compiles the files below `proto/raftkv/` with protox, so that no `protoc` has to be installed.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 3] = [
    "raftkv/raft/v1/raft.proto",
    "raftkv/v1/kv.proto",
    "raftkv/admin/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // The reflection service answers from these bytes.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::Counted")
        .compile_fds(descriptors)?;
    Ok(())
}
