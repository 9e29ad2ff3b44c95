//! Options of TLS endpoints: files, names and pins, read but not opened.

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use rustls::pki_types::ServerName;

use super::{Key, PlanError, Reading, Value, yes_no};

/// What an endpoint says about TLS; all of it is empty for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Our certificate and those that issued it, PEM.
    pub cert: Option<PathBuf>,
    /// Our certificate's key, PEM; `None`: it is in the file of the certificate.
    pub key: Option<PathBuf>,
    /// Whom a server's certificate must be issued by; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Whom a client's certificate must be issued by; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
    /// The name that is asked for and checked; `None`: the host that is dialled.
    pub sni: Option<String>,
    /// Keys of which a server must have one; empty: any.
    pub pins: Vec<Pin>,
    /// Whether a server's certificate is not checked at all.
    pub insecure: bool,
}

impl TlsOptions {
    /// Every file that is named.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key, &self.ca, &self.client_ca].into_iter().flatten()
    }

    /// What the options of an endpoint say.
    ///
    /// # Errors
    /// A value that cannot be read, or `insecure=yes` beside what checks a certificate.
    pub(crate) fn read(options: &Reading<'_>) -> Result<Self, PlanError> {
        let path = |text: &str| match text {
            "" => Err("it is the path of a PEM file".to_owned()),
            text => Ok(PathBuf::from(text)),
        };
        let tls = TlsOptions {
            cert: options.value("cert", path)?,
            key: options.value("key", path)?,
            ca: options.value("ca", path)?,
            client_ca: options.value("client-ca", path)?,
            sni: options.value("sni", sni)?,
            pins: options.value("pin", pins)?.unwrap_or_default(),
            insecure: options.value("insecure", yes_no)?.unwrap_or(false),
        };
        if tls.insecure && (tls.ca.is_some() || !tls.pins.is_empty()) {
            return Err(PlanError::Refused(format!(
                "{}: insecure=yes checks nothing, ca= and pin= do; leave one of them out",
                options.endpoint
            )));
        }
        if tls.key.is_some() && tls.cert.is_none() {
            return Err(PlanError::Refused(format!(
                "{}: key= is given without cert=, the certificate that it belongs to",
                options.endpoint
            )));
        }
        Ok(tls)
    }
}

/// Options of `tls-listen://`.
pub(crate) const CERT: Key =
    Key { name: "cert", help: "our certificate, PEM, with those between it and the CA" };
pub(crate) const KEY: Key = Key { name: "key", help: "its key, PEM, of mode 0600 [default: in cert=]" };
pub(crate) const CLIENT_CA: Key = Key {
    name: "client-ca",
    help: "who must have issued a client's certificate, PEM; without it none is asked for",
};
/// Options of `tls://`.
pub(crate) const CA: Key =
    Key { name: "ca", help: "who must have issued the server's certificate, PEM [default: the system's]" };
pub(crate) const SNI: Key =
    Key { name: "sni", help: "the name that the server's certificate must have [default: the host]" };
pub(crate) const PIN: Key =
    Key { name: "pin", help: "sha256/BASE64 of the key that the server must have; several by commas" };
pub(crate) const INSECURE: Key =
    Key { name: "insecure", help: "yes: whoever answers is trusted, and may read and forge all" };

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, RFC 7469 section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    /// As `pin=` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

/// A name that a certificate can have.
fn sni(text: &str) -> Value<String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("it is a DNS name or an address".into()),
    }
}

/// One pin or several, by commas.
pub fn pins(text: &str) -> Value<Vec<Pin>> {
    text.split(',').map(pin).collect()
}

fn pin(text: &str) -> Value<Pin> {
    let digest = text.trim().strip_prefix("sha256/").and_then(|text| STANDARD.decode(text).ok());
    let digest = digest.and_then(|octets| octets.try_into().ok()).map(Pin);
    digest.ok_or_else(|| {
        "it is sha256/ and 44 characters of base64; `pcaphub cert show FILE` shows that of a certificate"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    const KEYS: &[Key] = &[CERT, KEY, CA, CLIENT_CA, SNI, PIN, INSECURE];

    fn read(endpoint: &str) -> Result<TlsOptions, String> {
        let endpoint = Endpoint::parse(endpoint).unwrap();
        let options = Reading::new(&endpoint, &[KEYS]).map_err(|error| error.to_string())?;
        TlsOptions::read(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pin_is_written_as_it_is_read() {
        let pin = Pin([7; 32]);
        assert_eq!(pins(&pin.to_string()), Ok(vec![pin]));
        assert_eq!(pins(&format!("{pin},{pin}")), Ok(vec![pin, pin]));
        assert!(pins("sha256/abc").unwrap_err().contains("pcaphub cert show"));
        assert!(pins("md5/abc").is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let error = |endpoint: &str| read(endpoint).unwrap_err();
        assert!(error("tls://h?insecure=yes&ca=ca.pem").contains("leave one of them out"));
        assert!(error("tls://h?key=k.pem").contains("without cert="));
        assert!(error("tls://h?ca=").contains("path of a PEM file"));
        assert_eq!(
            read("tls://h?sni=hub&insecure=yes").map(|tls| (tls.sni, tls.insecure)),
            Ok((Some("hub".into()), true))
        );
    }
}
