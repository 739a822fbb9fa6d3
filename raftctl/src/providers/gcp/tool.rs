//! Finding Terraform, or OpenTofu in its place.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;

use super::environment;
use crate::error::{Error, Result};

/// The oldest version that the module works with.
const VERSION_MIN: (u32, u32) = (1, 5);

/// Printing a version takes a fraction of a second; a slow disk may need some.
const VERSION_TIME_MAX: Duration = Duration::from_secs(30);

/// A program that drives the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// `terraform` or `tofu`.
    pub program: String,
    /// Its version.
    pub version: String,
}

#[derive(Deserialize)]
struct Version {
    terraform_version: String,
}

impl Tool {
    /// Looks for `terraform`, then for `tofu`, in the folders of `PATH`.
    ///
    /// # Errors
    /// Neither is there, or it is too old.
    pub async fn find() -> Result<Tool> {
        for program in ["terraform", "tofu"] {
            if let Some(version) = version(program).await? {
                return checked(program, &version);
            }
        }
        Err(Error::Cloud(
            "neither terraform nor tofu is installed; get one at https://developer.hashicorp.com/terraform/install \
             or https://opentofu.org/docs/intro/install and run this again"
                .into(),
        ))
    }
}

/// The version of a program; `None` where there is no such program.
async fn version(program: &str) -> Result<Option<String>> {
    let mut command = tokio::process::Command::new(program);
    command
        .args(["version", "-json"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    environment::for_terraform(&mut command);
    let output = match tokio::time::timeout(VERSION_TIME_MAX, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) => return Err(Error::Cloud(format!("cannot run {program}: {error}"))),
        Err(_) => {
            return Err(Error::Cloud(format!(
                "`{program} version` does not end; run it by hand"
            )));
        }
    };
    let version = serde_json::from_slice::<Version>(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        Error::Cloud(format!(
            "`{program} version -json` does not tell a version: {}",
            said.trim()
        ))
    })?;
    Ok(Some(version.terraform_version))
}

fn checked(program: &str, version: &str) -> Result<Tool> {
    let mut numbers = version
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        return Err(Error::Cloud(format!(
            "{program} {version} is too old: {major}.{minor} or newer is needed; install a newer one and run this again"
        )));
    }
    Ok(Tool {
        program: program.into(),
        version: version.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Old versions are refused by number, not by text: 1.11 is newer than 1.5.
    #[test]
    fn versions_are_numbers() {
        assert!(checked("terraform", "1.11.4").is_ok());
        assert!(checked("tofu", "1.5.0").is_ok());
        assert!(checked("terraform", "2.0.0-beta1").is_ok());
        for old in ["1.4.7", "0.15.5"] {
            let text = checked("terraform", old).unwrap_err().to_string();
            assert!(text.contains("1.5 or newer"), "{text}");
        }
    }

    // A program that is not there is no error by itself.
    #[tokio::test]
    async fn a_missing_program_is_not_there() {
        assert_eq!(version("no-such-terraform").await.unwrap(), None);
    }
}
