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

#[cfg(feature = "oracle")]
#[test]
fn linktypes_are_those_that_libpcap_finds_in_files() {
    if !installed() {
        return;
    }
    let path = std::env::temp_dir().join(format!("pcaphub-linktype-{}.pcap", std::process::id()));
    for linktype in 0_u16..400 {
        let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, u32::from(linktype)];
        let mut octets: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        octets[4..8].copy_from_slice(&[2_u16, 4].map(u16::to_ne_bytes).concat());
        std::fs::write(&path, octets).unwrap();
        assert_eq!(datalink_of_file(&path), Some(datalink(linktype)), "linktype {linktype}");
    }
    std::fs::remove_file(&path).unwrap();
}
