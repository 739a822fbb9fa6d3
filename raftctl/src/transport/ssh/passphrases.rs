//! Keys that have a passphrase. raftctl asks nobody for one, so ssh leaves such a key aside without a
//! word, and the host says no more than that it lets nobody in.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::login::Login;

/// What begins a private key in OpenSSH's own form, inside its base64.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// How long ssh and its agent may take to say what they know.
const DEADLINE: Duration = Duration::from_secs(5);

/// A private key that can't be used without its passphrase.
#[derive(Debug, PartialEq, Eq)]
struct Locked {
    /// Its public half in base64, where the file holds it in the clear.
    public: Option<String>,
}

/// Reads a private key; `None` where it has no passphrase, or is none.
fn locked(text: &str) -> Option<Locked> {
    if text.contains("ENCRYPTED") {
        return Some(Locked { public: None });
    }
    let body = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----")?.1;
    let body: String = body.split_once("-----END")?.0.split_whitespace().collect();
    let bytes = STANDARD.decode(body).ok()?;
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let cipher = field(&mut rest)?;
    if cipher == b"none" {
        return None;
    }
    let (_derivation, _options) = (field(&mut rest)?, field(&mut rest)?);
    rest = rest.get(4..)?; // How many keys: one.
    let public = field(&mut rest).map(|public| STANDARD.encode(public));
    Some(Locked { public })
}

/// A length of four bytes, and as many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let value = after.get(..length)?;
    *rest = &after[length..];
    Some(value)
}

/// What to do about keys that ssh would have used and could not. Nothing where there are none.
pub async fn advice(login: &Login) -> Option<String> {
    let held = output_of("ssh-add", &["-L".into()])
        .await
        .unwrap_or_default();
    let files = match &login.identity_file {
        Some(file) => vec![file.clone()],
        None => configured(login).await,
    };
    let is_locked = |file: &&PathBuf| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let locked = locked(&text);
        locked.is_some_and(|key| !is_held(&key, file, &held))
    };
    let file = files.iter().find(is_locked)?.display();
    Some(format!(
        "the key {file} has a passphrase, which nobody is asked for here: unlock it for ssh's agent \
         with `ssh-add {file}` (`eval $(ssh-agent)` starts one)"
    ))
}

/// Whether the agent has a key already: then that is not it.
fn is_held(key: &Locked, file: &Path, held: &str) -> bool {
    let beside = std::fs::read_to_string(with_pub(file)).unwrap_or_default();
    let beside = beside.split_whitespace().nth(1).map(str::to_owned);
    let public = key.public.clone().or(beside);
    public.is_some_and(|public| held.split_whitespace().any(|word| word == public))
}

fn with_pub(file: &Path) -> PathBuf {
    let mut name = file.to_owned().into_os_string();
    name.push(".pub");
    name.into()
}

/// The keys that ssh's configuration names for a host.
async fn configured(login: &Login) -> Vec<PathBuf> {
    let mut words = vec!["-G".to_owned()];
    words.extend(login.command_words().into_iter().skip(1));
    let text = output_of("ssh", &words).await.unwrap_or_default();
    let home = std::env::home_dir();
    let path = |name: &str| match (name.strip_prefix("~/"), &home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    };
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("identityfile "));
    names.map(path).collect()
}

async fn output_of(program: &str, words: &[String]) -> Option<String> {
    let asking = tokio::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, asking).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Real keys: one with a passphrase is known by its file, and told unless the agent has it.
    #[tokio::test]
    async fn a_key_with_a_passphrase_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, passphrase: &str, form: &[&str]| {
            let file = folder.path().join(name);
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-N", passphrase, "-f"])
                .arg(&file)
                .args(form)
                .status();
            made.is_ok_and(|status| status.success()).then_some(file)
        };
        let Some(open) = make("open", "", &["-t", "ed25519"]) else {
            return eprintln!("LEFT OUT: no ssh-keygen; install the package openssh-client");
        };
        let shut = make("shut", "secret", &["-t", "ed25519"]).unwrap();
        let pem = ["-t", "rsa", "-b", "2048", "-m", "PEM"];
        let old = make("old", "secret", &pem).unwrap();
        let read = |file: &PathBuf| locked(&std::fs::read_to_string(file).unwrap());
        assert_eq!(read(&open), None);
        assert_eq!(locked("nonsense"), None);
        assert_eq!(read(&old), Some(Locked { public: None }));
        let key = read(&shut).unwrap();
        let public = std::fs::read_to_string(with_pub(&shut)).unwrap();
        assert_eq!(key.public.as_deref(), public.split_whitespace().nth(1));
        assert!(is_held(&key, &shut, &public));
        assert!(is_held(&read(&old).unwrap(), &shut, &public));
        assert!(!is_held(&key, &shut, ""));
        let login = Login::to("n1", "/nowhere/ssh_config".into());
        let told = |file| {
            let login = Login {
                identity_file: Some(file),
                ..login.clone()
            };
            async move { advice(&login).await }
        };
        let advice = told(shut.clone()).await.unwrap();
        let command = format!("`ssh-add {}`", shut.display());
        assert!(advice.contains(&command), "{advice}");
        assert_eq!(told(open).await, None);
    }
}
