//! The configuration file: its errors with their places, and that what is printed is read again.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use pcaphub::config::{self, Config, Filters, LISTS, LogFormat, LogLevel, SETTINGS, TEXTS, Table};
use pcaphub::conflicts::{Place, conflicts};
use pcaphub::endpoint::{Endpoint, Scheme};
use pcaphub::limits::Limits;
use pcaphub::opener::System;
use pcaphub::plan::{Key, Plan, Reconnect};
use pcaphub::sink::{self, SINKS};
use pcaphub::source::{self, SOURCES};
use pcaphub_core::merge::Order;
use proptest::prelude::*;

/// A file's text behind a source, so that only what is asked about can be wrong.
fn errors(text: &str) -> Vec<String> {
    let errors = config::parse(text).unwrap_err();
    errors.errors.iter().map(ToString::to_string).collect()
}

/// The only error of a file.
fn error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].clone()
}

const WHOLE: &str = "[[source]]\nendpoint = \"tcp://10.1.2.3\"\n[[sink]]\nendpoint = \"null:\"\n";

/// The error of a line that is added to a sink at the end, without its place, which is line 5.
fn of_line(line: &str) -> String {
    let error = error(&format!("{WHOLE}{line}\n"));
    error.strip_prefix("5:").unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn a_file_is_what_the_command_line_would_be() {
    let config = config::parse(
        r#"
        order = "exact"
        hold = "250ms"
        count = 1_000
        duration = "1h"

        [limits]
        max-memory = "64MiB"
        max-clients = 0x10
        drain = 2.5

        [log]
        level = "debug"
        format = "json"

        [[source]]
        endpoint = "if:eth0"
        rings = 4
        promiscuous = false
        buffer = "64MiB"
        filter = 'port 80'

        [[source]]
        endpoint = 'exec:tcpdump -w - "port 80?"'
        clock-offset = "-2s"
        reconnect = "always"

        [[sink]]
        endpoint = "tcp-listen://0.0.0.0"
        allow = ["10.0.0.0/8", "192.168.1.7"]
        deny = "10.0.0.1"
        history = "10s"
        linktype = 1
        "#,
    )
    .unwrap();
    let plan = &config.plan;
    assert_eq!((plan.order, plan.hold), (Some(Order::Exact), Duration::from_millis(250)));
    assert_eq!((plan.count, plan.duration), (Some(1000), Some(Duration::from_secs(3600))));
    assert_eq!((plan.limits.max_memory, plan.limits.max_clients), (64 << 20, 16));
    assert_eq!(plan.limits.drain, Duration::from_millis(2500));
    assert_eq!(plan.limits.keepalive, Limits::default().keepalive);
    assert_eq!((config.log_level, config.log_format), (LogLevel::Debug, LogFormat::Json));
    assert_eq!(plan.reconnect, Reconnect::Always, "as serve has it");
    let option = |endpoint: &Endpoint, key| endpoint.option(key).map(str::to_owned);
    assert_eq!(option(&plan.sources[0].endpoint, "rings"), Some("4".into()));
    assert_eq!(option(&plan.sources[0].endpoint, "promiscuous"), Some("no".into()));
    assert_eq!(plan.sources[1].endpoint.address, "tcpdump -w - \"port 80?\"");
    assert_eq!(plan.sinks[0].allow.as_ref().unwrap().len(), 2);
    assert_eq!(config.position(Place::Source(1)), Some((24, 20)));
}

#[test]
fn an_unknown_key_has_its_place_and_the_nearest_known_one() {
    let text = "[[source]]\nendpoint = \"tcp://10.1.2.3\"\n\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1\"\n  alow = \"any\"\n";
    assert_eq!(
        error(text),
        "6:3: unknown key \"alow\" in [[sink]]; did you mean \"allow\"? Known are endpoint, allow, count, dedup, \
         deny, filter, format, history, linktype, name, on-slow, pace, sample, snaplen, time"
    );
    assert!(
        of_line("on_slow = \"drop\"")
            .starts_with("1: unknown key \"on_slow\" in [[sink]]; did you mean \"on-slow\"?")
    );
    let far = of_line("colour = \"red\"");
    assert!(far.starts_with("1: unknown key \"colour\" in [[sink]]. Known are endpoint, count"), "{far}");
}

#[test]
fn a_key_at_the_wrong_place_is_told_the_right_one() {
    assert!(
        of_line("order = \"time\"").contains("it stands at the top of the file, above the first [table].")
    );
    assert!(of_line("max-clients = 3").contains("it stands below [limits]."));
    let top = |line: &str| error(&format!("{line}\n{WHOLE}"));
    assert!(
        top("drain = \"1s\"")
            .starts_with("1:1: unknown key \"drain\" in the file; it stands below [limits].")
    );
    assert!(top("allow = \"any\"").contains("below [[source]] or [[sink]]."));
    assert!(top("history = \"1s\"").contains("below [[sink]]."));
    assert!(top("rings = 1").contains("below [[source]]."));
    assert!(top("[limit]").starts_with("1:2: unknown key \"limit\" in the file; did you mean \"limits\"?"));
}

#[test]
fn a_wrong_type_says_what_was_found_and_what_to_write() {
    assert_eq!(of_line("name = 4"), "8: name is a number, and takes a text in quotes");
    assert_eq!(of_line("filter = true"), "10: filter is true or false, and takes a text in quotes");
    assert_eq!(of_line("dedup = [\"1s\"]"), "9: dedup is a list, and takes one value, a text in quotes");
    assert_eq!(of_line("dedup = 2026-01-01"), "9: dedup is a date, and takes one value, a text in quotes");
    assert_eq!(of_line("format = { a = 1 }"), "10: format is a table, and takes one value, a text in quotes");
    let limits = error(&format!("limits = 3\n{WHOLE}"));
    assert_eq!(
        limits,
        "1:10: limits is a number, and takes keys of its own: write [limits] and keys below it"
    );
    let single = errors("[source]\nendpoint = \"tcp://x\"\n");
    assert_eq!(
        single[0],
        "1:1: source is a table, and takes a table for each: write [[source]] and keys below it"
    );
}

#[test]
fn a_value_that_cannot_be_read_is_shown_as_it_stands_there() {
    assert_eq!(of_line("format = \"pcapx\""), "10: format = \"pcapx\": it is one of pcap, pcap-ns, pcapng");
    assert_eq!(
        of_line("snaplen = 0x50000"),
        "11: snaplen = 0x50000: it is a number of octets from 1 to 262144"
    );
    assert_eq!(of_line("snaplen = true"), "11: snaplen = true: it is a number of octets from 1 to 262144");
    let shown = of_line("dedup = \"\\u001b[2J\u{202e}\"");
    assert!(!shown.contains('\u{202e}'), "{shown}");
    let limit = error(
        &format!("[limits]\nmax-memory = \"1MiB\"\nmax-clients = -1\n{WHOLE}")
            .replace("max-clients = -1\n", ""),
    );
    assert_eq!(limit, "2:14: max-memory = \"1MiB\": it is at least 16MiB");
    let limit = error(&format!("[limits]\nmax-clients = -1\n{WHOLE}"));
    assert_eq!(limit, "2:15: max-clients = -1: it is a number from 1 to 4294967295");
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_their_places() {
    let text = r#"order = "tme"
hodl = "100ms"

[[source]]
endpoint = "if:eth0"
rings = 400
latency = "slow"
filter = "tcp prot 80"

[[sink]]
name = "x"

[[sink]]
endpoint = "http://x"
format = "foo"

[[sink]]
endpoint = "tcp-listen://127.0.0.1:1"

[[sink]]
endpoint = "tcp-listen://127.0.0.1:1"
"#;
    let errors = errors(text);
    let places: Vec<_> = errors.iter().map(|error| error.split(' ').next().unwrap()).collect();
    let filter =
        if pcaphub::filter::compiled("x", "tcp").is_ok() { errors[4].contains("tcp prot 80") } else { true };
    assert!(filter, "{errors:#?}");
    assert_eq!(
        places,
        ["1:9:", "2:1:", "6:9:", "7:11:", "8:10:", "10:1:", "14:12:", "15:10:", "21:12:"],
        "{errors:#?}"
    );
    assert_eq!(errors[5], "10:1: [[sink]] has no endpoint; add endpoint = \"tcp-listen://127.0.0.1\"");
    assert_eq!(
        errors[8],
        "21:12: tcp-listen://127.0.0.1:1: a sink listens at 127.0.0.1:1 already; choose another address or port"
    );
}

#[test]
fn options_in_an_endpoint_are_answered_with_the_keys_to_write() {
    let text = WHOLE.replace("tcp://10.1.2.3", "tcp://10.1.2.3?name=a%20b&reconnect=no");
    assert_eq!(
        error(&text),
        "2:12: options of an endpoint are keys of their own here: end it before the `?`, and write \
         name = \"a b\", reconnect = \"no\""
    );
    let text = WHOLE.replace("tcp://10.1.2.3", "tcp://10.1.2.3?name");
    assert!(error(&text).ends_with("write name = \"…\""));
    config::parse(&WHOLE.replace("tcp://10.1.2.3", "what?.pcap")).unwrap();
}

#[test]
fn what_is_not_toml_is_told_once_for_each_line() {
    assert_eq!(
        errors("a = = 2\n[x\n"),
        ["1:5: extra `=`, expected nothing", "2:3: unclosed table, expected `]`"]
    );
    assert!(error(&format!("{WHOLE}name = \"ü\"\nname = \"b\"\n")).starts_with("6:1: duplicate key"));
    assert!(error("naïve = \"ü\" x\n").starts_with("1:13: "), "columns are characters");
}

#[test]
fn what_is_wrong_beside_a_line_that_is_not_toml_is_told_as_well() {
    let broken = "hold \"1s\"\n[[source]]\nendpoint = \"demo:\nrat = 5\n[log]\nlevel = \"loud\"\n";
    let told = errors(broken);
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[0], "1:6: key with no value, expected `=`");
    assert_eq!(told[1], "3:18: invalid basic string, expected `\"`");
    assert!(told[2].starts_with("4:1: unknown key \"rat\" in [[source]]"), "{told:?}");
    assert!(told[3].starts_with("6:9: level = \"loud\""), "{told:?}");
    // To which table a key belongs is not known behind a heading that cannot be read.
    assert_eq!(error("[[source]\nendpoint = \"demo:\"\n"), "1:10: unclosed array table, expected `]`");
}

#[test]
fn a_file_without_a_source_or_a_sink_says_what_to_add() {
    assert_eq!(
        errors(""),
        [
            "1:1: there is no source; add [[source]] and below it endpoint = \"tcp://10.1.2.3\"",
            "1:1: there is no sink; add [[sink]] and below it endpoint = \"tcp-listen://127.0.0.1\""
        ]
    );
    assert_eq!(
        error("[[source]]\nendpoint = \"demo:\"\n"),
        "1:1: there is no sink; add [[sink]] and below it endpoint = \"tcp-listen://127.0.0.1\""
    );
}

#[test]
fn combinations_that_cannot_work_are_told_where_the_endpoint_stands() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcap");
    std::fs::write(&file, b"").unwrap();
    let text = format!(
        "[[source]]\nendpoint = \"{file}\"\n[[source]]\nendpoint = \"tcp://x\"\n[[sink]]\nendpoint = \"{file}\"\n",
        file = file.display()
    );
    let errors = errors(&text);
    assert!(errors[0].starts_with("2:12: ") && errors[0].contains("times of its own"), "{errors:#?}");
    assert!(errors[1].starts_with("6:12: ") && errors[1].contains("is a source and a sink"), "{errors:#?}");
    let open = error(&WHOLE.replace("null:", "tcp-listen://0.0.0.0"));
    assert!(open.starts_with("4:12: ") && open.contains("is not loopback"), "{open}");
    let open = error(&WHOLE.replace("tcp://10.1.2.3", "tcp-listen://[::]"));
    assert!(open.starts_with("2:12: ") && open.contains("allow"), "{open}");
    let networks = error(&WHOLE.replace("tcp://10.1.2.3\"", "tcp-listen://127.0.0.1\"\nallow = \"here\""));
    assert!(networks.starts_with("3:9: allow = \"here\": `here` is not a network"), "{networks}");
}

