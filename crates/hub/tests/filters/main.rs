//! Our filter machine beside libpcap's own, packet by packet: every primitive of pcap-filter(7),
//! over packets made for each program, our examples and, where there are any, other projects'
//! captures.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod captures;
mod expressions;
mod packets;
mod primitives;

use std::sync::Arc;

use bytes::Bytes;
use expressions::{EXPRESSIONS, NOT_BUILT};
use packets::{Made, Random, ends, make};
use pcaphub::filter::Libpcap;
use pcaphub_core::batch::Batch;
use pcaphub_core::filter::{Compile, CompileError, Filter, Marker, Program};
use pcaphub_core::interface::{Interface, Interfaces, Intern};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Resolution, Timestamp};
use pcaphub_sys::libpcap::{Instruction, Oracle};
use primitives::PRIMITIVES;

/// The snaplen of all programs: not a number that could be a result by chance.
const SNAPLEN: u32 = 77_777;

/// Packets that are made for each expression at most, until there is one that matches and one that
/// does not, and at least.
const PACKETS: std::ops::Range<usize> = 300..30_000;

/// One expression, as it is run by us and by libpcap.
struct Pair {
    expression: &'static str,
    program: Arc<Program>,
    oracle: Oracle,
}

impl Pair {
    fn new(expression: &'static str, program: Program) -> Pair {
        let theirs =
            program.instructions().iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k });
        Pair { expression, oracle: Oracle::new(theirs.collect()).unwrap(), program: Arc::new(program) }
    }

    /// What both say of a packet, which must be the same.
    fn run(&self, made: &Made) -> u32 {
        let ours = self.program.run(&made.octets, made.origlen);
        if self.program.has_loop() && !ends(self.program.instructions(), made) {
            assert_eq!(ours, 0, "{}", self.expression);
            return 0;
        }
        let theirs = self.oracle.run(&made.octets, made.origlen);
        assert_eq!(ours, theirs, "`{}` of {made:02x?}", self.expression);
        ours
    }
}

/// Whether there is a libpcap; said loudly if not.
fn installed() -> bool {
    let found = !matches!(Libpcap.compile("", LinkType::ETHERNET, 0), Err(CompileError::NoCompiler { .. }));
    let required = ["CI", "PCAPHUB_REQUIRE_TOOLS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(found || !required, "libpcap is not installed; ./test installs it");
    if !found {
        eprintln!("SKIPPED: libpcap is not installed");
    }
    found
}

/// All expressions of a linktype that this libpcap was built for.
fn pairs(linktype: u16, lines: &'static str) -> Vec<Pair> {
    let compile = |expression: &'static str| match Libpcap.compile(expression, LinkType(linktype), SNAPLEN) {
        Ok(program) => Some(Pair::new(expression, program)),
        Err(CompileError::Refused { text, .. }) if text.contains(NOT_BUILT) => {
            eprintln!("SKIPPED: `{expression}`: {text}");
            None
        }
        Err(error) => panic!("`{expression}`: {error}"),
    };
    lines.lines().filter_map(compile).collect()
}

/// Whether an expression has a primitive, as words of its own.
fn has(expression: &str, primitive: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
    let is_word = primitive.contains(char::is_alphanumeric);
    expression.match_indices(primitive).any(|(at, _)| {
        let before = expression[..at].chars().next_back();
        let after = expression[at + primitive.len()..].chars().next();
        !is_word || !inside(before) && (primitive.ends_with('[') || !inside(after))
    })
}

