//! How a dialled server's certificate is checked: by who issued it, by its key, or not at all.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use thiserror::Error as ThisError;

use super::certificate::Certificate;
use crate::plan::Pin;

/// Who is trusted.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    /// Whose certificates are, and which are by themselves; `None`: who issued it does not matter.
    pub(super) issued: Option<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)>,
    /// Whose keys are; empty: any.
    pub(super) pins: Vec<Pin>,
}

/// What is wrong with a certificate beyond what the library finds.
#[derive(Debug, ThisError)]
enum Distrust {
    #[error("its key is {found}, which is not in pin=: somebody else answers, or it has a new key")]
    Pin { found: Pin },
    #[error("{0}")]
    Known(String),
}

fn distrust(why: Distrust) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

impl Verifier {
    /// Where it is one of those that are trusted by themselves, as a self-signed one is: its name and its
    /// times.
    fn verify_known(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        let read = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        match now {
            now if now > read.not_after => Err(CertificateError::Expired.into()),
            now if now < read.not_before => Err(CertificateError::NotValidYet.into()),
            _ => Ok(()),
        }
    }

    /// An error of the library with what a person needs beside it: whose certificate it was.
    fn with_names(&self, error: Error, certificate: &CertificateDer<'_>) -> Error {
        let Some(read) = Certificate::read(certificate) else { return error };
        match &error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => distrust(Distrust::Known(format!(
                "its certificate was issued by `{}`, whom nobody here trusts: give ca=FILE with that authority's \
                 certificate, or, if you know that its key is right, pin={}",
                read.issuer, read.pin
            ))),
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => distrust(Distrust::Known(format!(
                "its certificate has expired on {}: it needs a new one",
                read.expires
            ))),
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, .. }) => {
                let (names, expected) = (read.names.join(", "), expected.to_str());
                distrust(Distrust::Known(match names.is_empty() {
                    true => format!(
                        "its certificate has no names (subjectAltName), so it is not for {expected}: it needs \
                         a new one, or pin= here"
                    ),
                    false => format!(
                        "its certificate is for {names}, not for {expected}: dial one of its names, or give sni=NAME"
                    ),
                }))
            }
            _ => error,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.pins.is_empty() {
            let found = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?.pin;
            if !self.pins.contains(&found) {
                return Err(distrust(Distrust::Pin { found }));
            }
        }
        if let Some((verifier, known)) = &self.issued {
            let verified = match known.iter().any(|known| known == certificate) {
                true => self.verify_known(certificate, name, now),
                false => verifier.verify_server_cert(certificate, intermediates, name, ocsp, now).map(|_| ()),
            };
            verified.map_err(|error| self.with_names(error, certificate))?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
