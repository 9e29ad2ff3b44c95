//! What a certificate says: names, times, and the hash of its key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::sha256;
use crate::escape::escaped;
use crate::plan::Pin;

/// The longest name that is shown, in characters.
const SHOWN: usize = 64;
/// Names that are shown of one certificate.
const NAMES: usize = 16;

/// What is known of a certificate. All text in it is escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it is for: its common name, else its first other name; `None` if it has neither.
    pub name: Option<String>,
    /// DNS names and addresses that a server with it may have; the first sixteen.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// Whether it may issue others.
    pub is_ca: bool,
    /// When it becomes valid.
    pub not_before: SystemTime,
    /// When it expires.
    pub not_after: SystemTime,
    /// That day, as 2027-01-31.
    pub expires: String,
    /// The hash of its key.
    pub pin: Pin,
}

/// Whether a server's certificate can have this name: of a host, of all in a domain, or an address.
pub fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let known = rustls::pki_types::ServerName::try_from(name);
    known.is_ok_and(|known| name == text || matches!(known, rustls::pki_types::ServerName::DnsName(_)))
}

impl Certificate {
    /// Reads a certificate; `None` if it cannot be read.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names: Vec<String> = alternative_names(&certificate).take(NAMES).collect();
        let common = certificate.subject().iter_common_name().next();
        let common = common.and_then(|name| name.as_str().ok()).filter(|name| !name.trim().is_empty());
        let name = common.map(|name| escaped(name, SHOWN)).or_else(|| names.first().cloned());
        let issuer = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
        let issuer = issuer.map_or_else(|| certificate.issuer().to_string(), str::to_owned);
        let validity = certificate.validity();
        Some(Certificate {
            name,
            names,
            issuer: escaped(&issuer, SHOWN),
            is_ca: certificate.is_ca(),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            expires: validity.not_after.to_datetime().date().to_string(),
            pin: Pin(sha256(certificate.public_key().raw)),
        })
    }

    /// Whether this key (a SubjectPublicKeyInfo of RFC 5280, in DER) is the one that it certifies.
    pub fn is_of(&self, key: &[u8]) -> bool {
        self.pin == Pin(sha256(key))
    }
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'a>) -> impl Iterator<Item = String> + 'a {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map(|extension| extension.value.general_names.iter()).into_iter().flatten();
    names.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(escaped(name, SHOWN))
        }
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            _ => {
                <[u8; 16]>::try_from(*octets).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string())
            }
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing;

    #[test]
    fn names_are_those_of_hosts_and_domains_and_addresses() {
        for name in ["hub", "hub.example.org", "*.example.org", "192.0.2.7", "2001:db8::1"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(300);
        for name in
            ["", "a b", "[::1]", "192.0.2.7:57012", "a\nb", "*.192.0.2.7", "*", "hub.example.org/", &long]
        {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_certificate_says_its_names_and_its_expiry() {
        let made = testing::server(&["hub.example", "192.0.2.1"]);
        let certificate = Certificate::read(made.cert.der()).unwrap();
        assert_eq!(certificate.names, ["hub.example", "192.0.2.1"]);
        assert!(certificate.not_after > certificate.not_before);
        assert!(!certificate.is_ca);
        assert_eq!(Certificate::read(b"no certificate"), None);
    }

    #[test]
    fn a_name_cannot_steer_a_terminal_nor_fill_a_line() {
        let made = testing::named(&format!("a\x1b[2J\n{}", "x".repeat(500)));
        let name = Certificate::read(made.cert.der()).unwrap().name.unwrap();
        assert!(name.starts_with("a\\u{1b}[2J\\n"), "{name}");
        assert!(name.chars().count() < 100, "{name}");
    }
}
