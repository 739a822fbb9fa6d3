//! The Terraform module, carried within raftctl.

use std::path::Path;

use crate::error::{Error, Result};
use crate::local::state_files;

/// The files of the module, as they are in the folder `terraform/` of the source.
const FILES: [(&str, &str); 5] = [
    (
        "versions.tf",
        include_str!("../../../../terraform/versions.tf"),
    ),
    (
        "variables.tf",
        include_str!("../../../../terraform/variables.tf"),
    ),
    ("main.tf", include_str!("../../../../terraform/main.tf")),
    (
        "outputs.tf",
        include_str!("../../../../terraform/outputs.tf"),
    ),
    (
        "startup.sh",
        include_str!("../../../../terraform/startup.sh"),
    ),
];

/// What is to be taken in, while a plan is made that does so.
pub const IMPORTS_FILE: &str = "imports.tf";

/// Says where the state is kept, where that is not a file beside the module.
const BACKEND_FILE: &str = "backend.tf";

/// Writes the module into a folder, beside whatever Terraform keeps there. A file that is as it
/// should be is not touched.
///
/// # Errors
/// The folder or a file can't be written.
pub fn write(directory: &Path, cluster: &str, state_bucket: Option<&str>) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| Error::file("make", directory, &error))?;
    for (name, text) in FILES {
        put(&directory.join(name), text)?;
    }
    // What an ended raftctl has left: what it names may be gone, and then no plan can be made.
    state_files::forget(&directory.join(IMPORTS_FILE))?;
    let backend = directory.join(BACKEND_FILE);
    match state_bucket {
        Some(bucket) => put(&backend, &backend_text(bucket, cluster)),
        None => state_files::forget(&backend),
    }
}

fn backend_text(bucket: &str, cluster: &str) -> String {
    // Quoted as JSON, which HCL reads alike for names without templates; both names have a narrow
    // alphabet.
    let (bucket, prefix) = (quoted(bucket), quoted(&format!("raftctl/{cluster}")));
    format!(
        "terraform {{\n  backend \"gcs\" {{\n    bucket = {bucket}\n    prefix = {prefix}\n  }}\n}}\n"
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn put(path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    std::fs::write(path, text).map_err(|error| Error::file("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The module lies complete in the folder, and a bucket becomes a backend and goes again.
    #[test]
    fn the_module_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("terraform");
        write(&folder, "demo", Some("my-bucket")).unwrap();
        let backend = std::fs::read_to_string(folder.join("backend.tf")).unwrap();
        assert!(backend.contains("bucket = \"my-bucket\""), "{backend}");
        assert!(backend.contains("prefix = \"raftctl/demo\""), "{backend}");
        for (name, text) in FILES {
            assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), text);
        }
        write(&folder, "demo", None).unwrap();
        assert!(!folder.join("backend.tf").exists());
    }
}
