//! TLS errors in words: what went wrong, whose fault it is, and what to do.

use std::io;
use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::escape::escaped;

/// What an error says, whichever side it is on.
pub(super) fn of(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => of_tls(error),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                "it closed in the middle of the TLS handshake".into()
            }
            _ => error.to_string(),
        },
    }
}

/// The same error, with its text in words.
pub(super) fn worded(error: io::Error) -> io::Error {
    match error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        true => io::Error::new(error.kind(), of(&error)),
        false => error,
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => {
            "it showed no certificate, and client-ca= asks for one: it needs a \
             certificate and its key (`pcaphub cert new DIR --client NAME` makes them)"
                .into()
        }
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(why) => of_incompatible(why),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "what it sent is not TLS; if it speaks plain PCAP-over-IP, it is tcp://".into(),
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::MessageTooLarge) => {
            "a message of its handshake is larger than 64 KiB: if it speaks TLS at all, let it show its own \
             certificate and those between it and its authority, and no others"
                .into()
        }
        other => format!("TLS failed: {}", escaped(&other.to_string(), 200)),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "each remedy names its cause; the others have their own text"
)]
fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "its certificate was issued by nobody that is trusted here: a server's \
             needs ca=FILE with the authority that issued it, or pin=; a client's must be issued by client-ca="
            .into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: it needs a new one".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is the clock right, here and there?".into()
        }
        CertificateError::BadSignature => "its certificate was signed by another authority of the same name: \
             ca= or client-ca= is not the file that belongs to it"
            .into(),
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "its certificate is for another purpose (a server's is not a client's)".into()
        }
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority, which is not to be shown: `pcaphub cert new` makes \
             proper ones; a server's can be named by pin="
                .into()
        }
        CertificateError::Other(error) => escaped(&error.to_string(), 300),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed in a way that is no longer trusted, such as SHA-1: it needs a new one".into()
        }
        other => format!("its certificate cannot be trusted: {}", escaped(&other.to_string(), 200)),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "each remedy names its cause; the others have their own text"
)]
fn of_alert(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it asks for a certificate: give cert= and key= of one that it trusts"
        }
        AlertDescription::UnknownCA => {
            "it does not trust who issued our certificate: it needs the authority's certificate (ca.pem)"
        }
        AlertDescription::CertificateExpired => "our certificate has expired, it says",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked => {
            "it refuses our certificate: is it one that the other side expects, for this name?"
        }
        AlertDescription::ProtocolVersion => "it speaks another version of TLS; here it is 1.2 and 1.3",
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "it found no cipher in common, or wants a certificate that it did not get (cert=, key=)"
        }
        AlertDescription::AccessDenied => "it denies us access",
        AlertDescription::UnrecognisedName => "it knows no server of this name (sni=)",
        other => return format!("it refused, by TLS alert {other:?}"),
    };
    why.to_owned()
}

fn of_incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "it speaks only TLS 1.1 or older, which is broken; see docs/tls.md on old servers".into()
        }
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::EcPointsExtensionRequired
        | PeerIncompatible::UncompressedEcPointsRequired
        | PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
            "it is too old: its TLS lacks what 1.2 has today, or is 1.1 or older, which is broken. Update it, or put \
             stunnel before it; see docs/tls.md on old servers"
                .into()
        }
        PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon => {
            format!(
                "it is too old, or allows too little: it has no cipher, group or signature in common with us \
                 ({why:?}). Update it, or let it use AES-GCM or ChaCha20 with ECDHE"
            )
        }
        other => format!("it has no way in common with us: {other:?}"),
    }
}

