//! Certificates as they are read and judged, wherever they come from. Text in, answers out.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The public key that it is of.
    pub key: Vec<u8>,
    /// Its names: of nodes and roles (URI), and those that clients look for (DNS).
    pub names: Vec<String>,
}

/// Reads the first certificate of a text.
#[must_use]
pub fn read(pem: &str) -> Option<Read> {
    let der = der(pem)?;
    let (_, read) = X509Certificate::from_der(&der).ok()?;
    let names = read.subject_alternative_name().ok()?;
    let names = names.iter();
    let names = names.flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::URI(name) | GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(Read {
        key: read.public_key().raw.to_vec(),
        names: names.collect(),
    })
}

/// When a certificate ends.
#[must_use]
pub fn ends(pem: &str) -> Option<SystemTime> {
    let der = der(pem)?;
    let (_, read) = X509Certificate::from_der(&der).ok()?;
    let seconds = u64::try_from(read.validity().not_after.timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// How long it is until then; nothing where that is past.
#[must_use]
pub fn left(ends: SystemTime) -> Duration {
    ends.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Whether one of these has signed a certificate, itself or by what stands behind it, and it is valid now.
#[must_use]
pub fn is_signed_by(pem: &str, signers: &str) -> bool {
    let judged = || -> Option<bool> {
        let mut roots = RootCertStore::empty();
        for signer in CertificateDer::pem_slice_iter(signers.as_bytes()) {
            roots.add(signer.ok()?).ok()?;
        }
        let provider = Arc::new(ring::default_provider());
        let judge = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let judge = judge.build().ok()?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let chain = chain.ok()?;
        let (own, between) = chain.split_first()?;
        let judged = judge.verify_client_cert(own, between, UnixTime::now());
        Some(judged.is_ok())
    };
    judged() == Some(true)
}

/// Whether a key is that of a certificate.
#[must_use]
pub fn is_pair(pem: &str, key: &str) -> bool {
    let judged = || -> Option<bool> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
        let pair = CertifiedKey::from_der(vec![der(pem)?], key, &ring::default_provider());
        Some(pair.is_ok())
    };
    judged() == Some(true)
}

/// The public key that a request is for.
#[must_use]
pub fn key_of_request(request: &str) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(request.as_bytes()).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    Some(request.certification_request_info.subject_pki.raw.to_vec())
}

/// Whether two texts have a certificate in common.
#[must_use]
pub fn have_one_in_common(one: &str, other: &str) -> bool {
    let read = |text: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes())
            .flatten()
            .collect()
    };
    let other = read(other);
    read(one)
        .iter()
        .any(|certificate| other.contains(certificate))
}

/// Whether a text holds certificates, and nothing that can't be read.
#[must_use]
pub fn holds_certificates(text: &str) -> bool {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    read.is_ok_and(|certificates| !certificates.is_empty())
}

fn der(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}
