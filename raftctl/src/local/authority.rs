//! Who signs the certificates of a cluster's nodes and clients: an authority of its own, or one outside.
//!
//! ```text
//! .raftctl/<cluster>/tls/ca.key      its key; whoever has it can make any certificate of the cluster
//!                        ca.pem      its certificate
//!                        trust.pem   whom nodes trust: it, and for a while the one before it
//!                        admin.pem   the key and certificate that raftctl itself shows
//! ```
//! Nothing here goes to a host but `trust.pem` and what is signed; no key is ever printed. A folder without
//! `ca.key` signs nothing: a colleague's has `trust.pem` and `admin.pem` alone (`certs use`). Where
//! cluster.yaml names an authority (`tls_ca`), requests and what comes back for them lie beside (`outside`).

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    date_time_ymd,
};

use super::certificate::{self, ends, left};
use crate::client::security::{OWN_FILE, TRUST_FILE};
use crate::cluster::{Cluster, NodeId};
use crate::error::{Error, Result};

mod outside;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long certificates of nodes and clients are valid.
pub const VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// With less left than this, they are made anew whenever there is occasion.
pub const RENEW_BEFORE: Duration = Duration::from_secs(10 * 24 * 3600);

/// How long the authority itself is.
const AUTHORITY_VALID: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Clocks differ: certificates begin so long before they are made.
const BEGINS_BEFORE: Duration = Duration::from_secs(3600);

/// What to do where nothing can be signed.
pub const NOT_HERE: &str = "certificates are made where the cluster was brought up first: run this there, or copy \
    .raftctl/<cluster>/tls/ from there";

/// Whose certificate raftctl's own is.
const RAFTCTL: &str = "raftctl";

const AUTHORITY_KEY: &str = "ca.key";
const AUTHORITY_CERTIFICATE: &str = "ca.pem";

/// See the module.
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
    cluster: String,
    /// The certificates of the one outside, where cluster.yaml names it.
    outside: Option<PathBuf>,
}

/// Why a certificate has to be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// In words.
    pub why: String,
    /// Whether it is of no use as it is; if not, it only ends soon.
    pub is_grave: bool,
}

impl Flaw {
    /// One that makes it useless.
    #[must_use]
    pub fn grave(why: impl Into<String>) -> Self {
        Flaw {
            why: why.into(),
            is_grave: true,
        }
    }
}