/// Why a certificate cannot be used with its key.
pub(super) fn of_pair(error: &Error, certificate: &Path, key: &Path) -> String {
    match error {
        Error::InconsistentKeys(_) => {
            format!("{} and {} do not go together: {error}", certificate.display(), key.display())
        }
        Error::InvalidCertificate(error) => {
            format!("{}: its certificate cannot be used: {error}", certificate.display())
        }
        _ => format!(
            "{}: a key of this kind is not supported: it is to be ECDSA (P-256, P-384, P-521), Ed25519, or RSA of \
             2048 bits or more; `pcaphub cert new` makes one that is",
            key.display()
        ),
    }
}

/// Whether octets begin a TLS connection: a handshake record (RFC 8446, section 5.1) or an SSL 2.0 hello.
pub fn looks_like_hello(octets: &[u8]) -> bool {
    matches!(octets, [0x16, 0x03, ..] | [0x80..=0xff, _, 0x01, 0x03, ..])
}

/// What somebody says who was to begin with TLS; `octets` are the first.
pub(super) fn not_a_hello(octets: &[u8]) -> String {
    const METHODS: [&[u8]; 8] = [b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PRI "];
    if octets.first() == Some(&0x80) || octets.get(2..4) == Some(&[0x01, 0x03]) {
        return "it speaks SSL 2.0, which is broken; here it is TLS 1.2 and 1.3".into();
    }
    if is_http(octets) || METHODS.iter().any(|method| octets.starts_with(method)) {
        return "it speaks HTTP; here packets are served inside TLS, e.g. to `pcaphub cat tls://HOST`".into();
    }
    let capture = matches!(
        octets,
        [0xd4, 0xc3, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0xc3, 0xd4, ..]
            | [0x4d, 0x3c, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0x3c, 0x4d, ..]
            | [0x0a, 0x0d, 0x0d, 0x0a, ..]
    );
    if capture {
        return "it sends a capture in the clear; here it needs TLS, e.g. socat - openssl-connect:HOST:PORT \
                (tcp-listen:// takes it as it is)"
            .into();
    }
    let shown = escaped(&String::from_utf8_lossy(octets.get(..16).unwrap_or(octets)), 60);
    format!("it does not speak TLS: it began with `{shown}`")
}

/// Whether octets begin a request of HTTP.
pub(super) fn is_http(octets: &[u8]) -> bool {
    [&b"GET "[..], b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "].iter().any(|method| octets.starts_with(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_speak_tls_is_told_apart() {
        assert!(not_a_hello(b"GET / HTTP/1.1\r\n").contains("HTTP"));
        assert!(not_a_hello(&[0xd4, 0xc3, 0xb2, 0xa1]).contains("in the clear"));
        assert!(not_a_hello(b"SSH-2.0-x\x1b[2J").contains("SSH-2.0-x\\u{1b}"));
        assert!(looks_like_hello(&[0x16, 0x03, 0x01, 0, 0]));
        assert!(!looks_like_hello(b"GET / HTTP/1.1"));
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = |error: Error| of(&io::Error::other(error));
        assert!(text(Error::InvalidCertificate(CertificateError::UnknownIssuer)).contains("ca=FILE"));
        assert!(text(Error::NoCertificatesPresented).contains("pcaphub cert new"));
        assert!(text(Error::AlertReceived(AlertDescription::CertificateRequired)).contains("cert= and key="));
        assert!(text(Error::AlertReceived(AlertDescription::UnknownCA)).contains("ca.pem"));
        assert!(text(Error::InvalidMessage(InvalidMessage::InvalidContentType)).contains("tcp://"));
        assert!(of(&io::ErrorKind::UnexpectedEof.into()).contains("in the middle"));
        let old = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
        assert!(text(Error::PeerIncompatible(old)).contains("too old"));
        assert!(
            text(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)).contains("Update it")
        );
        let large = text(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge));
        for said in [
            &large,
            &text(Error::PeerIncompatible(PeerIncompatible::NamedGroupsExtensionRequired)),
            &text(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
        ] {
            assert!(!said.contains("  "), "{said}");
        }
        assert!(large.contains("64 KiB") && large.contains("certificate"), "{large}");
    }
}
