//! Interfaces that go and come back, after root was given up.

use crate::harness::*;
use crate::network::*;
use crate::who::status;

#[test]
fn a_ring_is_opened_again_when_its_interface_is_back() {
    let Some(network) = network() else { return };
    let mut hub = network.b.hub(&["serve", "-i", "vb", "--listen", "10.99.0.2:0", "--allow", "any"], 1);
    assert_ne!(status(&hub.pid().to_string(), "Uid"), "0 0 0 0");
    let mut client = network.b.connect(hub.client());
    read_exact(&mut client, 24);
    network.a.send("10.99.0.2:9", 5);
    packets_until(&mut client, 5, is_datagram);
    let (a, b) = (network.a.namespace(), network.b.namespace());
    root(&format!("ip -n {b} link del vb"));
    hub.wait_for("vb");
    root(&format!(
        "ip -n {a} link add va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b netns {b}
         ip -n {a} addr add {A}/24 dev va
         ip -n {b} addr add {B}/24 dev vb
         ip -n {a} link set va up
         ip -n {b} link set vb up
         ip -n {a} neigh replace {B} lladdr 02:00:00:00:00:0b dev va nud permanent"
    ));
    // Sent again until the ring is there.
    let sending = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while sending.load(std::sync::atomic::Ordering::Relaxed) {
                network.a.send("10.99.0.2:9", 5);
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        let mut client = network.b.connect(hub.client());
        read_exact(&mut client, 24);
        packets_until(&mut client, 5, is_datagram);
        sending.store(false, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn packets_go_onto_an_interface_that_was_away_and_onto_one_that_is_made() {
    let Some(network) = network() else { return };
    let folder = folder();
    let path = file(&folder, "a.pcap", &pcap(&packets(1, 20, 1_700_000_000_000_000, 1000)));
    let path = path.to_str().unwrap();
    let hub = network.a.hub(&["replay", path, "va", "--loop", "forever"], 0);
    let (a, b) = (network.a.namespace(), network.b.namespace());
    let come = |interface: &str| network.b.count(interface, "rx_packets");
    wait_until("packets come", || come("vb") > 20);
    root(&format!("ip -n {a} link del va; ip -n {a} link add va type veth peer name vb netns {b}"));
    root(&format!("ip -n {a} link set va up; ip -n {b} link set vb up"));
    wait_until("they come again", || come("vb") > 20);
    drop(hub);

    let hub = network.a.hub(&["replay", path, "if:made?create=tap", "--loop", "forever"], 0);
    wait_until("it is there", || network.a.run(&["ip", "-o", "link"]).contains("made"));
    wait_until("packets come in on it", || network.a.count("made", "rx_packets") > 20);
    let (status, _) = hub.stop();
    assert!(status.success());
    assert!(!network.a.run(&["ip", "-o", "link"]).contains("made"), "and it is gone with the hub");
}