/// What a node's certificate is to say.
#[derive(Debug, Clone)]
pub struct NodeNames {
    /// Which it is.
    pub id: NodeId,
    /// The cluster's id, where it has one.
    pub cluster_id: Option<String>,
    /// Names by which tools reach it.
    pub hosts: Vec<String>,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// Of a cluster, whether it is there or not.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Authority {
            folder: folder(cluster),
            cluster: cluster.name.clone(),
            outside: cluster.tls_ca.clone(),
        }
    }

    /// Whether this folder has it, or knows the one outside.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.is_outside() || self.at(AUTHORITY_KEY).exists()
    }

    /// Whether somebody else signs.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.outside.is_some()
    }

    /// Whether the cluster has an authority, and not here: because its nodes know one, or because this folder was
    /// given what it needs to connect, and no more. Then none is made: what it signs would be refused.
    #[must_use]
    pub fn is_elsewhere(&self, nodes_know_one: bool) -> bool {
        !self.is_here() && (nodes_know_one || self.at(TRUST_FILE).exists())
    }

    /// Whether raftctl has a certificate in this folder, or would make one.
    #[must_use]
    pub fn lets_connect(&self) -> bool {
        self.is_here() || self.at(OWN_FILE).exists()
    }

    /// Where its key lies, or is to lie.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.at(AUTHORITY_KEY)
    }

    /// Makes it, unless it is here. Whether it was made.
    ///
    /// # Errors
    /// Its files can't be written, or its key may be read by others.
    pub fn ensure(&self) -> Result<bool> {
        if self.is_outside() {
            let trusted = self.trusted()?;
            if self.read(TRUST_FILE).ok().as_ref() != Some(&trusted) {
                self.write(TRUST_FILE, &trusted)?;
            }
            return Ok(false);
        }
        if self.is_here() {
            self.refuse_open_key()?;
            return Ok(false);
        }
        self.make()?;
        let certificate = self.read(AUTHORITY_CERTIFICATE)?;
        self.write(TRUST_FILE, &certificate)?;
        Ok(true)
    }

    fn make(&self) -> Result<()> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two of one cluster are told apart by more than their keys.
        let made = since_epoch(SystemTime::now()).as_secs();
        let name = format!("raftkv {} authority {made}", self.cluster);
        params.distinguished_name.push(DnType::CommonName, name);
        valid_for(&mut params, AUTHORITY_VALID);
        let key = KeyPair::generate().map_err(unsigned)?;
        let certificate = params.self_signed(&key).map_err(unsigned)?;
        // The key last: where it is, the rest is.
        self.write(AUTHORITY_CERTIFICATE, &certificate.pem())?;
        self.write(AUTHORITY_KEY, &key.serialize_pem())
    }

    /// Whom nodes are to trust.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn trusted(&self) -> Result<String> {
        match &self.outside {
            Some(path) => outside::trusted(path),
            None => self.read(TRUST_FILE),
        }
    }

    /// Puts another authority in the place of this one, which stays trusted beside it.
    ///
    /// # Errors
    /// Its files can't be written; or the one before this is still trusted.
    pub fn replace(&self) -> Result<()> {
        let before = self.read(AUTHORITY_CERTIFICATE)?;
        if self.is_changing()? {
            return Err(Error::Usage(
                "the authority was changed before, and the one before it is still trusted; `raftctl \
                 certs rotate --finish` ends that"
                    .into(),
            ));
        }
        self.make()?;
        let next = self.read(AUTHORITY_CERTIFICATE)?;
        self.write(TRUST_FILE, &format!("{next}{before}"))
    }

    /// Whether one that came before is still trusted.
    ///
    /// # Errors
    /// The files can't be read.
    pub fn is_changing(&self) -> Result<bool> {
        if self.is_outside() {
            return Ok(false);
        }
        let (own, trusted) = (self.read(AUTHORITY_CERTIFICATE)?, self.trusted()?);
        Ok(own.trim() != trusted.trim())
    }

    /// Trusts this one alone from now on.
    ///
    /// # Errors
    /// Its files can't be written.
    pub fn trust_this_alone(&self) -> Result<()> {
        let own = self.read(AUTHORITY_CERTIFICATE)?;
        self.write(TRUST_FILE, &own)
    }

    /// Signs what a node asks for. Its key counts, and nothing that it says of itself. The one outside is asked
    /// by a file, and answers by another.
    ///
    /// # Errors
    /// The request makes no sense; the authority is not here, or has not signed it yet.
    pub fn sign(&self, request: &str, names: &NodeNames) -> Result<String> {
        if self.is_outside() {
            let whose = outside::of_node(names.id);
            return self.ask_outside(&whose, request, |signed| {
                self.node_flaw(signed, Some(request), names, "")
            });
        }
        let request = CertificateSigningRequestParams::from_pem(request);
        let request = request
            .map_err(|error| Error::Other(format!("a node's request makes no sense: {error}")))?;
        let who = format!("node {} of {}", names.id, self.cluster);
        let mut params = leaf(&who);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = vec![uri(&self.node_uri(names))?];
        for name in self.dns_names(names) {
            params.subject_alt_names.push(dns(&name)?);
        }
        self.signed(&params, &request.public_key)
    }

    fn node_uri(&self, names: &NodeNames) -> String {
        let cluster = names.cluster_id.as_deref().unwrap_or(&self.cluster);
        format!("raftkv://{cluster}/node/{}", names.id)
    }

    fn dns_names(&self, names: &NodeNames) -> Vec<String> {
        let cluster = &self.cluster;
        let mut all = vec![
            format!("{}.{cluster}.raftkv", names.id),
            format!("{cluster}.raftkv"),
        ];
        if self.is_outside() {
            return all; // It signs what the node asks for.
        }
        all.push("localhost".to_owned());
        all.extend(names.hosts.iter().cloned());
        all.dedup();
        all
    }

    /// Makes a client's certificate, with a role, and its key.
    ///
    /// # Errors
    /// The name or the prefix can't stand in one.
    pub fn issue(&self, who: &str, role: &str, prefix: &str, valid: Duration) -> Result<Issued> {
        let mut params = self.client(who, role, prefix)?;
        valid_for(&mut params, valid);
        let key = KeyPair::generate().map_err(unsigned)?;
        Ok(Issued {
            certificate: self.signed(&params, &key)?,
            key: key.serialize_pem(),
        })
    }

    fn client(&self, who: &str, role: &str, prefix: &str) -> Result<CertificateParams> {
        let mut name = format!("raftkv://{}/role/{role}", self.cluster);
        if !prefix.is_empty() {
            name.push_str(&format!("?prefix={}", encode(prefix)));
        }
        let mut params = leaf(who);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(&name)?];
        Ok(params)
    }

    /// Makes sure that raftctl has a certificate of its own that lasts for a while. Whether it was made.
    ///
    /// # Errors
    /// It can't be made or written.
    pub fn ensure_admin(&self) -> Result<bool> {
        let own = self.read(OWN_FILE);
        let flaw = match own {
            Ok(own) => self.flaw(&own, &self.signers()?),
            Err(_) => Some(Flaw::grave("it has none")),
        };
        let Some(flaw) = flaw else {
            return Ok(false);
        };
        if self.is_outside() {
            return self.admin_from_outside(&flaw);
        }
        let issued = self.issue(RAFTCTL, "admin", "", VALID)?;
        self.write(OWN_FILE, &format!("{}{}", issued.key, issued.certificate))?;
        Ok(true)
    }

    /// Why a node's certificate has to be made anew; `None`: it is good for a while yet. Its key is compared
    /// where its request is known. In a folder without the authority it is judged by whom the node trusts.
    #[must_use]
    pub fn node_flaw(
        &self,
        certificate: &str,
        request: Option<&str>,
        names: &NodeNames,
        trusted: &str,
    ) -> Option<Flaw> {
        if certificate.is_empty() {
            return Some(Flaw::grave("it has none"));
        }
        let signers = match self.is_here() {
            true => self.signers().unwrap_or_default(),
            false => trusted.to_owned(),
        };
        let flaw = self.flaw(certificate, &signers);
        if flaw.as_ref().is_some_and(|flaw| flaw.is_grave) {
            return flaw;
        }
        let Some(read) = certificate::read(certificate) else {
            return Some(Flaw::grave("it can't be read"));
        };
        if request.is_some_and(|request| certificate::key_of_request(request) != Some(read.key)) {
            return Some(Flaw::grave("it is of another key"));
        }
        // Without the authority nothing could be done about the names by which other tools know a host.
        let hosts = |name: &String| self.is_here() || name.ends_with(".raftkv");
        let wanted = self.dns_names(names).into_iter().filter(hosts);
        let mut wanted = wanted.chain([self.node_uri(names)]);
        match wanted.find(|name| !read.names.contains(name)) {
            Some(missing) => Some(Flaw::grave(format!("it does not name {missing}"))),
            None => flaw,
        }
    }

    /// Lets raftctl connect with what was issued elsewhere.
    ///
    /// # Errors
    /// This folder has the authority, and needs nothing; or the parts do not fit, or are of another cluster.
    pub fn take_over(&self, certificate: &str, key: &str, trusted: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::Usage(format!("{why}; nothing was changed")));
        if !self.is_outside() && self.is_here() {
            return refuse(
                "this folder has the cluster's authority, and raftctl makes its own certificate with it",
            );
        }
        if let Some(flaw) = self.flaw(certificate, trusted).filter(|flaw| flaw.is_grave) {
            return refuse(&format!(
                "the certificate is of no use with the ca.pem beside it: {}",
                flaw.why
            ));
        }
        if !certificate::is_pair(certificate, key) {
            return refuse("the key is not that of the certificate");
        }
        let begins = format!("raftkv://{}/role/", self.cluster);
        let names = certificate::read(certificate).map_or(Vec::new(), |read| read.names);
        if !names.iter().any(|name| name.starts_with(&begins)) {
            return refuse(&format!(
                "the certificate is for no role in cluster {}",
                self.cluster
            ));
        }
        self.write(TRUST_FILE, trusted)?;
        self.write(OWN_FILE, &format!("{key}{certificate}"))
    }

    /// What is wrong with a certificate that one of these has signed.
    fn flaw(&self, certificate: &str, signers: &str) -> Option<Flaw> {
        if !certificate::is_signed_by(certificate, signers) {
            return Some(Flaw::grave("it has ended, or is of another authority"));
        }
        let left = left(ends(certificate)?);
        (left < RENEW_BEFORE).then(|| Flaw {
            why: format!("it ends in {} days", left.as_secs() / DAY.as_secs()),
            is_grave: false,
        })
    }

    /// Whose certificates are good from now on.
    fn signers(&self) -> Result<String> {
        match self.is_outside() {
            true => self.trusted(),
            false => self.read(AUTHORITY_CERTIFICATE),
        }
    }

    /// Whether a node would get another certificate, if it asked now.
    #[must_use]
    pub fn has_one_for(&self, names: &NodeNames) -> bool {
        if !self.is_outside() {
            return self.is_here();
        }
        let signed = self.signed_outside(&outside::of_node(names.id));
        signed.is_some_and(|signed| self.node_flaw(&signed, None, names, "").is_none())
    }

    fn signed(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<String> {
        self.refuse_open_key()?;
        let (own, pem) = (self.read(AUTHORITY_CERTIFICATE)?, self.read(AUTHORITY_KEY)?);
        let unfit = |_| Error::Other(format!("{} is no key", self.at(AUTHORITY_KEY).display()));
        let issuer = KeyPair::from_pem(&pem).map_err(unfit)?;
        let issuer = Issuer::from_ca_cert_pem(&own, issuer).map_err(unsigned)?;
        Ok(params.signed_by(key, &issuer).map_err(unsigned)?.pem())
    }

    /// Whoever can read it can be anybody.
    fn refuse_open_key(&self) -> Result<()> {
        let path = self.at(AUTHORITY_KEY);
        let metadata = fs::metadata(&path).map_err(|error| {
            Error::Usage(format!(
                "cannot read {}: {error}; {NOT_HERE}",
                path.display()
            ))
        })?;
        match metadata.mode() & 0o077 {
            0 => Ok(()),
            _ => Err(Error::Usage(format!(
                "{} may be read by others (mode {:03o}); chmod 600 it, and `raftctl certs rotate` if \
                 others have been there",
                path.display(),
                metadata.mode() & 0o777
            ))),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.at(name);
        fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.at(name);
        let made = path.parent().map_or(Ok(()), make_folder);
        made.and_then(|()| write_private(&path, text))
            .map_err(|error| Error::file("write", &path, &error))
    }
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut folders = fs::DirBuilder::new();
    folders.recursive(true).mode(0o700).create(path)
}

/// Where all of it lies.
#[must_use]
pub fn folder(cluster: &Cluster) -> PathBuf {
    cluster.state_dir().join("tls")
}

/// Writes a file that nobody else may read, whole or not at all.
///
/// # Errors
/// It can't be written; then it is as it was.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let partial = Path::new(&name);
    let mut options = fs::OpenOptions::new();
    let opened = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial);
    let written = opened.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(partial, path))
        .inspect_err(|_| {
            // What is left of it is of no use, and may be a key.
            fs::remove_file(partial).ok();
        })
}

