//! The interfaces that are listed are those that the real tools know.

use serde_json::Value;

use crate::harness::*;

#[test]
fn tcpdump_knows_every_interface_that_is_listed() {
    if !has("tcpdump") {
        return;
    }
    let output = run(&["interfaces", "--json"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let known = shell("tcpdump -D");
    let known: Vec<&str> =
        known.lines().filter_map(|line| line.split_once('.')?.1.split_whitespace().next()).collect();
    for interface in &listed {
        let name = interface["name"].as_str().unwrap();
        assert!(known.contains(&name), "{name} is not among {known:?}");
    }
    assert!(listed.iter().any(|interface| interface["loopback"] == true));
    assert_eq!(listed.last().unwrap()["name"], "any");
}

#[test]
fn people_get_a_line_for_each_and_may_read_only_the_first() {
    let bin = env!("CARGO_BIN_EXE_pcaphub");
    let lines = shell(&format!("{bin} interfaces"));
    assert!(lines.lines().count() >= 2, "{lines}");
    assert!(lines.lines().last().unwrap().contains(" any "), "{lines}");
    assert_eq!(shell(&format!("set -o pipefail; {bin} interfaces | head -n 1")).lines().count(), 1);
}

#[test]
fn a_tunnel_without_an_address_of_its_own_is_listed_as_bare_ip() {
    let bin = env!("CARGO_BIN_EXE_pcaphub");
    // In a network namespace of its own, with a device that the list of addresses leaves out.
    let made = "ip tuntap add tun7 mode tun 2>/dev/null || ip link add tun7 type ipip 2>/dev/null || exit 9";
    let inner = format!("{made}; {bin} interfaces --json");
    let printed = shell(&format!("unshare -n sh -c '{inner}' || unshare -rn sh -c '{inner}' || echo []"));
    let listed: Vec<Value> = serde_json::from_str(&printed).unwrap();
    if listed.is_empty() {
        eprintln!("SKIPPED: cannot make a tunnel in a network namespace");
        return;
    }
    let tunnel = listed.iter().find(|interface| interface["name"] == "tun7").unwrap();
    assert_eq!(tunnel["linktype"], 101);
    assert_eq!(tunnel["up"], false);
}
