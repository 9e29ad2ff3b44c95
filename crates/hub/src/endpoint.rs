//! Endpoint text into a type: `tcp://10.1.2.3:57012?name=office`, `capture.pcap`, `exec:tcpdump …`.
//!
//! Whether a scheme can be a source or a sink, and which options it knows, is said by the tables
//! in [`source`](crate::source) and [`sink`](crate::sink).

use std::fmt;

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The port of PCAP-over-IP.
pub const DEFAULT_PORT: u16 = 57012;
/// Wireshark's default for `TCP@host`.
const WIRESHARK_PORT: u16 = 19000;

/// How an endpoint is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the schemes of the endpoint table")]
pub enum Scheme {
    File,
    Stdio,
    Tcp,
    TcpListen,
    Tls,
    TlsListen,
    Unix,
    UnixListen,
    If,
    Exec,
    Sh,
    Nats,
    Intercept,
    Demo,
    Null,
}

/// How a scheme is spelt.
struct Spelling {
    scheme: Scheme,
    prefix: &'static str,
    /// Options follow behind `?`; otherwise the address is verbatim to its end.
    query: bool,
}

const SPELLINGS: &[Spelling] = &[
    Spelling { scheme: Scheme::Tcp, prefix: "tcp://", query: true },
    Spelling { scheme: Scheme::TcpListen, prefix: "tcp-listen://", query: true },
    Spelling { scheme: Scheme::Tls, prefix: "tls://", query: true },
    Spelling { scheme: Scheme::TlsListen, prefix: "tls-listen://", query: true },
    Spelling { scheme: Scheme::Unix, prefix: "unix:", query: false },
    Spelling { scheme: Scheme::UnixListen, prefix: "unix-listen:", query: false },
    Spelling { scheme: Scheme::If, prefix: "if:", query: true },
    Spelling { scheme: Scheme::Exec, prefix: "exec:", query: false },
    Spelling { scheme: Scheme::Sh, prefix: "sh:", query: false },
    Spelling { scheme: Scheme::Nats, prefix: "nats://", query: true },
    Spelling { scheme: Scheme::Intercept, prefix: "intercept://", query: true },
    Spelling { scheme: Scheme::Demo, prefix: "demo:", query: true },
    Spelling { scheme: Scheme::Null, prefix: "null:", query: true },
    Spelling { scheme: Scheme::File, prefix: "file:", query: true },
];

impl Scheme {
    /// Every one.
    pub const ALL: &[Scheme] = &[
        Scheme::File,
        Scheme::Stdio,
        Scheme::Tcp,
        Scheme::TcpListen,
        Scheme::Tls,
        Scheme::TlsListen,
        Scheme::Unix,
        Scheme::UnixListen,
        Scheme::If,
        Scheme::Exec,
        Scheme::Sh,
        Scheme::Nats,
        Scheme::Intercept,
        Scheme::Demo,
        Scheme::Null,
    ];

    /// What its endpoints begin with; empty for a bare path and for `-`.
    pub fn prefix(self) -> &'static str {
        match self {
            Scheme::Stdio => "-",
            scheme => SPELLINGS.iter().find(|s| s.scheme == scheme).map_or("", |s| s.prefix),
        }
    }
}

/// An endpoint as it was written, taken apart. It is the same in whatever order its options are.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// How it is reached.
    pub scheme: Scheme,
    /// A path, a command, or `HOST:PORT`; without options.
    pub address: String,
    /// Its options, in the order given, each key once.
    pub options: Vec<(String, String)>,
}

/// What is wrong with an endpoint's text. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Nothing was given.
    #[error("an empty endpoint; give a file, `-`, or one of {known}", known = known_schemes())]
    Empty,
    /// It looks like a URL of a kind we do not know.
    #[error("unknown scheme `{scheme}` in `{text}`; known are {known} (a path that looks like this needs ./ before it)", known = known_schemes())]
    UnknownScheme {
        /// What stands before the colon.
        scheme: String,
        /// The whole endpoint.
        text: String,
    },
    /// An option without `=`.
    #[error("option `{option}` of {endpoint} has no value; write {option}=VALUE")]
    NoValue {
        /// The option.
        option: String,
        /// The endpoint it belongs to.
        endpoint: String,
    },
    /// The same option twice.
    #[error("option `{option}` is given twice for {endpoint}")]
    Doubled {
        /// The option.
        option: String,
        /// The endpoint it belongs to.
        endpoint: String,
    },
    /// No host, port or path where one is needed.
    #[error("`{text}`: {why}")]
    Malformed {
        /// The whole endpoint.
        text: String,
        /// What is missing or wrong.
        why: String,
    },
}

fn known_schemes() -> String {
    SPELLINGS.iter().map(|s| s.prefix).collect::<Vec<_>>().join(" ")
}