#[test]
fn a_pace_of_the_file_is_that_of_each_endpoint_as_on_the_command_line() {
    let paced = |text: &str| {
        let config = config::parse(&format!("pace = \"2x\"\n{text}")).unwrap();
        let paces = |paced: Vec<bool>| paced;
        (
            paces(config.plan.sources.iter().map(|spec| spec.pace.is_some()).collect()),
            paces(config.plan.sinks.iter().map(|spec| spec.pace.is_some()).collect()),
        )
    };
    let sink = "[[sink]]\nendpoint = \"null:\"\n";
    assert_eq!(paced(&format!("[[source]]\nendpoint = \"no.pcap\"\n{sink}")), (vec![false], vec![true]));
    let both = "[[source]]\nendpoint = \"no.pcap\"\n[[source]]\nendpoint = \"tcp://x\"\n";
    assert_eq!(paced(&format!("{both}{sink}")), (vec![true, false], vec![false]));
}

#[test]
fn whatever_a_file_has_it_is_read_in_bounded_time() {
    let table = "[[source]]\nendpoint = \"tcp://h?\"\nx = 1\n";
    let long = format!("{WHOLE}name = \"{}\"\n", "x".repeat(3 << 20));
    let many_keys: String = (0..200_000).map(|n| format!("k{n} = \"{n}\"\n")).collect();
    let listeners: String =
        (0..1500).map(|n| format!("[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:{}\"\n", n + 1)).collect();
    let files: String = (0..1500)
        .map(|n| format!("[[source]]\nendpoint = \"/no/{n}\"\n[[sink]]\nendpoint = \"/no/{n}\"\n"))
        .collect();
    let hostile = [
        table.repeat(80_000),
        long,
        format!("{WHOLE}{many_keys}"),
        format!("[[source]]\nendpoint = \"tcp://x\"\n{listeners}"),
        files,
        "[".repeat(1 << 20),
        format!("a = {}", "[".repeat(1 << 20)),
        format!("a = {}", "{a=".repeat(1 << 18)),
        format!("{}a = 1", "a.".repeat(1 << 20)),
        "\"".repeat(1 << 20),
        "=\n".repeat(1 << 20),
    ];
    for text in hostile {
        let begun = Instant::now();
        let read = config::parse_with(&text, &System, Filters::Keep);
        let took = begun.elapsed();
        let start: String = text.chars().take(30).collect();
        assert!(took < Duration::from_secs(20), "{start:?}: {took:?}");
        if let Err(errors) = read {
            assert!(errors.errors.len() <= 101, "{start:?}: {}", errors.errors.len());
            assert!(errors.to_string().len() < 1 << 20, "{start:?}");
        }
    }
}

