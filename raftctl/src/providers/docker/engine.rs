//! The `docker` command.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use serde_json::Value;

use crate::error::{Error, Result};

/// A docker command whose engine answers.
pub struct Engine;

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Its name.
    pub name: String,
    /// Whether it runs, and is not paused.
    pub is_running: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address in each of its networks; empty while it does not run.
    pub addresses: BTreeMap<String, String>,
    /// Which network it means by each name: one of that name may have been made anew.
    pub network_ids: BTreeMap<String, String>,
}

impl Engine {
    /// The command that is there.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self> {
        match Command::new("docker").arg("--version").output() {
            Ok(_) => Ok(Engine),
            Err(error) => Err(Error::Cloud(format!(
                "docker can't be started: {error}; install it (Debian: `apt install docker.io`), \
                 or write provider: local"
            ))),
        }
    }

    /// Runs docker; what it printed.
    ///
    /// # Errors
    /// It failed; with its own words.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let output = output(words, "", DEADLINE)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(failed(words, &String::from_utf8_lossy(&output.stderr)))
    }

    /// The last that a container printed, on both of its outputs.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let output = output(&["logs", "--tail", "5", name], "", DEADLINE);
        let text = output.map(|output| [output.stdout, output.stderr].concat());
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    /// Builds an image from the text of a Dockerfile, within `deadline`.
    ///
    /// # Errors
    /// It can't be built; with the last that the build printed.
    pub fn build(&self, flags: &[&str], dockerfile: &str, deadline: Duration) -> Result<()> {
        let words = [&["build"], flags, &["-"]].concat();
        let output = output(&words, dockerfile, deadline)?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().take(8).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let failed = failed(&words, &last.join("\n"));
        Err(failed.advise(
            "the image is built from `docker.image` in cluster.yaml, or debian:bookworm-slim: see \
             whether `docker pull` gets that, or name an image that is here (`docker images`)"
                .into(),
        ))
    }

    /// Whether there is an image, network or container of a name.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn has(&self, kind: &str, name: &str) -> Result<bool> {
        Ok(self.id(kind, name)?.is_some())
    }

    /// The engine's own name for an image, network or container.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn id(&self, kind: &str, name: &str) -> Result<Option<String>> {
        match self.run(&[kind, "inspect", "--format", "{{.ID}}", name]) {
            Ok(id) => Ok(Some(id)),
            // It says so in more than one way; what it says when it does not answer is another.
            Err(Error::Cloud(text)) if text.to_lowercase().contains("no such") => Ok(None),
            Err(Error::Cloud(text)) if text.contains("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a thing of a name is there with these labels.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn is_labelled(&self, kind: &str, name: &str, labels: &[String]) -> Result<bool> {
        if !self.has(kind, name)? {
            return Ok(false);
        }
        let format = match kind {
            "network" => "{{json .Labels}}",
            _ => "{{json .Config.Labels}}",
        };
        let text = self.run(&[kind, "inspect", "--format", format, name])?;
        let found: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        let has = |label: &String| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            found.get(key).is_some_and(|own| own == value)
        };
        Ok(labels.iter().all(has))
    }

    /// All containers that pass the filters, running or not.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn inspect(&self, filters: &[String]) -> Result<Vec<Inspected>> {
        let mut words = vec!["ps", "--all", "--quiet"];
        words.extend(
            filters
                .iter()
                .flat_map(|filter| ["--filter", filter.as_str()]),
        );
        let ids = self.run(&words)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut words = vec!["container", "inspect"];
        words.extend(ids.lines());
        let text = self.run(&words)?;
        let list: Vec<Value> = serde_json::from_str(&text)
            .map_err(|error| Error::Cloud(format!("docker inspect makes no sense: {error}")))?;
        Ok(list.iter().filter_map(read).collect())
    }
}

/// How long the engine may take for anything but building an image.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs docker with a small input, and ends it when the engine does not answer within `deadline`.
fn output(words: &[&str], input: &str, deadline: Duration) -> Result<Output> {
    output_of("docker", words, input, deadline)
}

