//! Every format in, every format out, read by the real tools.

use crate::harness::*;

#[test]
fn tcpdump_and_capinfos_read_every_format_we_write() {
    if !has("tcpdump") || !has("capinfos") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 77, 1_700_000_000_123_456, 1000)));
    for (format, described) in [("pcap", "pcap"), ("pcap-ns", "nanosecond"), ("pcapng", "pcapng")] {
        let output = run(&["cat", path.to_str().unwrap(), "--format", format], b"");
        assert!(output.status.success());
        let out = file(&folder, "out", &output.stdout);
        assert_eq!(count_with_capinfos(&out), Some(77), "{format}");
        assert!(shell(&format!("capinfos -t {}", out.display())).contains(described), "{format}");
        let printed = shell(&format!("tcpdump -tt -n -r {} 2>/dev/null", out.display()));
        assert_eq!(printed.lines().count(), 77, "{format}");
        assert!(printed.starts_with("1700000000.123456"), "{printed}");
    }
}

#[test]
fn compressed_input_is_read_whatever_its_name() {
    let folder = folder();
    let octets = pcap(&packets(1, 500, 1_700_000_000_000_000, 1000));
    let plain = file(&folder, "in.pcap", &octets);
    for name in ["x.pcap.gz", "x.pcap.zst"] {
        let packed = folder.path().join(name);
        assert!(
            run(&["pipe", plain.to_str().unwrap(), "-w", packed.to_str().unwrap()], b"").status.success()
        );
        let renamed = folder.path().join("anything");
        std::fs::rename(&packed, &renamed).unwrap();
        assert!(std::fs::read(&renamed).unwrap().len() < octets.len());
        let output = run(&["cat", renamed.to_str().unwrap()], b"");
        assert!(output.stdout == octets, "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let piped = run(&["cat", "-"], &std::fs::read(&renamed).unwrap());
        assert!(piped.stdout == octets, "{name} on standard input");
    }
}
