//! An authority that is somebody else's (`tls_ca` in cluster.yaml).
//!
//! ```text
//! .raftctl/<cluster>/tls/requests/node_3.csr    what node 3 asks for
//!                        requests/raftctl.csr   and what raftctl does
//!                        signed/node_3.pem      where the operator puts what comes back, with those between it
//!                        signed/raftctl.pem     and the authority, if there are any
//!                        admin.key              raftctl's own key
//! ```
//! Keys stay where they were made. What comes back is judged before a node gets it.

use std::path::Path;

use rcgen::{KeyPair, PublicKeyData};

use super::{Authority, Flaw, RAFTCTL, make_folder, unsigned};
use crate::client::security::OWN_FILE;
use crate::cluster::NodeId;
use crate::error::{Error, Result};
use crate::local::certificate;

const ADMIN_KEY: &str = "admin.key";

/// How the files of a node are called.
pub(super) fn of_node(id: NodeId) -> String {
    format!("node_{id}")
}

/// A text as hosts give it back: with an end of its last line.
fn with_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The certificates of the authority.
pub(super) fn trusted(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Error::file("read", path, &error))?;
    match certificate::holds_certificates(&text) {
        true => Ok(with_end(text)),
        false => Err(Error::Usage(format!(
            "{} (`tls_ca` in cluster.yaml) holds no certificate; name a file with that of the authority, as PEM",
            path.display()
        ))),
    }
}

/// A request, and its key, as PEM.
pub struct Asked {
    /// What is to be signed.
    pub request: String,
    /// What stays.
    pub key: String,
}

impl Authority {
    /// Writes a request down, and takes what was signed for it, if that is good.
    pub(super) fn ask_outside(
        &self,
        whose: &str,
        request: &str,
        flaw: impl Fn(&str) -> Option<Flaw>,
    ) -> Result<String> {
        let asked = format!("requests/{whose}.csr");
        if self.read(&asked).ok().as_deref() != Some(request) {
            self.write(&asked, request)?;
        }
        let answer = format!("signed/{whose}.pem");
        // Where it is to be put is there already.
        make_folder(&self.at("signed"))
            .map_err(|error| Error::file("make", &self.at("signed"), &error))?;
        let signed = self.signed_outside(whose);
        let flawed = match &signed {
            Some(signed) => {
                flaw(signed).map(|flaw| format!("what lies there is of no use: {}", flaw.why))
            }
            None => Some("nothing lies there yet".to_owned()),
        };
        match (signed, flawed) {
            (Some(signed), None) => Ok(signed),
            (_, why) => Err(Error::Usage(format!(
                "the authority that cluster.yaml names (`tls_ca`) has to sign {}; put what it signs into {} ({}), and \
                 run this again",
                self.at(&asked).display(),
                self.at(&answer).display(),
                why.unwrap_or_default()
            ))),
        }
    }

    /// What came back for somebody, if anything did.
    pub(super) fn signed_outside(&self, whose: &str) -> Option<String> {
        self.read(&format!("signed/{whose}.pem")).ok().map(with_end)
    }

    /// raftctl's own certificate. While the one that is there is still good, nobody has to hurry.
    pub(super) fn admin_from_outside(&self, flaw: &Flaw) -> Result<bool> {
        let key = match self.read(ADMIN_KEY) {
            Ok(key) => key,
            Err(_) => {
                let key = KeyPair::generate().map_err(unsigned)?.serialize_pem();
                self.write(ADMIN_KEY, &key)?;
                key
            }
        };
        let pair = KeyPair::from_pem(&key);
        let pair = pair.map_err(|_| {
            let path = self.at(ADMIN_KEY);
            Error::Usage(format!(
                "{} is no key; move it away, and a new one is made",
                path.display()
            ))
        })?;
        // A request is never the same twice: the one that may be on its way to be signed stays.
        let made = self.read(&format!("requests/{RAFTCTL}.csr"));
        let of_this_key = |request: &String| {
            certificate::key_of_request(request).as_deref()
                == Some(&pair.subject_public_key_info()[..])
        };
        let request = match made.ok().filter(of_this_key) {
            Some(request) => request,
            None => self.request(&pair, RAFTCTL, "admin", "")?,
        };
        let judge = |signed: &str| {
            if !certificate::is_pair(signed, &key) {
                return Some(Flaw::grave("it is of another key"));
            }
            self.flaw(signed, &self.trusted().unwrap_or_default())
        };
        match self.ask_outside(RAFTCTL, &request, judge) {
            Ok(signed) => {
                self.write(OWN_FILE, &format!("{key}{signed}"))?;
                Ok(true)
            }
            Err(_) if !flaw.is_grave => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A key for a client, and the request for its certificate.
    ///
    /// # Errors
    /// The name or the prefix can't stand in one.
    pub fn ask_for_client(&self, who: &str, role: &str, prefix: &str) -> Result<Asked> {
        let key = KeyPair::generate().map_err(unsigned)?;
        let request = self.request(&key, who, role, prefix)?;
        Ok(Asked {
            request,
            key: key.serialize_pem(),
        })
    }

    fn request(&self, key: &KeyPair, who: &str, role: &str, prefix: &str) -> Result<String> {
        let params = self.client(who, role, prefix)?;
        let request = params.serialize_request(key).map_err(unsigned)?;
        request.pem().map_err(unsigned)
    }
}