#[test]
fn too_many_endpoints_are_an_error() {
    let sinks = "[[sink]]\nendpoint = \"null:\"\n".repeat(1025);
    assert_eq!(
        error(&format!("[[source]]\nendpoint = \"demo:\"\n{sinks}")),
        "2051:1: more than 1024 of [[sink]]; further ones are not read"
    );
}

/// A file in a folder of its own.
fn file(octets: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pcaphub.toml");
    std::fs::write(&path, octets).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

#[test]
fn errors_of_a_file_begin_with_its_name_as_those_of_compilers() {
    let (_folder, path) = file(b"order = 1\nx = 1\n", 0o644);
    let error = config::load(&path, &System, Filters::Compile).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with(&format!("{}:1:", path.display())) || line.contains(":2:1:"))
    );
    let (_folder, path) = file(b"[log]\nlevel = \"\xff\"\n", 0o644);
    let error = config::load(&path, &System, Filters::Compile).unwrap_err().to_string();
    assert!(error.ends_with(":2:10: not UTF-8 from here on"), "{error}");
    let (_folder, path) = file(&vec![b'#'; config::MAX_OCTETS + 1], 0o644);
    let error = config::load(&path, &System, Filters::Compile).unwrap_err().to_string();
    assert!(error.ends_with("has more than 4194304 octets, which is no configuration"), "{error}");
}

