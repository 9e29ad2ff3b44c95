//! What holds for every kind of source and sink, by the tables that parse them.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use pcaphub::endpoint::{Endpoint, Scheme};
use pcaphub::plan::PlanError;
use pcaphub::sink::{self, SINKS};
use pcaphub::source::{self, SOURCES};

/// A valid endpoint of each scheme.
fn endpoint(scheme: Scheme) -> Endpoint {
    let text = match scheme {
        Scheme::File => "some.pcap",
        Scheme::Stdio => "-",
        Scheme::Tcp => "tcp://10.1.2.3",
        Scheme::TcpListen => "tcp-listen://127.0.0.1:0",
        Scheme::Unix => "unix:/run/some.sock",
        Scheme::UnixListen => "unix-listen:/run/some.sock",
        Scheme::Exec => "exec:tcpdump -w -",
        Scheme::Sh => "sh:tcpdump -w - | cat",
        Scheme::Demo => "demo:",
        Scheme::Null => "null:",
        Scheme::If => "if:eth0",
        Scheme::Tls => "tls://10.1.2.3",
        Scheme::TlsListen => "tls-listen://127.0.0.1:0",
        other => panic!("{other:?} is not built"),
    };
    Endpoint::parse(text).unwrap()
}

#[test]
fn every_source_reads_its_example_and_the_options_of_all() {
    for kind in SOURCES {
        let spec = source::spec(endpoint(kind.scheme)).unwrap();
        assert!(!spec.name.is_empty() && !spec.named, "it is called by what it is");
        for option in ["name=tap", "linktype=raw", "clock-offset=-2s"] {
            source::spec(endpoint(kind.scheme).with_option(option).unwrap()).unwrap();
        }
        assert!(
            !kind.help.is_empty()
                && (kind.scheme == Scheme::File || kind.example.starts_with(kind.scheme.prefix())),
            "{}",
            kind.example
        );
    }
}

#[test]
fn every_sink_reads_its_example_and_the_options_of_all() {
    for kind in SINKS {
        sink::spec(endpoint(kind.scheme)).unwrap();
        for option in ["name=out", "format=pcapng", "on-slow=drop", "linktype=1", "dedup=1ms"] {
            sink::spec(endpoint(kind.scheme).with_option(option).unwrap()).unwrap();
        }
        assert!(
            !kind.help.is_empty()
                && (kind.scheme == Scheme::File || kind.example.starts_with(kind.scheme.prefix())),
            "{}",
            kind.example
        );
    }
}

#[test]
fn an_unknown_option_is_an_error_that_lists_the_known_ones() {
    let known = |error: PlanError| match error {
        PlanError::UnknownOption { known, .. } => known,
        other => panic!("{other}"),
    };
    for kind in SOURCES {
        let error = source::spec(endpoint(kind.scheme).with_option("colour=red").unwrap()).unwrap_err();
        let known = known(error);
        let keys = source::COMMON.iter().chain(kind.keys);
        assert!(keys.map(|key| key.name).all(|name| known.contains(name)), "{known}");
    }
    for kind in SINKS {
        let error = sink::spec(endpoint(kind.scheme).with_option("colour=red").unwrap()).unwrap_err();
        let known = known(error);
        let keys = sink::COMMON.iter().chain(kind.keys);
        assert!(keys.map(|key| key.name).all(|name| known.contains(name)), "{known}");
    }
}

#[test]
fn every_key_of_a_row_is_read_so_that_a_bad_value_is_refused() {
    // Whether there are such files is seen when the endpoint is opened.
    let free_text = ["name", "filter", "cert", "key", "ca", "client-ca"];
    for kind in SOURCES {
        for key in source::COMMON.iter().chain(kind.keys).filter(|key| !free_text.contains(&key.name)) {
            let bad = endpoint(kind.scheme).with_option(&format!("{}=?!", key.name)).unwrap();
            let error = source::spec(bad).unwrap_err();
            assert!(matches!(error, PlanError::BadValue { .. }), "{} {}: {error}", kind.example, key.name);
        }
    }
    for kind in SINKS {
        for key in sink::COMMON.iter().chain(kind.keys).filter(|key| !free_text.contains(&key.name)) {
            let bad = endpoint(kind.scheme).with_option(&format!("{}=?!", key.name)).unwrap();
            let error = sink::spec(bad).unwrap_err();
            assert!(matches!(error, PlanError::BadValue { .. }), "{} {}: {error}", kind.example, key.name);
        }
    }
}

#[test]
fn what_is_planned_is_named_with_its_missing_part() {
    for text in ["nats://bus", "intercept://127.0.0.1:8443"] {
        let error = source::spec(Endpoint::parse(text).unwrap()).unwrap_err();
        assert!(error.to_string().contains("is not built yet"), "{text}: {error}");
    }
    let error = sink::spec(Endpoint::parse("nats://bus").unwrap()).unwrap_err();
    assert!(error.to_string().contains("is not built yet"), "{error}");
}