impl Endpoint {
    /// Reads an endpoint as the command line has it.
    ///
    /// # Errors
    /// Unknown scheme, an option without value or given twice, no address where one is needed.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text == "-" {
            return Ok(Endpoint { scheme: Scheme::Stdio, address: String::new(), options: Vec::new() });
        }
        if let Some(address) = text.strip_prefix("TCP@") {
            return Self::dialled(text, address, WIRESHARK_PORT);
        }
        if let Some(address) = text.strip_prefix("pcapovertcp::") {
            return Self::dialled(text, address, DEFAULT_PORT);
        }
        match SPELLINGS.iter().find(|s| text.starts_with(s.prefix)) {
            Some(spelling) => Self::spelt(text, spelling),
            None => match url_scheme(text) {
                Some(scheme) => {
                    Err(EndpointError::UnknownScheme { scheme: scheme.into(), text: text.into() })
                }
                None => Ok(Endpoint { scheme: Scheme::File, address: text.into(), options: Vec::new() }),
            },
        }
    }

    fn dialled(text: &str, address: &str, port: u16) -> Result<Self, EndpointError> {
        let address = with_port(text, address, port)?;
        Ok(Endpoint { scheme: Scheme::Tcp, address, options: Vec::new() })
    }

    fn spelt(text: &str, spelling: &Spelling) -> Result<Self, EndpointError> {
        let rest = &text[spelling.prefix.len()..];
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) if spelling.query => (address, query),
            _ => (rest, ""),
        };
        let decoded = if spelling.query { decode(address) } else { address.to_owned() };
        let missing =
            |what: &str| EndpointError::Malformed { text: text.into(), why: format!("{what} is missing") };
        let address = match spelling.scheme {
            Scheme::Tcp | Scheme::Tls => with_port(text, &decoded, DEFAULT_PORT)?,
            Scheme::TcpListen | Scheme::TlsListen => {
                let bare = decoded.is_empty() || decoded.starts_with(':') && !decoded.starts_with("::");
                let host = if bare { format!("127.0.0.1{decoded}") } else { decoded };
                with_port(text, &host, DEFAULT_PORT)?
            }
            Scheme::File | Scheme::Unix | Scheme::UnixListen if decoded.is_empty() => {
                return Err(missing("the path"));
            }
            Scheme::Exec | Scheme::Sh if decoded.trim().is_empty() => return Err(missing("the command")),
            Scheme::If if decoded.is_empty() => return Err(missing("the interface")),
            _ => decoded,
        };
        let mut endpoint = Endpoint { scheme: spelling.scheme, address, options: Vec::new() };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            endpoint.add_option(option, decode)?;
        }
        Ok(endpoint)
    }

    /// Adds `key=value` as `--opt` has it: verbatim, whatever the scheme.
    ///
    /// # Errors
    /// An option without value, or one that is there already.
    pub fn with_option(mut self, option: &str) -> Result<Self, EndpointError> {
        self.add_option(option, str::to_owned)?;
        Ok(self)
    }

    fn add_option(&mut self, option: &str, decode: fn(&str) -> String) -> Result<(), EndpointError> {
        let Some((key, value)) = option.split_once('=') else {
            return Err(EndpointError::NoValue { option: option.into(), endpoint: self.to_string() });
        };
        let (key, value) = (decode(key), decode(value));
        if self.option(&key).is_some() {
            return Err(EndpointError::Doubled { option: key, endpoint: self.to_string() });
        }
        self.options.push((key, value));
        Ok(())
    }

    /// As [`parse`](Endpoint::parse) reads it, without options.
    pub fn written(&self) -> String {
        let again = |text: &str| Endpoint::parse(text).is_ok_and(|other| other.is_at(self));
        let plain = self.to_string();
        if again(&plain) {
            return plain;
        }
        // A file called like an endpoint, or what would be taken for options.
        let encoded = self.address.replace('%', "%25").replace('?', "%3F");
        match self.scheme {
            Scheme::File => format!("file:{encoded}"),
            scheme => format!("{}{encoded}", scheme.prefix()),
        }
    }

    fn is_at(&self, other: &Endpoint) -> bool {
        (self.scheme, &self.address) == (other.scheme, &other.address) && self.options.is_empty()
    }

    /// The value of an option.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        let same = |(key, value): &(String, String)| other.option(key) == Some(value);
        (self.scheme, &self.address) == (other.scheme, &other.address)
            && self.options.len() == other.options.len()
            && self.options.iter().all(same)
    }
}

impl Eq for Endpoint {}

impl fmt::Display for Endpoint {
    /// As it would be written, without options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::File => f.write_str(&self.address),
            Scheme::Stdio => f.write_str("-"),
            scheme => write!(f, "{}{}", scheme.prefix(), self.address),
        }
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What stands before `://`, or before a colon that follows letters only, as in `nflog:3`.
fn url_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let word = |s: &str| s.len() > 1 && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.@".contains(c));
    (word(scheme) && (rest.starts_with("//") || !scheme.contains('.'))).then_some(scheme)
}