#[test]
fn a_file_that_everybody_may_write_is_refused_as_root_and_told_otherwise() {
    let (_folder, path) = file(WHOLE.as_bytes(), 0o646);
    let loaded = config::load(&path, &System, Filters::Compile);
    if rustix::process::geteuid().is_root() {
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains("can be written by everybody"), "{error}");
        assert!(error.ends_with(&format!("chmod o-w {}", path.display())), "{error}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let notes = config::load(&path, &System, Filters::Compile).unwrap().notes;
        assert!(notes[0].contains("belongs to user 12345"), "{notes:?}");
        std::os::unix::fs::chown(&path, Some(0), Some(12345)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        let notes = config::load(&path, &System, Filters::Compile).unwrap().notes;
        assert!(notes[0].contains("written by group 12345"), "{notes:?}");
    } else {
        assert!(loaded.unwrap().notes[0].contains("can be written by everybody"));
    }
}

#[test]
fn what_is_not_there_is_a_doubt_and_no_error() {
    let text = "[[source]]\nendpoint = \"some/no.pcap\"\n[[source]]\nendpoint = \"exec:no-such-command -w -\"\n\
                [[sink]]\nendpoint = \"/no/folder/x.pcap\"\n[[sink]]\nendpoint = \"if:no-such-if\"\n";
    let config = config::parse(text).unwrap();
    let doubts = config::doubts(std::path::Path::new("f.toml"), &config, &System);
    let of =
        |start: &str, part: &str| doubts.iter().any(|doubt| doubt.starts_with(start) && doubt.contains(part));
    assert!(
        of("f.toml:2:12: some/no.pcap is looked for where pcaphub is started", "from / on"),
        "{doubts:#?}"
    );
    assert!(of("f.toml:2:12: some/no.pcap: No such file", "must be there"), "{doubts:#?}");
    assert!(of("f.toml:4:12: there is no command no-such-command", ""), "{doubts:#?}");
    assert!(of("f.toml:6:12: /no/folder: No such file", "folder"), "{doubts:#?}");
    assert!(of("f.toml:8:12: there is no interface no-such-if", ""), "{doubts:#?}");
    assert_eq!(doubts.len(), 5, "{doubts:#?}");
}

const PINS: &str = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,\
                    sha256/BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

/// Values that a key takes. A key that is missing here has a row without a test: add it.
fn values(key: &str) -> BoxedStrategy<String> {
    let one_of =
        |values: &'static [&'static str]| prop::sample::select(values).prop_map(str::to_owned).boxed();
    match key {
        "name" | "filter" | "cert" | "key" | "ca" | "client-ca" => any_text().boxed(),
        "pin" => one_of(&[PINS]),
        "sni" => one_of(&["hub.example", "10.0.0.1"]),
        "linktype" => one_of(&["raw", "1", "113", "Ethernet"]),
        "clock-offset" => one_of(&["-2s", "+150ms", "1h", "0"]),
        "snaplen" => one_of(&["0", "96", "262144"]),
        "sample" => one_of(&["1/10", "1/1"]),
        "count" | "packets" | "seed" | "start" | "flows" => one_of(&["1", "7", "99999"]),
        "time" => one_of(&["keep", "now"]),
        "pace" => one_of(&["max", "1x", "0.5x", "100kpps", "50Mbit"]),
        "loop" => one_of(&["3", "forever"]),
        "reconnect" => one_of(&["error", "always", "no"]),
        "bind" => one_of(&["10.0.0.1", "::1", "[::1]"]),
        "allow" | "deny" => one_of(&["any", "10.0.0.0/8,any", "::1, 10.0.0.1"]),
        "promiscuous" | "force" | "insecure" => one_of(&["yes", "no"]),
        "buffer" => one_of(&["64MiB", "1048576"]),
        "latency" => one_of(&["low", "normal"]),
        "rings" => one_of(&["1", "2", "64"]),
        "rate" => one_of(&["max", "1000", "0.5", "1e3"]),
        "mix" => one_of(&["realistic", "imix", "64"]),
        "format" => one_of(&["pcap", "pcap-ns", "pcapng"]),
        "on-slow" => one_of(&["wait", "drop", "disconnect"]),
        "dedup" => one_of(&["1s", "10ms", "1"]),
        "history" => one_of(&["30s", "64MiB"]),
        "create" => one_of(&["tap"]),
        "oversize" => one_of(&["drop", "segment", "truncate"]),
        "template" => one_of(&["%H.pcap", "a-%s.pcapng.zst"]),
        "size" => one_of(&["1GiB", "100MB", "2000"]),
        "keep-total" | "keep-free" => one_of(&["1GiB", "20GB"]),
        "every" | "keep-age" => one_of(&["1h", "14d", "90"]),
        "keep" | "files" => one_of(&["1", "24"]),
        "zone" => one_of(&["utc", "local"]),
        "mac-src" | "mac-dst" => one_of(&["02:00:00:00:00:01", "2-0-0-0-0-1"]),
        other => panic!("give the test values for the key {other}"),
    }
}