fn output_of(program: &str, words: &[&str], input: &str, deadline: Duration) -> Result<Output> {
    let started = |error: std::io::Error| Error::Cloud(format!("docker can't be started: {error}"));
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(started)?;
    if let Some(mut pipe) = child.stdin.take() {
        // Where it does not want to read, it says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let pid = Pid::from_child(&child);
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    match heard.recv_timeout(deadline) {
        Ok(output) => output.map_err(started),
        Err(_) => {
            // It has not been waited for, so the number is still its own.
            let _ = kill_process(pid, Signal::KILL);
            let command = words.first().copied().unwrap_or_default();
            Err(Error::Cloud(format!(
                "docker {command}: no answer within {} s; see whether `docker ps` answers, and \
                 restart the engine if not (`systemctl restart docker`)",
                deadline.as_secs()
            )))
        }
    }
}

fn read(container: &Value) -> Option<Inspected> {
    let texts = |value: &Value, field: Option<&str>| -> BTreeMap<String, String> {
        let entries = value.as_object().into_iter().flatten();
        let text = |value: &Value| match field {
            Some(field) => value[field].as_str().map(str::to_owned),
            None => value.as_str().map(str::to_owned),
        };
        entries
            .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
            .collect()
    };
    Some(Inspected {
        name: container["Name"]
            .as_str()?
            .trim_start_matches('/')
            .to_owned(),
        is_running: container["State"]["Running"].as_bool()?
            && container["State"]["Paused"] != Value::Bool(true),
        labels: texts(&container["Config"]["Labels"], None),
        addresses: texts(&container["NetworkSettings"]["Networks"], Some("IPAddress")),
        network_ids: texts(&container["NetworkSettings"]["Networks"], Some("NetworkID")),
    })
}

fn failed(words: &[&str], said: &str) -> Error {
    let said = match said.trim() {
        "" => "it failed without a word; try `docker version`",
        said => said,
    };
    let advice = if said
        .contains("Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
    {
        "; start it (`systemctl start docker`), and try `docker version`"
    } else if said.contains("Cannot connect to the Docker daemon at") {
        "; your shell (DOCKER_HOST) or docker's context names that engine: start it there, or go back to \
         this machine's (`unset DOCKER_HOST`, `docker context use default`)"
    } else if said.contains("permission denied") {
        "; add yourself to the group docker, or use sudo, and try `docker version`"
    } else {
        ""
    };
    let command = words.first().copied().unwrap_or_default();
    Error::Cloud(format!("docker {command}: {said}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // An engine that does not answer is not waited for without end; one that does is read.
    #[test]
    fn an_engine_that_does_not_answer_is_given_up() {
        let answer = output_of("cat", &[], "FROM scratch", Duration::from_secs(60)).unwrap();
        assert_eq!(answer.stdout, b"FROM scratch");
        let silent = output_of("sleep", &["1000"], "", Duration::from_millis(50));
        let said = silent.unwrap_err().to_string();
        assert!(said.contains("no answer within"), "{said}");
    }

    // An engine that is not there is started where it is this machine's; another one is somebody's choice.
    #[test]
    fn an_absent_engine_says_whose_it_is() {
        let told = |at: &str| {
            let said = format!("Cannot connect to the Docker daemon at {at}. Is it running?");
            failed(&["ps"], &said).to_string()
        };
        let own = told("unix:///var/run/docker.sock");
        assert!(own.contains("`systemctl start docker`"), "{own}");
        let other = told("tcp://10.0.0.1:2375");
        assert!(other.contains("`unset DOCKER_HOST`"), "{other}");
        assert!(!other.contains("systemctl"), "{other}");
    }

    // What the engine tells of a container is read; a stopped one has no address.
    #[test]
    fn containers_are_read() {
        let text = r#"{"Name": "/raftctl-demo-1", "State": {"Running": true},
            "Config": {"Labels": {"raftctl.node": "1"}},
            "NetworkSettings": {"Networks": {"raftctl-demo":
                {"IPAddress": "172.18.0.2", "NetworkID": "12ab"}}}}"#;
        let container = read(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(container.name, "raftctl-demo-1");
        assert!(container.is_running);
        assert_eq!(container.labels["raftctl.node"], "1");
        assert_eq!(container.addresses["raftctl-demo"], "172.18.0.2");
        assert_eq!(container.network_ids["raftctl-demo"], "12ab");
    }
}
