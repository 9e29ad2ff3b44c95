//! `pcaphub interfaces`: what can be captured on, as `tcpdump -D` has it.

use std::process::ExitCode;

use pcaphub::escape::escaped;
use pcaphub::source::begins_with;
use pcaphub_sys::InterfaceInfo;
use serde_json::json;

use crate::exit;

/// Prints the interfaces of this machine.
pub(crate) fn run(as_json: bool) -> ExitCode {
    let interfaces = match pcaphub_sys::interfaces() {
        Ok(interfaces) => interfaces,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
            eprintln!(
                "pcaphub: live capture is not supported on this system yet; use exec:'tcpdump -i NAME -U -w -'"
            );
            return ExitCode::from(exit::FAILED);
        }
        Err(error) => {
            eprintln!("pcaphub: cannot list the interfaces: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    if as_json {
        println!("{}", serde_json::Value::from_iter(interfaces.iter().map(object)));
    } else {
        print!("{}", table(&interfaces));
    }
    ExitCode::SUCCESS
}

fn object(interface: &InterfaceInfo) -> serde_json::Value {
    let addresses: Vec<String> =
        interface.addresses.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
    json!({
        "index": interface.index,
        "name": interface.name,
        "up": interface.up,
        "running": interface.running,
        "loopback": interface.loopback,
        "linktype": begins_with(Some(interface.hardware_type)).0.0,
        "mac": interface.mac.map(mac),
        "addresses": addresses,
    })
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// A line for each, in columns; all interfaces at once come last.
fn table(interfaces: &[InterfaceInfo]) -> String {
    let mut rows = vec![["".into(), "NAME".into(), "STATE".into(), "LINKTYPE".into(), "ADDRESSES".into()]];
    for interface in interfaces {
        let addresses: Vec<String> =
            interface.addresses.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
        rows.push([
            interface.index.to_string(),
            escaped(&interface.name, 15),
            state(interface),
            begins_with(Some(interface.hardware_type)).0.to_string(),
            addresses.join(" "),
        ]);
    }
    let cooked = begins_with(None).0.to_string();
    rows.push(["".into(), "any".into(), "".into(), cooked, "all interfaces at once".into()]);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 5]| {
        let [index, name, state, linktype, addresses] = row;
        let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|column| widths.get(column).copied().unwrap_or(0));
        let line = format!("{index:>w0$}  {name:<w1$}  {state:<w2$}  {linktype:<w3$}  {addresses}");
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn state(interface: &InterfaceInfo) -> String {
    let words = [
        (interface.loopback, "loopback"),
        (interface.up, if interface.running { "up" } else { "up, no carrier" }),
        (!interface.up, "down"),
    ];
    words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_name_state_linktype_and_addresses() {
        let interface = InterfaceInfo {
            index: 2,
            name: "eth0\u{1b}[31m".into(),
            up: true,
            running: false,
            loopback: false,
            hardware_type: 1,
            mac: None,
            addresses: vec![("10.0.0.1".parse().unwrap(), 24)],
        };
        let table = table(&[interface]);
        let line = table.lines().nth(1).unwrap();
        assert!(
            line.contains("up, no carrier") && line.contains("Ethernet") && line.ends_with("10.0.0.1/24")
        );
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert!(table.lines().last().unwrap().contains("any"));
    }
}