/// Text with everything that has a meaning in TOML.
fn any_text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(
        &['"', '\'', '\\', '\n', '\r', '\t', '\0', '\u{7f}', '\u{85}', '#', '?', '%', '&', '='][..],
    );
    prop::collection::vec(prop_oneof![odd, any::<char>(), proptest::char::range('a', 'z')], 1..12)
        .prop_map(|characters| characters.into_iter().collect())
}

fn addresses(scheme: Scheme) -> BoxedStrategy<String> {
    match scheme {
        Scheme::Tcp | Scheme::Tls => prop_oneof![Just("10.1.2.3:57012"), Just("[::1]:9"), Just("host:1")]
            .prop_map(str::to_owned)
            .boxed(),
        Scheme::TcpListen | Scheme::TlsListen => {
            prop_oneof![Just("127.0.0.1:0"), Just("[::1]:0")].prop_map(str::to_owned).boxed()
        }
        Scheme::Stdio | Scheme::Demo | Scheme::Null => Just(String::new()).boxed(),
        Scheme::Unix | Scheme::UnixListen | Scheme::Exec | Scheme::Sh => {
            any_text().prop_map(|text| format!("/{text}")).boxed()
        }
        Scheme::File => prop_oneof![
            any_text(),
            any_text().prop_map(|text| format!("{text}/")),
            any_text().prop_map(|text| format!("{text}/%H.pcap"))
        ]
        .boxed(),
        _ => any_text().boxed(),
    }
}

