//! Who may come to which port: webpki judges the chain, then the name decides.

use crate::access::{ClusterNames, NameError, Subject, subject};
use crate::raft::NodeId;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// For whom a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// For nodes of this cluster.
    Peers,
    /// For clients with a role.
    Clients,
}

impl Port {
    pub(super) fn name(self) -> &'static str {
        match self {
            Port::Peers => "peers",
            Port::Clients => "clients",
        }
    }

    /// Whether a certificate is of the kind for which the port is.
    pub(super) fn takes(self, subject: &Subject, own: NodeId) -> bool {
        match (self, subject) {
            (Port::Peers, Subject::Node(id)) => *id != own,
            (Port::Clients, Subject::Client(_)) => true,
            _ => false,
        }
    }
}

/// Why a certificate can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is none.
    #[error("it is no certificate that can be read")]
    Malformed,
    /// It can be read, and its names are of no use here.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a certificate says of its owner.
#[derive(Debug)]
pub(super) struct Owner {
    /// For people.
    pub(super) who: String,
    pub(super) subject: Subject,
    /// In seconds since 1970.
    pub(super) ends: i64,
}

/// Whose certificate it is. Says nothing of whether it is genuine.
pub(super) fn owner(
    certificate: &CertificateDer<'_>,
    cluster: &ClusterNames,
) -> Result<Owner, Unreadable> {
    let read = X509Certificate::from_der(certificate);
    let (rest, read) = read.map_err(|_| Unreadable::Malformed)?;
    if !rest.is_empty() {
        return Err(Unreadable::Malformed);
    }
    let names = read.subject_alternative_name();
    let names = names.map_err(|_| Unreadable::Malformed)?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let subject = subject(uris, cluster)?;
    let mut common = read.subject().iter_common_name();
    let who = common.next().and_then(|name| name.as_str().ok());
    let who = who.unwrap_or("a certificate without a name");
    Ok(Owner {
        // It comes from outside, and goes to logs.
        who: who
            .chars()
            .filter(|char| !char.is_control())
            .take(64)
            .collect(),
        subject,
        ends: read.validity().not_after.timestamp(),
    })
}

/// Judges whoever connects to a port.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) chains: Arc<dyn ClientCertVerifier>,
    pub(super) port: Port,
    pub(super) own: NodeId,
    pub(super) cluster: ClusterNames,
}

impl ClientCertVerifier for Verifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chains = &self.chains;
        let verified = chains.verify_client_cert(end_entity, intermediates, now)?;
        let wrong = || Error::from(CertificateError::ApplicationVerificationFailure);
        let owner = owner(end_entity, &self.cluster).map_err(|_| wrong())?;
        match self.port.takes(&owner.subject, self.own) {
            true => Ok(verified),
            false => Err(wrong()),
        }
    }

    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
