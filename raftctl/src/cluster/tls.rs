//! The key `tls`: whether everybody who connects needs a certificate.
//!
//! A file means the same for whoever reads it, and whatever runs: without the word it is `on` where nodes are on a
//! network, and `off` where they are on this machine alone. A cluster that was started in clear text is not changed by
//! what a file does not say: `up` refuses until one word or the other stands there.

use clap::ValueEnum;

use super::{Cluster, Provider, name_of};
use crate::error::problem::Problem;

/// The key that names an authority outside.
pub(super) const CA_KEY: &str = "tls_ca";

/// Who may connect to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// Whoever can reach their ports: nothing is encrypted, nobody is asked for a certificate
    Off,
    /// Both, while a cluster goes over to TLS or back
    Both,
    /// Whoever has a certificate of this cluster
    On,
}

impl Tls {
    /// What counts where the file does not say.
    #[must_use]
    pub fn default_of(provider: Provider) -> Self {
        match provider {
            Provider::Local => Tls::Off,
            Provider::Ssh | Provider::Docker | Provider::Gcp => Tls::On,
        }
    }

    /// Whether nodes need certificates.
    #[must_use]
    pub fn needs_certificates(self) -> bool {
        self != Tls::Off
    }

    /// The name, as written in cluster.yaml.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }
}

impl Cluster {
    /// The name that all nodes have in their certificates.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.raftkv", self.name)
    }

    /// What is worth a word about who may connect to the nodes; nothing where they are on one machine alone, or ask
    /// for certificates.
    #[must_use]
    pub fn clear_text_reminder(&self) -> Option<Problem> {
        if self.tls != Tls::Off || self.provider == Provider::Local {
            return None;
        }
        Some(Problem {
            line: self.tls_line.unwrap_or(0),
            message: "`tls: off`: the nodes speak clear text, and whoever reaches their ports may do everything".into(),
            hint: "leave the word out for a cluster that is yet to be made; one that is there goes over with `tls: both`, \
                   then `tls: on`, and `raftctl up` after each"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    // One word switches it; without the word it is on wherever nodes are on a network.
    #[test]
    fn one_word_switches_it() {
        let tls = |text: &str| {
            let file = format!("name: demo\nnodes: 3\n{text}");
            parse(&file, "cluster.yaml", "/".into(), &|_| None)
        };
        assert_eq!(tls("").unwrap().tls, Tls::Off);
        assert_eq!(tls("provider: docker").unwrap().tls, Tls::On);
        let gcp = "provider: gcp\ngcp: {project: my-project, zones: [us-central1-a]}";
        assert_eq!(tls(gcp).unwrap().tls, Tls::On);
        assert_eq!(tls(&format!("{gcp}\ntls: off")).unwrap().tls, Tls::Off);
        assert_eq!(tls("tls: off").unwrap().tls, Tls::Off);
        assert_eq!(tls("tls: both").unwrap().tls, Tls::Both);
        assert_eq!(tls("tls: on").unwrap().tls, Tls::On);
        assert_eq!(
            tls("tls: on\ntls_ca: ca/root.pem").unwrap().tls_ca,
            Some("/ca/root.pem".into())
        );
        let wrong = tls("tls: perhaps").unwrap_err().to_string();
        assert!(wrong.contains("tls can't be \"perhaps\""), "{wrong}");
    }

    // Clear text on a network is reminded of, with the way over; on one machine it is not.
    #[test]
    fn clear_text_on_a_network_is_reminded_of() {
        let reminder = |text: &str| {
            let file = format!("name: demo\n{text}");
            let cluster = parse(&file, "cluster.yaml", "/".into(), &|_| None).unwrap();
            let reminder = cluster.clear_text_reminder();
            reminder.map(|reminder| (reminder.line, reminder.message, reminder.hint))
        };
        for silent in ["local", "docker", "docker\ntls: on", "docker\ntls: both"] {
            assert_eq!(reminder(&format!("nodes: 3\nprovider: {silent}")), None);
        }
        assert_eq!(reminder("nodes: 3\ntls: off"), None);
        let (line, said, how) = reminder("nodes: 3\nprovider: docker\ntls: off").unwrap();
        assert!(line == 4 && said.starts_with("`tls: off`: "), "{said}");
        assert!(how.contains("`tls: both`, then `tls: on`"), "{how}");
    }
}