/// Endpoints of a row, each of its keys there or not.
fn endpoints(scheme: Scheme, keys: Vec<&'static Key>) -> impl Strategy<Value = Endpoint> {
    let option =
        |key: &'static Key| prop::option::of(values(key.name).prop_map(|value| (key.name.to_owned(), value)));
    let options: Vec<_> = keys.into_iter().map(option).collect();
    (addresses(scheme), options).prop_map(move |(address, options)| Endpoint {
        scheme,
        address,
        options: options.into_iter().flatten().collect(),
    })
}

/// Keys of a row, each once.
fn keys(of: &[&'static [Key]]) -> Vec<&'static Key> {
    let mut names = BTreeSet::new();
    of.iter().flat_map(|keys| keys.iter()).filter(|key| names.insert(key.name)).collect()
}

fn any_source() -> impl Strategy<Value = Endpoint> {
    (0..SOURCES.len())
        .prop_flat_map(|row| endpoints(SOURCES[row].scheme, keys(&[source::COMMON, SOURCES[row].keys])))
}

fn any_sink() -> impl Strategy<Value = Endpoint> {
    let shaping: &[Key] = source::COMMON;
    (0..SINKS.len()).prop_flat_map(move |row| {
        let keys = keys(&[sink::COMMON, shaping, SINKS[row].keys]);
        // What sources have in common and sinks have not.
        let keys = keys.into_iter().filter(|key| key.name != "clock-offset").collect();
        endpoints(SINKS[row].scheme, keys)
    })
}

fn any_time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())),
        (0..u64::MAX / 4, 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n))
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let peers = || (1..=u32::MAX).prop_map(|n| n as usize);
    let octets = prop_oneof![(16usize..1 << 20).prop_map(|mib| mib << 20), (16usize << 20)..(1 << 40)];
    (
        octets,
        [peers(), peers(), peers(), peers()],
        [any_time(), any_time(), any_time(), any_time(), any_time(), any_time()],
    )
        .prop_map(|(max_memory, peers, times)| Limits {
            max_memory,
            max_clients: peers[0],
            max_clients_per_address: peers[1],
            max_producers: peers[2],
            max_producers_per_address: peers[3],
            client_timeout: times[0],
            keepalive: times[1],
            producer_silence: times[2],
            header_wait: times[3],
            drain: times[4],
            handshake_timeout: times[5],
        })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1 << 20, ..ProptestConfig::with_cases(2000) })]

    /// Every key of every row, and any text where text is taken.
    #[test]
    fn what_is_printed_of_endpoints_is_read_as_the_same(source in any_source(), sink in any_sink()) {
        let (source, sink) = (source::spec(source), sink::spec(sink));
        // Values that are good each by itself, and not together.
        prop_assume!(source.is_ok() && sink.is_ok());
        let plan = Plan { sources: vec![source.unwrap()], sinks: vec![sink.unwrap()], ..Config::default().plan };
        prop_assume!(conflicts(&plan, &System).is_empty());
        let text = config::printed(&Config::of(plan.clone()));
        let read = config::parse_with(&text, &System, Filters::Keep);
        let read = read.map_err(|errors| TestCaseError::fail(format!("{errors}\n{text}")))?;
        prop_assert_eq!(&read.plan, &plan, "{}", text);
    }

    #[test]
    fn what_is_printed_of_settings_is_read_as_the_same(
        limits in any_limits(),
        order in prop::sample::select(&[None, Some(Order::Time), Some(Order::Arrival), Some(Order::Exact)][..]),
        reconnect in prop::sample::select(&[Reconnect::Error, Reconnect::Always, Reconnect::No][..]),
        (hold, duration) in (any_time(), prop::option::of(any_time())),
        count in prop::option::of(1..u64::MAX),
        level in prop::sample::select(&[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace][..]),
        (json, stats) in any::<(bool, bool)>(),
        user in prop::option::of(any_text()),
    ) {
        let mut config = config::parse(WHOLE).unwrap();
        let endpoints = config.plan.clone();
        config.plan = Plan { order, hold, reconnect, count, duration, limits, ..endpoints };
        config.log_level = level;
        config.log_format = if json { LogFormat::Json } else { LogFormat::Text };
        config.stats_json = stats;
        config.user = user;
        let text = config::printed(&config);
        let read = config::parse(&text).map_err(|errors| TestCaseError::fail(format!("{errors}\n{text}")))?;
        prop_assert_eq!(&read, &config, "{}", text);
    }
}

