//! What Terraform will go by.

use super::{Asking, Finding};

/// What Google's provider takes instead of the application default credentials, in its order.
const KEY_VARIABLES: [&str; 3] = [
    "GOOGLE_CREDENTIALS",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GCLOUD_KEYFILE_JSON",
];

impl Asking<'_> {
    /// Whether Terraform will find credentials.
    pub(super) async fn credentials(&self) -> Finding {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let keys = KEY_VARIABLES.iter();
        if let Some((name, value)) = keys.filter_map(|name| Some((name, variable(name)?))).next() {
            return key_finding(name, &value);
        }
        if variable("GOOGLE_OAUTH_ACCESS_TOKEN").is_some() {
            let text =
                "the access token in GOOGLE_OAUTH_ACCESS_TOKEN; such a token lasts an hour at most";
            return Finding::good("credentials", text);
        }
        match self.one(self.gcloud.check_default_credentials()).await {
            Ok(()) => Finding::good("credentials", "application default credentials are valid"),
            Err(error) => Finding::bad("credentials", error.to_string()),
        }
    }
}

/// A key in a variable: the key itself, or the path of a file that holds it.
fn key_finding(name: &str, value: &str) -> Finding {
    let text = match value.trim_start().starts_with('{') {
        true => Ok(value.to_owned()),
        false => std::fs::read_to_string(value),
    };
    let key = text.map(|text| serde_json::from_str::<serde_json::Value>(&text));
    match key {
        Ok(Ok(_)) => Finding::good("credentials", format!("those of {name}")),
        Ok(Err(_)) => Finding::bad(
            "credentials",
            format!("{name} holds no key in JSON; unset it, or put a key or its file there"),
        ),
        Err(error) => Finding::bad(
            "credentials",
            format!("{name} names the file {value}: {error}; unset it, or correct it"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    // A key in the environment is what Terraform takes, whatever gcloud knows.
    #[test]
    fn keys_in_the_environment_count() {
        let verdict = |value: &str| key_finding("GOOGLE_CREDENTIALS", value).verdict;
        assert_eq!(verdict(r#"{"type": "service_account"}"#), Verdict::Good);
        assert_eq!(verdict("/nowhere/key.json"), Verdict::Wrong);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(verdict(&file.display().to_string()), Verdict::Good);
        std::fs::write(&file, "no key").unwrap();
        assert_eq!(verdict(&file.display().to_string()), Verdict::Wrong);
    }
}
