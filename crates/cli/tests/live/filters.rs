//! Filters of live captures: in the kernel or here, the result is the same.

use crate::harness::*;
use crate::network::*;

#[test]
fn a_filter_of_a_live_source_keeps_what_tcpdump_keeps_of_the_whole_tagged_packets_too() {
    let Some(network) = network() else { return };
    if !has("tcpdump") {
        return;
    }
    // The first are all that are sent: a host may say something of its own between the two starts.
    let filters = [
        "udp or (vlan and udp)",
        "udp port 9",
        "vlan and udp port 9",
        "udp and not vlan",
        "ip6 and udp",
        "ether[12:2] = 0x8100",
    ];
    let mut arguments = vec!["serve".to_owned()];
    for filter in filters {
        arguments.extend(["-i".into(), "vb".into(), "--opt".into(), format!("filter={filter}")]);
        arguments.extend(["--opt".into(), format!("name={filter}")]);
    }
    arguments.extend(["--listen".into(), "127.0.0.1:0".into()]);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut hub = network.b.hub(&words, 1);
    let folder = folder();
    let whole = folder.path().join("whole.pcap");
    let tcpdump = network.b.start(&["tcpdump", "-i", "vb", "-U", "-w", whole.to_str().unwrap()]);
    wait_until("tcpdump captures", || std::fs::metadata(&whole).is_ok_and(|file| file.len() >= 24));
    for to in ["10.99.0.2:9", "[fd00::2]:9", "10.99.0.2:11"] {
        network.a.send(to, 10);
    }
    let inside = |port| (0..10).map(|number| tagged(5, number, port)).collect::<Vec<_>>();
    send_packets(&network, &[inside(9), inside(10)].concat());
    let count = |filter: &str| -> u64 {
        let output = std::process::Command::new("tcpdump").args(["-nr"]).arg(&whole).arg(filter).output();
        String::from_utf8_lossy(&output.unwrap().stdout).lines().count() as u64
    };
    let kept = |hub: &mut Hub, source: usize| hub.counts()["sources"][source]["forwarded"].as_u64().unwrap();
    wait_until("all is there on both sides", || count(filters[0]) == 50 && kept(&mut hub, 0) == 50);
    tcpdump.interrupt();
    for (number, filter) in filters.iter().enumerate() {
        assert!(count(filter) > 0, "{filter}");
        wait_until(filter, || kept(&mut hub, number) == count(filter));
    }
    hub.stop();
}

#[test]
fn a_filter_that_means_nothing_on_an_interface_is_an_error_that_quotes_its_beginning() {
    if !may_capture() {
        return;
    }
    let output = run(&["cat", "-i", "lo", "-f", "wlan type mgt"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("filter `wlan type mgt`: "), "{said}");
    let long = format!("{}nonsense", "port 1 or ".repeat(500));
    let output = run(&["cat", "-i", "lo", "-f", &long], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("port 1 or") && said.contains("unknown port 'nonsense'"), "{said}");
    assert!(said.len() < 1000, "{said}");
}

#[test]
fn without_libpcap_a_filter_is_an_error_that_names_its_package_and_everything_else_works() {
    if !may_capture() || !has("unshare") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 10, 1_700_000_000_000_000, 10)));
    let hidden = format!(
        "for f in $(PATH=$PATH:/sbin ldconfig -p | sed -n 's/.*libpcap.*=> //p'); do mount --bind /dev/null $f; done
         exec {} pipe {} --to null: \"$@\"",
        env!("CARGO_BIN_EXE_pcaphub"),
        path.display()
    );
    let run = |filter: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-ec", &hidden, "sh"]).args(filter).output().unwrap()
    };
    let output = run(&["-f", "udp"]);
    let said = String::from_utf8_lossy(&output.stderr);
    // Nothing is wrong with the command line.
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("libpcap0.8") && !said.contains("--help"), "{said}");
    assert!(run(&[]).status.success());
}

#[test]
fn cooked_packets_are_filtered_by_what_they_are() {
    let Some(network) = network() else { return };
    let hub = network.b.hub(
        &["serve", "-i", "any", "-f", "udp port 9 and dst host 10.99.0.2", "--listen", "127.0.0.1:0"],
        1,
    );
    let mut client = network.b.connect(hub.client());
    read_exact(&mut client, 24);
    network.a.send("10.99.0.2:10", 10);
    network.a.send("10.99.0.2:9", 10);
    let packets = packets_until(&mut client, 10, is_datagram);
    assert_eq!(packets.len(), 10);
    hub.stop();
}
