//! An authority for tests: it signs whatever it is asked to.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Signs.
pub struct Authority {
    /// Its own certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// What is to stand in a certificate. Valid from yesterday for some days, if not said otherwise.
#[derive(Clone, Default)]
pub struct Wanted<'a> {
    pub who: &'a str,
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    /// From when on, seen from now, in seconds.
    pub begins_in: Option<i64>,
    /// Until when.
    pub ends_in: Option<i64>,
    /// For clients alone: it can't be shown by who is dialed.
    pub is_client: bool,
}

fn at(seconds_from_now: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().saturating_add_signed(seconds_from_now)
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, wanted: &Wanted<'_>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = params(wanted);
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Signs a request: its key counts, and nothing that it asks for.
    pub fn sign(&self, request: &str, wanted: &Wanted<'_>) -> String {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let signed = params(wanted).signed_by(&request.public_key, &self.issuer);
        signed.unwrap().pem()
    }

    pub fn node(&self, cluster: &str, id: u64) -> Pair {
        self.issue(&of_node(cluster, id))
    }

    pub fn role(&self, cluster: &str, who: &str, role: &str) -> Pair {
        self.issue(&Wanted {
            who,
            uris: vec![format!("raftkv://{cluster}/role/{role}")],
            is_client: true,
            ..Wanted::default()
        })
    }
}

pub fn of_node(cluster: &str, id: u64) -> Wanted<'static> {
    Wanted {
        who: "a node",
        uris: vec![format!("raftkv://{cluster}/node/{id}")],
        dns: vec![
            format!("{id}.{cluster}.raftkv"),
            format!("{cluster}.raftkv"),
        ],
        ..Wanted::default()
    }
}

fn params(wanted: &Wanted<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, wanted.who);
    for uri in &wanted.uris {
        let uri = uri.clone().try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    }
    for name in &wanted.dns {
        let name = name.clone().try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !wanted.is_client {
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        params.extended_key_usages.push(server);
    }
    let epoch = date_time_ymd(1970, 1, 1);
    let day = 24 * 3600;
    let from = at(wanted.begins_in.unwrap_or(-day));
    let until = at(wanted.ends_in.unwrap_or(30 * day));
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(until);
    params
}

/// Writes the three files of a node, each whole or not at all.
pub fn write_folder(folder: &Path, authorities: &str, pair: &Pair) {
    fs::create_dir_all(folder).unwrap();
    write(&folder.join("ca.pem"), authorities, 0o644);
    write(&folder.join("node.pem"), &pair.certificate, 0o644);
    write(&folder.join("node.key"), &pair.key, 0o600);
}

pub fn write(path: &Path, text: &str, mode: u32) {
    let partial = path.with_extension("new");
    fs::write(&partial, text).unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&partial, path).unwrap();
}
