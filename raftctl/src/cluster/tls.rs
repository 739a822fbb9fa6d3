//! The key `tls`: whether everybody who connects needs a certificate.
//!
//! A file means the same for whoever reads it, and whatever runs: without the word it is `off`, also for a cluster
//! that is yet to be made. `init` writes the word where nodes are on a network, and whoever leaves it out there is
//! reminded.

use clap::ValueEnum;

use super::{Cluster, Provider, name_of};
use crate::error::problem::Problem;

/// The key that names an authority outside.
pub(super) const CA_KEY: &str = "tls_ca";

/// Who may connect to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Tls {
    /// Whoever can reach their ports: nothing is encrypted, nobody is asked for a certificate
    #[default]
    Off,
    /// Both, while a cluster goes over to TLS or back
    Both,
    /// Whoever has a certificate of this cluster
    On,
}

impl Tls {
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
        let (what, hint) = match self.tls_line {
            Some(_) => ("`tls: off`", ""),
            None => (
                "`tls` is not said, and off without that",
                ", or say `tls: off`",
            ),
        };
        Some(Problem {
            line: self.tls_line.unwrap_or(0),
            message: format!(
                "{what}: the nodes speak clear text, and whoever reaches their ports may do everything"
            ),
            hint: format!(
                "write `tls: on` for a cluster that is yet to be made; one that is there goes over with `tls: both`, then \
                 `tls: on`, and `raftctl up` after each{hint}"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    // One word switches it; without the word it is off.
    #[test]
    fn one_word_switches_it() {
        let tls = |text: &str| {
            let file = format!("name: demo\nnodes: 3\n{text}");
            parse(&file, "cluster.yaml", "/".into(), &|_| None)
        };
        assert_eq!(tls("").unwrap().tls, Tls::Off);
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
    // Who leaves the word out where nodes are on a network is reminded, by how to say it; on one machine nobody is.
    #[test]
    fn clear_text_on_a_network_is_reminded_of() {
        let reminder = |text: &str| {
            let file = format!("name: demo\n{text}");
            let cluster = parse(&file, "cluster.yaml", "/".into(), &|_| None).unwrap();
            let reminder = cluster.clear_text_reminder();
            reminder.map(|reminder| (reminder.line, reminder.message, reminder.hint))
        };
        assert_eq!(reminder("provider: local\nnodes: 3"), None);
        assert_eq!(reminder("provider: docker\nnodes: 3\ntls: on"), None);
        assert_eq!(reminder("provider: docker\nnodes: 3\ntls: both"), None);
        let (line, unsaid, how) = reminder("provider: docker\nnodes: 3").unwrap();
        assert!(
            line == 0 && unsaid.starts_with("`tls` is not said"),
            "{unsaid}"
        );
        assert!(how.ends_with("or say `tls: off`"), "{how}");
        let (line, said, how) = reminder("provider: docker\nnodes: 3\ntls: off").unwrap();
        assert!(line == 4 && said.starts_with("`tls: off`: "), "{said}");
        assert!(!how.contains("say"), "{how}");
    }
}