/// All keys of sources and sinks, each with the row it is of.
fn rows() -> Vec<(Endpoint, &'static str, bool)> {
    let endpoint = |scheme: Scheme| {
        let address = match scheme {
            Scheme::Stdio | Scheme::Demo | Scheme::Null => "",
            Scheme::Tcp | Scheme::Tls | Scheme::TcpListen | Scheme::TlsListen => "127.0.0.1:0",
            Scheme::File => "/x/",
            _ => "/x",
        };
        Endpoint { scheme, address: address.into(), options: Vec::new() }
    };
    let of_source = SOURCES.iter().flat_map(|kind| {
        keys(&[source::COMMON, kind.keys]).into_iter().map(move |key| (endpoint(kind.scheme), key.name, true))
    });
    let of_sink = SINKS.iter().flat_map(|kind| {
        let shaping = source::COMMON.iter().filter(|key| key.name != "clock-offset");
        let keys = keys(&[sink::COMMON, kind.keys]).into_iter().chain(shaping);
        keys.into_iter().map(move |key| (endpoint(kind.scheme), key.name, false))
    });
    of_source.chain(of_sink).collect()
}

#[test]
fn every_key_of_every_endpoint_is_printed_and_read_again() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for (mut endpoint, key, is_source) in rows() {
        let value = values(key).new_tree(&mut runner).unwrap().current();
        // A listener has to have one.
        let needs_one = endpoint.scheme == Scheme::TlsListen && key != "cert";
        if needs_one || key == "key" {
            endpoint.options.push(("cert".into(), "cert.pem".into()));
        }
        endpoint.options.push((key.into(), value));
        let mut plan = config::parse(WHOLE).unwrap().plan;
        if is_source {
            plan.sources[0] = source::spec(endpoint.clone()).unwrap_or_else(|error| panic!("{error}"));
        } else {
            plan.sinks[0] = sink::spec(endpoint.clone()).unwrap_or_else(|error| panic!("{error}"));
        }
        let text = config::printed(&Config::of(plan.clone()));
        let read = config::parse_with(&text, &System, Filters::Keep);
        let read = read.unwrap_or_else(|errors| panic!("{key} of {endpoint}: {errors}\n{text}"));
        assert_eq!(read.plan, plan, "{text}");
    }
}