#[test]
fn every_primitive_of_the_manual_is_in_an_expression() {
    let all: Vec<&str> = EXPRESSIONS.iter().flat_map(|(_, lines)| lines.lines()).collect();
    assert!(all.len() >= 200, "{}", all.len());
    // The bar is a primitive itself.
    let primitives = PRIMITIVES.replace("|||", "|bar|");
    let names = primitives.split('|').map(str::trim).map(|name| if name == "bar" { "|" } else { name });
    let missing: Vec<&str> = names.filter(|name| !all.iter().any(|line| has(line, name))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_expression_gives_what_libpcap_gives_for_packets_that_match_and_packets_that_do_not() {
    if !installed() {
        return;
    }
    let (mut packets, mut expressions, mut poor) = (0, 0, Vec::new());
    for (linktype, lines) in EXPRESSIONS {
        for pair in pairs(*linktype, lines) {
            let mut random = Random(0x2545_f491_4f6c_dd1d);
            let (mut matches, mut misses) = (0, 0);
            while matches + misses < PACKETS.start
                || (matches.min(misses) == 0 && matches + misses < PACKETS.end)
            {
                let made = make(pair.program.instructions(), &mut random);
                match pair.run(&made) {
                    0 => misses += 1,
                    _ => matches += 1,
                }
            }
            if matches.min(misses) == 0 {
                poor.push(format!("`{}` for {linktype}: {matches} match, {misses} do not", pair.expression));
            }
            packets += matches + misses;
            expressions += 1;
        }
    }
    assert!(poor.is_empty(), "{}", poor.join("\n"));
    println!("{expressions} expressions, {packets} packets");
}

#[test]
fn an_authentication_header_that_leads_back_to_itself_does_not_hold_us() {
    if !installed() {
        return;
    }
    let program = Libpcap.compile("ip6 protochain 6", LinkType::ETHERNET, SNAPLEN).unwrap();
    let mut octets = vec![0; 200];
    octets[12..14].copy_from_slice(&[0x86, 0xdd]);
    // Every header there is one: libpcap 1.10 takes the length that each has for the next one's place.
    octets[20] = 51;
    for at in (54..200).step_by(2) {
        octets[at..at + 2].copy_from_slice(&[51, 8]);
    }
    let made = Made { octets, origlen: 200 };
    assert_eq!(program.run(&made.octets, made.origlen), 0);
    println!("libpcap comes to an end: {}", ends(program.instructions(), &made));
}

#[test]
fn gateway_is_refused_in_the_words_of_libpcap() {
    if !installed() {
        return;
    }
    let error = Filter::new("gateway snup", 0, Arc::new(Libpcap)).unwrap_err().to_string();
    assert!(error.contains("gateway") || error.contains("unknown ether host"), "{error}");
}

#[test]
fn a_filter_says_at_start_what_is_wrong_with_it() {
    if !installed() {
        return;
    }
    let new =
        |text: &str| Filter::new(text, 0, Arc::new(Libpcap)).map(drop).map_err(|error| error.to_string());
    assert_eq!(new(""), Ok(()));
    for elsewhere in ["wlan type mgt", "inbound", "vpi 3"] {
        assert_eq!(new(elsewhere), Ok(()));
    }
    assert_eq!(new("tcp and udp").unwrap_err(), "no packet of Ethernet (linktype 1) can match");
    let direction = Filter::new("not inbound", 0, Arc::new(Libpcap)).unwrap();
    let error = direction.program(LinkType::ETHERNET).unwrap_err().to_string();
    assert!(error.contains("its packets do not carry that, those of if:any do, for Ethernet"), "{error}");
    assert!(direction.program(LinkType::SLL2).is_ok());
    let error = new("tcp prot 80").unwrap_err();
    assert!(error.contains("syntax error") && error.ends_with("for Ethernet (linktype 1)"), "{error}");
}

#[test]
fn a_loopback_header_is_understood_as_any_system_writes_it() {
    if !installed() {
        return;
    }
    let run = |text: &str, linktype: LinkType, family: [u8; 4]| {
        let mut interfaces = Interfaces::new();
        let interface = interfaces.intern(Interface {
            source: "a".into(),
            name: None,
            linktype,
            snaplen: 0,
            resolution: Resolution::NANOS,
            fcs_len: None,
            options: Bytes::new(),
        });
        let octets = [&family[..], &[0x45; 40]].concat();
        let packet = Packet {
            timestamp: Timestamp::ZERO,
            interface: interface.unwrap(),
            caplen: 44,
            origlen: 44,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        let mut batch = Batch { buffer: octets.into(), packets: vec![packet], ..Batch::default() };
        let filter = Filter::new(text, 0, Arc::new(Libpcap)).unwrap();
        Marker::new([filter].into_iter().collect(), interfaces).keep(&mut batch) == 0
    };
    for (family, name) in [(2, "ip"), (24, "ip6"), (28, "ip6"), (30, "ip6")] {
        for text in ["ip", "ip6"] {
            let (big, little) = ([0, 0, 0, family], [family, 0, 0, 0]);
            assert_eq!(run(text, LinkType::LOOP, big), text == name, "{family}");
            assert_eq!(run(text, LinkType::NULL, big), text == name, "{family}, highest octet first");
            assert_eq!(run(text, LinkType::NULL, little), text == name, "{family}, lowest octet first");
        }
    }
}

#[test]
fn a_filter_rejects_what_cannot_match_and_names_what_cannot_be_filtered() {
    if !installed() {
        return;
    }
    let filter = Filter::new("ip", 0, Arc::new(Libpcap)).unwrap();
    assert!(!filter.program(LinkType::IPV6).unwrap().accepts(&[0x45; 40], 40));
    let error = filter.program(LinkType(65_000)).unwrap_err().to_string();
    assert_eq!(error, "linktype 65000 cannot be filtered: the compiler does not know it");
}
