//! `pcaphub interfaces`: the interfaces that packets can be captured on.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Arg, ArgAction, ArgMatches, Command};
use pcaphub::escape::escaped;
use pcaphub::interfaces::{InterfaceInfo, interfaces, linktype_of};
use pcaphub_core::linktype::LinkType;
use serde_json::{Value, json};

/// For whom the list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A person.
    Text,
    /// A script.
    Json,
}

/// The verb, for the command line.
pub(crate) fn command() -> Command {
    Command::new("interfaces")
        .about("The network interfaces of this host, and how packets captured on them begin")
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print them as a JSON array"))
        .after_help(
            "Each line: the kernel's number, name, state, linktype, MTU, addresses. `any` is all of them\n\
             together, captured without their own headers.",
        )
}

/// The form that was asked for.
pub(crate) fn form(matches: &ArgMatches) -> Form {
    if matches.get_flag("json") { Form::Json } else { Form::Text }
}

/// Prints them.
///
/// # Errors
/// They are not known here, or cannot be printed.
pub(crate) fn run(form: Form) -> anyhow::Result<ExitCode> {
    let found = interfaces().map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => anyhow!("live capture is not supported here yet, use exec:tcpdump"),
        _ => anyhow!("cannot list the interfaces: {error}"),
    })?;
    let mut text = match form {
        Form::Text => table(&found),
        Form::Json => serde_json::to_string_pretty(&array(&found))?,
    };
    if form == Form::Json {
        text.push('\n');
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS).map_err(|error| anyhow!("cannot print: {error}")),
    }
}

/// How packets of this interface begin.
fn linktype(interface: &InterfaceInfo) -> LinkType {
    linktype_of(interface.hardware_type).unwrap_or(LinkType::SLL2)
}

fn table(interfaces: &[InterfaceInfo]) -> String {
    let row = |interface: &InterfaceInfo| {
        [
            interface.index.to_string(),
            escaped(&interface.name.to_string_lossy(), 80),
            state(interface),
            linktype(interface).to_string(),
            format!("MTU {}", interface.mtu),
            addresses(interface).join(" "),
        ]
    };
    let any = ["0", "any", "all of them together"].map(str::to_owned);
    let [index, name, state] = any;
    let any = [index, name, state, LinkType::SLL2.to_string(), String::new(), String::new()];
    let rows: Vec<[String; 6]> = interfaces.iter().map(row).chain([any]).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &[String; 6]| {
        let cells = (0..).zip(row).map(|(column, cell)| format!("{cell:<0$}  ", width(column)));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn state(interface: &InterfaceInfo) -> String {
    let words = [
        (interface.up, "up"),
        (!interface.up, "down"),
        (interface.running, "running"),
        (interface.loopback, "loopback"),
    ];
    words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// The link-layer address, then the others with their prefixes.
fn addresses(interface: &InterfaceInfo) -> Vec<String> {
    let ip = interface.addresses.iter().map(|one| format!("{}/{}", one.address, one.prefix_len));
    hardware_address(interface).into_iter().chain(ip).collect()
}

/// `None` where it has none; loopback's is zeros, which nobody wants to read.
fn hardware_address(interface: &InterfaceInfo) -> Option<String> {
    let octets = &interface.hardware_address;
    let known = octets.iter().any(|octet| *octet != 0);
    known.then(|| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":"))
}

fn array(interfaces: &[InterfaceInfo]) -> Vec<Value> {
    let any = json!({
        "index": 0, "name": "any", "linktype": LinkType::SLL2.0, "addresses": [],
    });
    let value = |interface: &InterfaceInfo| {
        json!({
            "index": interface.index,
            "name": interface.name.to_string_lossy(),
            "up": interface.up,
            "running": interface.running,
            "loopback": interface.loopback,
            "mtu": interface.mtu,
            "hardware_type": interface.hardware_type,
            "linktype": linktype(interface).0,
            "hardware_address": hardware_address(interface),
            "addresses": interface.addresses.iter()
                .map(|one| format!("{}/{}", one.address, one.prefix_len))
                .collect::<Vec<_>>(),
        })
    };
    interfaces.iter().map(value).chain([any]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcaphub::interfaces::InterfaceAddress;

    fn interface(index: u32, name: &str) -> InterfaceInfo {
        InterfaceInfo {
            index,
            name: name.into(),
            up: true,
            running: true,
            loopback: false,
            mtu: 1500,
            hardware_type: 1,
            hardware_address: vec![2, 0, 0, 0, 0, 1],
            addresses: vec![InterfaceAddress { address: [10, 0, 0, 1].into(), prefix_len: 24 }],
        }
    }

    #[test]
    fn a_line_says_what_is_needed_to_choose() {
        let mut down = interface(12, "wg0");
        (down.up, down.running, down.hardware_type) = (false, false, 0xfffe);
        (down.hardware_address, down.addresses) = (Vec::new(), Vec::new());
        let expected = "\
            2   eth0  up, running           Ethernet (linktype 1)      MTU 1500  02:00:00:00:00:01 10.0.0.1/24\n\
            12  wg0   down                  RAW (linktype 101)         MTU 1500\n\
            0   any   all of them together  LINUX_SLL2 (linktype 276)\n";
        assert_eq!(table(&[interface(2, "eth0"), down]), expected);
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert!(table(&[interface(2, "\x1b[2J")]).contains("\\u{1b}[2J"));
    }

    #[test]
    fn scripts_get_every_field() {
        let array = array(&[interface(2, "eth0")]);
        assert_eq!(array[0]["linktype"], 1);
        assert_eq!(array[0]["hardware_address"], "02:00:00:00:00:01");
        assert_eq!(array[0]["addresses"][0], "10.0.0.1/24");
        assert_eq!(array[1]["name"], "any");
    }
}
