//! The host keys that guest agents have written down at Google.
//!
//! gcloud tells them of one machine a call, and each call takes seconds of a processor: five machines would
//! take longer than their making takes Terraform. So gcloud is asked for a token alone, which may happen
//! while something else is waited for, and curl for the keys. Where that does not work (no curl, a proxy or an
//! endpoint that gcloud alone knows), gcloud is asked after all.
//!
//! The token is nowhere but in memory and in a pipe to curl: not among arguments, which others see.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::Gcloud;
use super::answers::parsed;
use super::command::Call;
use crate::error::{Error, Result};
use crate::providers::gcp::machines::Machine;

/// Where Google's API is, unless gcloud is told otherwise by the variable.
const ENDPOINT: &str = "https://compute.googleapis.com/compute/v1/";
const ENDPOINT_VARIABLE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE";

/// What curl is given; the question itself takes a tenth of a second.
const ASKING_TIME_MAX: Duration = Duration::from_secs(20);

/// curl without a configuration of the operator's, which might let it trust anybody; what it is to ask comes in
/// a pipe. The status is on the last line.
const CURL: [&str; 6] = [
    "--disable",
    "--silent",
    "--write-out",
    "\n%{http_code}",
    "--config",
    "-",
];

/// A host key that a guest agent has written down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HostKey {
    /// `ssh-ed25519`.
    #[serde(rename = "key")]
    pub kind: String,
    /// The key itself, as in a file of known hosts.
    pub value: String,
}

/// What lets whoever has it ask Google for an hour.
#[derive(Clone)]
pub struct Token(String);

impl Gcloud {
    /// A token of the account that gcloud works with.
    ///
    /// # Errors
    /// There are no credentials; or it is nothing that can be handed on.
    pub async fn token(&self) -> Result<Token> {
        let arguments = ["auth", "print-access-token"];
        let call = Call::question("ask as gcloud's account", &arguments).anywhere();
        let text = self.run(&call).await?;
        let token = text.trim();
        // It is to stand within quotes.
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if token.is_empty() || !token.bytes().all(fits) {
            return Err(Error::Cloud("gcloud prints no token".into()));
        }
        Ok(Token(token.to_owned()))
    }

    /// The host keys that the guest agent of a machine has written down.
    ///
    /// # Errors
    /// There are none, or Google does not tell.
    pub async fn host_keys(
        &self,
        machine: &Machine,
        token: Option<&Token>,
    ) -> Result<Vec<HostKey>> {
        if let Some(token) = token
            && let Some(keys) = self.asked_directly(machine, token).await
        {
            return Ok(keys);
        }
        let zone = format!("--zone={}", machine.zone);
        let arguments = [
            "compute",
            "instances",
            "get-guest-attributes",
            &machine.instance,
            &zone,
            "--query-path=hostkeys/",
            "--format=json",
        ];
        let json = self
            .run(&Call::question("look at a machine's host keys", &arguments))
            .await?;
        parsed(&json)
    }

    /// What Google itself says, where it can be asked.
    async fn asked_directly(&self, machine: &Machine, token: &Token) -> Option<Vec<HostKey>> {
        let endpoint = std::env::var(ENDPOINT_VARIABLE).unwrap_or_else(|_| ENDPOINT.into());
        let config = question(&endpoint, &self.project, machine, token);
        let answer = tokio::time::timeout(ASKING_TIME_MAX, curl(&config));
        answered(&answer.await.ok()?.ok()?)
    }
}

/// What curl is to ask, in its own words.
fn question(endpoint: &str, project: &str, machine: &Machine, token: &Token) -> String {
    let Machine { instance, zone, .. } = machine;
    let endpoint = endpoint.trim_end_matches('/');
    format!(
        "url = \"{endpoint}/projects/{project}/zones/{zone}/instances/{instance}/getGuestAttributes?queryPath=hostkeys%2F\"\n\
         header = \"Authorization: Bearer {}\"\n",
        token.0
    )
}

async fn curl(config: &str) -> std::io::Result<String> {
    let mut child = tokio::process::Command::new("curl")
        .args(CURL)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(config.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What Google has answered, its status on the last line: the keys, or that there are none. Anything else says
/// nothing of them.
fn answered(text: &str) -> Option<Vec<HostKey>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        query_value: Items,
    }
    #[derive(Deserialize)]
    struct Items {
        items: Vec<HostKey>,
    }
    let (json, status) = text.rsplit_once('\n')?;
    match status {
        "200" => parsed::<Answer>(json)
            .ok()
            .map(|answer| answer.query_value.items),
        // A page of a proxy's speaks of something else.
        "404"
            if ["guestAttributes", "Guest Attribute"]
                .iter()
                .any(|word| json.contains(word)) =>
        {
            Some(Vec::new())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Only what Google itself has said counts; a proxy's page, another status or half an answer does not.
    #[test]
    fn only_an_answer_counts() {
        let keys = r#"{"queryPath": "hostkeys/", "queryValue": {"items": [
            {"namespace": "hostkeys", "key": "ssh-ed25519", "value": "AAAA"}]}}"#;
        let key = HostKey {
            kind: "ssh-ed25519".into(),
            value: "AAAA".into(),
        };
        assert_eq!(answered(&format!("{keys}\n200")), Some(vec![key]));
        let none = r#"{"error": {"code": 404, "message": "The resource 'projects/p/zones/z/instances/n/guestAttributes/hostkeys/' was not found"}}"#;
        assert_eq!(answered(&format!("{none}\n404")), Some(Vec::new()));
        for other in [
            "".to_owned(),
            "\n000".to_owned(),
            "<html>\n200".to_owned(),
            "<html>not here</html>\n404".to_owned(),
            format!("{keys}\n502"),
            format!("{}\n200", &keys[..40]),
        ] {
            assert_eq!(answered(&other), None, "{other}");
        }
    }

    // The endpoint may end with a slash or not; the token is in what curl reads, and not among its arguments.
    #[test]
    fn curl_is_told_in_a_pipe() {
        let machine = Machine {
            instance: "raft-demo-n1".into(),
            zone: "us-central1-a".into(),
            region: "us-central1".into(),
            internal_ip: "10.80.0.2".into(),
            external_ip: None,
            data_disk: "raft-demo-n1-data".into(),
        };
        let token = Token("ya29.x".into());
        let asked = question(ENDPOINT, "my-project", &machine, &token);
        assert_eq!(
            asked,
            "url = \"https://compute.googleapis.com/compute/v1/projects/my-project/zones/us-central1-a/instances/\
             raft-demo-n1/getGuestAttributes?queryPath=hostkeys%2F\"\nheader = \"Authorization: Bearer ya29.x\"\n"
        );
        let bare = ENDPOINT.trim_end_matches('/');
        assert_eq!(question(bare, "my-project", &machine, &token), asked);
        assert_eq!(CURL[0], "--disable"); // It counts in the first place only.
    }
}