/// `HOST:PORT` of an address whose port may be missing. IPv6 stands in brackets.
fn with_port(text: &str, address: &str, default: u16) -> Result<String, EndpointError> {
    let malformed = |why: &str| EndpointError::Malformed { text: text.into(), why: why.into() };
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| malformed("`[` without `]`"))?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| malformed("what stands in brackets is not an IPv6 address"))?;
            (format!("[{host}]"), after.strip_prefix(':').or((after.is_empty()).then_some("")))
        }
        None if address.matches(':').count() > 1 => {
            return Err(malformed("an IPv6 address stands in brackets: [2001:db8::1]:57012"));
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (address.to_owned(), Some("")),
        },
    };
    if host.is_empty() {
        return Err(malformed("the host is missing"));
    }
    if host.contains('/') {
        return Err(malformed("a host and a port have no path behind them"));
    }
    match port {
        Some("") => Ok(format!("{host}:{default}")),
        Some(port) => match port.parse::<u16>() {
            Ok(port) => Ok(format!("{host}:{port}")),
            Err(_) => Err(malformed("the port is a number from 0 to 65535")),
        },
        None => Err(malformed("behind `]` comes `:PORT` or nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Scheme, String) {
        let endpoint = Endpoint::parse(text).unwrap();
        (endpoint.scheme, endpoint.address)
    }

    #[test]
    fn schemes_have_their_default_port() {
        assert_eq!(parsed("tcp://sensor"), (Scheme::Tcp, "sensor:57012".into()));
        assert_eq!(parsed("tcp://[::1]:9"), (Scheme::Tcp, "[::1]:9".into()));
        assert_eq!(parsed("tcp-listen://"), (Scheme::TcpListen, "127.0.0.1:57012".into()));
        assert_eq!(parsed("tls-listen://:57013"), (Scheme::TlsListen, "127.0.0.1:57013".into()));
        assert_eq!(parsed("TCP@127.0.0.1"), (Scheme::Tcp, "127.0.0.1:19000".into()));
        assert_eq!(parsed("pcapovertcp::host:1"), (Scheme::Tcp, "host:1".into()));
    }

    #[test]
    fn paths_and_commands_are_verbatim() {
        assert_eq!(parsed("what?.pcap"), (Scheme::File, "what?.pcap".into()));
        assert_eq!(parsed("exec:tcpdump -w - 'port 80?'"), (Scheme::Exec, "tcpdump -w - 'port 80?'".into()));
        assert_eq!(parsed("./tcp:odd"), (Scheme::File, "./tcp:odd".into()));
        assert_eq!(parsed("C.d/a:b.pcap"), (Scheme::File, "C.d/a:b.pcap".into()));
        assert_eq!(parsed("-"), (Scheme::Stdio, String::new()));
    }

    #[test]
    fn options_are_percent_decoded_and_plus_is_literal() {
        let endpoint = Endpoint::parse("tcp://h?name=a%20b+c&reconnect=no").unwrap();
        assert_eq!(endpoint.option("name"), Some("a b+c"));
        let endpoint = Endpoint::parse("x.pcap").unwrap().with_option("name=50%").unwrap();
        assert_eq!(endpoint.option("name"), Some("50%"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file =
            |address: &str| Endpoint { scheme: Scheme::File, address: address.into(), options: vec![] };
        assert_eq!(file("tcp://odd?.pcap").written(), "file:tcp://odd%3F.pcap");
        assert_eq!(file("50%.pcap").written(), "50%.pcap");
        assert_eq!(file("-").written(), "file:-");
        for text in ["tcp://h%3Fx", "if:a%3fb%25", "exec:a ?", "demo:?rate=1", "-", "[::1]", "tcp-listen://"]
        {
            let endpoint = Endpoint::parse(text).unwrap();
            let again = Endpoint::parse(&endpoint.written()).unwrap();
            assert_eq!((again.scheme, again.address), (endpoint.scheme, endpoint.address), "{text}");
        }
    }

    #[test]
    fn errors_say_what_to_write_instead() {
        let error = |text: &str| Endpoint::parse(text).unwrap_err().to_string();
        assert!(error("http://x").contains("known are tcp://"), "{}", error("http://x"));
        assert!(error("http://x").contains("./"));
        assert!(error("tcp://::1").contains("[2001:db8::1]:57012"));
        assert!(error("tcp://h:99999").contains("0 to 65535"));
        assert!(error("tcp://h?a=1&a=2").contains("twice"));
        assert!(error("tcp://h?name").contains("name=VALUE"));
        assert!(error("exec:").contains("command is missing"));
        assert!(error("tcp@host:1").contains("unknown scheme"), "{}", error("tcp@host:1"));
    }
}
