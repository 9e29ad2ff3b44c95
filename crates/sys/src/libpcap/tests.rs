//! With the libpcap of the system; skipped where there is none.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use super::*;

/// Whether there is a libpcap; said loudly if not.
fn installed() -> bool {
    let found = Libpcap::get().is_ok();
    let required = ["CI", "PCAPHUB_REQUIRE_TOOLS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(found || !required, "libpcap is not installed; ./test installs it");
    if !found {
        eprintln!("SKIPPED: libpcap is not installed");
    }
    found
}

fn refused(expression: &str, linktype: u16) -> String {
    match compile(expression, linktype, 0) {
        Err(CompileError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_expression_becomes_instructions() {
    if !installed() {
        return;
    }
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let arp = |snaplen| {
        vec![
            instruction(0x28, 0, 0, 12),
            instruction(0x15, 0, 1, 0x0806),
            instruction(0x06, 0, 0, snaplen),
            instruction(0x06, 0, 0, 0),
        ]
    };
    assert_eq!(compile("arp", 1, 96), Ok(arp(96)));
    assert_eq!(compile("arp", 1, 0), Ok(arp(262_144)));
    assert_eq!(compile("", 1, 0), Ok(vec![instruction(0x06, 0, 0, 262_144)]));
}

#[test]
fn what_libpcap_refuses_is_told_in_its_words() {
    if !installed() {
        return;
    }
    assert!(refused("tcp prot 80", 1).contains("syntax error"));
    assert!(refused("wlan type mgt", 1).contains("802.11"));
    assert_eq!(refused("ip\0", 1), "a zero octet in a filter");
    assert_eq!(refused(&" ".repeat(8193), 1), "a filter has 8192 octets at most");
    assert_eq!(compile("tcp and udp", 1, 0), Err(CompileError::RejectsAll));
    assert_eq!(compile("ip", 65_535, 0), Err(CompileError::UnknownLinkType));
}

#[test]
fn long_and_deep_expressions_are_compiled_or_refused() {
    if !installed() {
        return;
    }
    let deep = "(".repeat(MAX_EXPRESSION_OCTETS);
    assert!(refused(&deep, 1).contains("filter expression"));
    assert!(compile(&("not ".repeat(2000) + "tcp"), 1, 0).is_ok());
    let hosts: String = (0..200).map(|host| format!("host 10.0.{host}.1 or ")).collect();
    assert!(compile(&(hosts + "arp"), 1, 0).is_ok());
    let octets: String = (100..600).map(|at| format!("ip[{at}]=1 or ")).collect();
    assert!(compile(&(octets + "arp"), 1, 0).is_ok());
}

#[test]
fn what_only_a_socket_knows_is_refused_but_where_packets_carry_it() {
    if !installed() {
        return;
    }
    for expression in ["inbound", "outbound", "not inbound", "ifindex 2"] {
        assert!(refused(expression, 1).contains("reading savefiles"), "{expression}");
        assert!(compile(expression, 276, 0).is_ok(), "{expression}");
    }
}