fn leaf(who: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, who);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    valid_for(&mut params, VALID);
    params
}

fn valid_for(params: &mut CertificateParams, valid: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = since_epoch(SystemTime::now());
    params.not_before = epoch + now.saturating_sub(BEGINS_BEFORE);
    params.not_after = epoch + now + valid;
}

fn since_epoch(time: SystemTime) -> Duration {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Certificates know no fractions.
    Duration::from_secs(since.as_secs())
}

fn uri(text: &str) -> Result<SanType> {
    Ok(SanType::URI(text.try_into().map_err(unsigned)?))
}

fn dns(text: &str) -> Result<SanType> {
    Ok(SanType::DnsName(text.try_into().map_err(unsigned)?))
}

fn unsigned(error: rcgen::Error) -> Error {
    Error::Other(format!("cannot make a certificate: {error}"))
}

/// As in RFC 3986: all but letters, digits and a few signs as `%2F`.
fn encode(text: &str) -> String {
    let one = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn authority(folder: &Path) -> Authority {
        Authority {
            folder: folder.join("tls"),
            cluster: "demo".into(),
            outside: None,
        }
    }

    fn names(id: NodeId) -> NodeNames {
        NodeNames {
            id,
            cluster_id: Some("0123456789abcdef0123456789abcdef".into()),
            hosts: vec!["a.example".into()],
        }
    }

    fn request(key: &KeyPair) -> String {
        let request = CertificateParams::default().serialize_request(key);
        request.unwrap().pem().unwrap()
    }

    // It is made once, and nobody else may read what it keeps.
    #[test]
    fn it_is_made_once_for_one_reader() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        assert!(!authority.is_here());
        assert!(authority.ensure().unwrap());
        assert!(!authority.ensure().unwrap());
        assert!(authority.ensure_admin().unwrap());
        assert!(!authority.ensure_admin().unwrap());
        let files = fs::read_dir(&authority.folder).unwrap();
        let modes = files.map(|file| file.unwrap().metadata().unwrap().mode() & 0o777);
        assert_eq!(modes.collect::<Vec<_>>(), [0o600; 4]);
        let key = authority.at(AUTHORITY_KEY);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = authority.ensure().unwrap_err().to_string();
        assert!(
            refused.contains("may be read by others (mode 640)"),
            "{refused}"
        );
        assert!(authority.issue("bob", "reader", "", VALID).is_err());
    }

    // A node's certificate is made anew when there is a reason, and the reason is told.
    #[test]
    fn certificates_are_made_anew_for_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        authority.ensure().unwrap();
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let asked = request(&key);
        let signed = authority.sign(&asked, &names(1)).unwrap();
        let flaw = |certificate: &str, request: &str, names: &NodeNames| {
            let flaw = authority.node_flaw(certificate, Some(request), names, "");
            flaw.map(|flaw| flaw.why)
        };
        assert_eq!(flaw(&signed, &asked, &names(1)), None);
        let left = left(ends(&signed).unwrap());
        assert!(left <= VALID && left + DAY > VALID, "{left:?}");
        assert_eq!(flaw("", &asked, &names(1)).unwrap(), "it has none");
        assert_eq!(
            flaw(&signed, &request(&other), &names(1)).unwrap(),
            "it is of another key"
        );
        let moved = NodeNames {
            cluster_id: None,
            ..names(1)
        };
        let flawed = flaw(&signed, &asked, &moved).unwrap();
        assert_eq!(flawed, "it does not name raftkv://demo/node/1");
        let renamed = NodeNames {
            hosts: vec!["b.example".into()],
            ..names(1)
        };
        let flawed = flaw(&signed, &asked, &renamed).unwrap();
        assert_eq!(flawed, "it does not name b.example");
        let short = authority
            .issue("bob", "reader", "", RENEW_BEFORE - DAY)
            .unwrap();
        let signers = authority.signers().unwrap();
        let flawed = authority.flaw(&short.certificate, &signers).unwrap();
        assert!(flawed.why.starts_with("it ends in ") && !flawed.is_grave);
    }

    // The authority is changed in steps: both are trusted, then the next one alone. What the one before has
    // signed has to be made anew.
    #[test]
    fn the_authority_is_changed_in_steps() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(folder.path());
        authority.ensure().unwrap();
        let asked = request(&KeyPair::generate().unwrap());
        let signed = authority.sign(&asked, &names(1)).unwrap();
        let before = authority.trusted().unwrap();
        assert!(!authority.is_changing().unwrap());
        authority.replace().unwrap();
        assert!(authority.is_changing().unwrap());
        let both = authority.trusted().unwrap();
        assert!(both.contains(&before) && both.len() > before.len());
        let flaw = authority.node_flaw(&signed, Some(&asked), &names(1), "");
        let flaw = flaw.unwrap();
        assert!(flaw.why.contains("of another authority"), "{flaw:?}");
        let again = authority.replace().unwrap_err().to_string();
        assert!(again.contains("certs rotate --finish"), "{again}");
        authority.trust_this_alone().unwrap();
        assert!(!authority.trusted().unwrap().contains(&before));
    }

    // A prefix stands in a name as it is meant, whatever is in it.
    #[test]
    fn prefixes_are_encoded() {
        assert_eq!(encode("app/"), "app/");
        assert_eq!(encode("ä b?&%"), "%C3%A4%20b%3F%26%25");
    }
}