#[test]
fn every_key_that_takes_any_text_is_listed_as_one_that_stands_in_quotes() {
    for (endpoint, key, is_source) in rows() {
        let takes = |value: &str| {
            let mut endpoint = endpoint.clone().with_option(&format!("{key}={value}")).unwrap();
            if key == "key" {
                endpoint.options.push(("cert".into(), "cert.pem".into()));
            }
            if is_source { source::spec(endpoint).is_ok() } else { sink::spec(endpoint).is_ok() }
        };
        assert_eq!(takes("?! \u{1}"), TEXTS.contains(&key), "{key} of {endpoint}");
        let list = if key == "pin" { PINS } else { "10.0.0.0/8,any" };
        assert!(!LISTS.contains(&key) || takes(list), "{key} of {endpoint}");
    }
}

fn document(path: &str) -> String {
    let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_reference_names_every_key_of_every_endpoint_and_every_setting() {
    let text = document("docs/config.md");
    let section = |title: &str| {
        let (_, rest) = text.split_once(&format!("\n{title}\n")).unwrap_or_else(|| panic!("no {title:?}"));
        let level = title.split(' ').next().unwrap();
        let end = rest.find(&format!("\n{level} ")).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let has = |section: &str, key: &str| {
        assert!(section.contains(&format!("`{key}`")), "{key} is missing in\n{section}")
    };
    for setting in SETTINGS {
        let title = match setting.table {
            Table::Top => "## At the top",
            Table::Limits => "## `[limits]`",
            Table::Log => "## `[log]`",
        };
        has(&section(title), setting.name);
    }
    let of_scheme = |section: &str, scheme: Scheme, example: &str, own: &[Key]| {
        let prefix = if scheme == Scheme::File { "PATH" } else { scheme.prefix() };
        let row = section.lines().find(|line| line.starts_with(&format!("| `{prefix}")));
        let row = row.unwrap_or_else(|| panic!("{example} is missing in\n{section}"));
        own.iter().for_each(|key| has(row, key.name));
    };
    let sources = section("## `[[source]]`");
    source::COMMON.iter().for_each(|key| has(&sources, key.name));
    SOURCES.iter().for_each(|kind| of_scheme(&sources, kind.scheme, kind.example, kind.keys));
    let sinks = section("## `[[sink]]`");
    sink::COMMON.iter().for_each(|key| has(&sinks, key.name));
    SINKS.iter().for_each(|kind| of_scheme(&sinks, kind.scheme, kind.example, kind.keys));
}

#[test]
fn every_example_of_the_reference_is_a_good_file() {
    let text = document("docs/config.md");
    let examples: Vec<_> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    for example in examples {
        config::parse(example).unwrap_or_else(|errors| panic!("{errors}\n{example}"));
    }
}

#[test]
fn the_example_file_is_a_good_one_with_every_table() {
    let text = document("examples/pcaphub.toml");
    let config = config::parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.plan.sources.len() > 1 && config.plan.sinks.len() > 1);
    for table in ["[limits]", "[log]", "[[source]]", "[[sink]]"] {
        assert!(text.contains(table), "{table}");
    }
    // What is commented out is as good as the rest: each line is a key that is known where it stands.
    let all: String = text
        .lines()
        .map(|line| {
            format!(
                "{}\n",
                line.strip_prefix("#")
                    .filter(|rest| !rest.starts_with(' ') && rest.contains(" = "))
                    .unwrap_or(line)
            )
        })
        .collect();
    config::parse(&all).unwrap_or_else(|errors| panic!("{errors}"));
}
