//! A configuration that changes while the hub runs: SIGHUP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::*;

/// A hub and the file that says what it is.
struct Site {
    hub: Hub,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    /// A hub with so many listeners.
    fn new(folder: tempfile::TempDir, text: &str, listeners: usize) -> Self {
        let path = file(&folder, "hub.toml", with_counts(text).as_bytes());
        let mut command = pcaphub();
        command.arg("run").arg(&path);
        Site { hub: Hub::spawn(command, listeners), path, _folder: folder }
    }

    /// Changes the file, and tells the hub.
    fn write(&self, text: &str) {
        std::fs::write(&self.path, with_counts(text)).unwrap();
        self.hub.signal(Signal::HUP);
    }

    /// Changes the file, and waits until the hub has done so, too; what it said of it.
    fn change(&mut self, text: &str) -> String {
        self.write(text);
        self.hub.wait_for("read again")
    }
}

fn with_counts(text: &str) -> String {
    format!("stats = \"json\"\n{text}")
}

fn source(producer: &Producer) -> String {
    format!("[[source]]\nendpoint = \"tcp://127.0.0.1:{}\"\n", producer.port())
}

/// An address of this machine that nobody else has: loopback is a whole network.
fn own_address(last: u8) -> SocketAddr {
    let pid = std::process::id().to_be_bytes();
    SocketAddr::from(([127, pid[2].max(1), pid[3], last], 6001))
}

fn listener(more: &str) -> String {
    format!("[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n{more}")
}

/// A client, which has its header.
fn client(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    read_exact(&mut client, 24);
    client
}

/// The rest of a stream whose header was read.
fn rest(client: &mut impl Read) -> Vec<Packet> {
    let mut octets = header(1);
    client.read_to_end(&mut octets).unwrap();
    read_pcap(&octets)
}

#[test]
fn a_hundred_reloads_under_load_lose_no_packet_of_what_stays() {
    let producer = Producer::new();
    let stays = listener("filter = \"src host 10.0.0.1\"\n");
    let base = source(&producer) + &stays;
    let mut site = Site::new(folder(), &base, 1);
    let mut sending = producer.accept();
    sending.write_all(&header(1)).unwrap();
    let mut client = client(site.hub.client());
    let total = 40_000;
    let all = packets(1, total, 1_700_000_000_000_000, 10);
    let expected = all.clone();
    let reading = std::thread::spawn(move || {
        let mut octets = vec![0; expected.iter().map(|packet| 16 + packet.octets.len()).sum()];
        client.read_exact(&mut octets).unwrap();
        let got = read_pcap(&[header(1), octets].concat());
        assert!(got == expected, "every packet, once and in order");
        client
    });
    let writing = std::thread::spawn(move || {
        for some in all.chunks(100) {
            sending.write_all(&some.iter().flat_map(record).collect::<Vec<_>>()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        sending
    });
    for n in 0..100 {
        // Other sources, sinks, filters and formats come, change and go.
        let mut text = base.clone();
        if n % 2 == 0 {
            text += "[[source]]\nendpoint = \"demo:\"\nrate = 2000\n";
        }
        if n % 3 > 0 {
            text += &listener(&format!("filter = \"udp port {}\"\n", 1000 + n));
            text += "[[sink]]\nendpoint = \"null:\"\nformat = \"pcapng\"\n";
        }
        site.change(&text);
    }
    let mut client = reading.join().unwrap();
    let _sending = writing.join().unwrap();
    let (status, counts) = site.hub.stop();
    assert!(status.success());
    assert!(rest(&mut client).is_empty());
    let dialled = &counts["sources"][0];
    assert_eq!((&dialled["decoded"], &dialled["opened"]), (&total.into(), &1.into()), "dialled once");
    assert_eq!(counts["sources"][1]["name"], "removed");
}

#[test]
fn a_filter_changes_under_its_clients_and_each_packet_goes_through_one_or_the_other() {
    let producer = Producer::new();
    let text = |filter: &str| source(&producer) + &listener(&format!("filter = \"{filter}\"\n"));
    let mut site = Site::new(folder(), &text("src host 10.0.0.1"), 1);
    let mut sending = producer.accept();
    sending.write_all(&header(1)).unwrap();
    let mut client = client(site.hub.client());
    let (ones, twos) = (packets(1, 3, 1_700_000_000_000_000, 10), packets(2, 3, 1_700_000_000_000_000, 10));
    let send = |sending: &mut TcpStream, packet: &Packet| sending.write_all(&record(packet)).unwrap();
    send(&mut sending, &twos[0]);
    send(&mut sending, &ones[0]);
    assert_eq!(read_exact(&mut client, record(&ones[0]).len()), record(&ones[0]));
    let said = site.change(&text("src host 10.0.0.2"));
    assert!(said.contains("every source and sink stays"), "{said}");
    send(&mut sending, &ones[1]);
    send(&mut sending, &twos[1]);
    assert_eq!(read_exact(&mut client, record(&twos[1]).len()), record(&twos[1]));
    // Of the source, too.
    let of_source = source(&producer) + "filter = \"src host 10.0.0.1\"\n" + &listener("");
    let said = site.change(&of_source);
    assert!(said.contains("every source and sink stays"), "{said}");
    send(&mut sending, &twos[2]);
    send(&mut sending, &ones[2]);
    assert_eq!(read_exact(&mut client, record(&ones[2]).len()), record(&ones[2]));
    let (_, counts) = site.hub.stop();
    assert_eq!(counts["sources"][0]["filtered"], 1);
    assert!(rest(&mut client).is_empty());
}

/// Connects from another address of this machine.
fn connect_from(local: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((local, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn who_may_no_longer_connect_is_cut_off_and_others_stay() {
    let folder = folder();
    let capture = file(&folder, "big.pcap", &pcap(&packets(1, 100_000, 1_700_000_000_000_000, 10)));
    let replayed = format!("[[source]]\nendpoint = \"{}\"\n", capture.display());
    let shared = "[[source]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n".to_owned();
    for (sources, listeners) in [(replayed, 1), (shared, 2)] {
        let text = |allow: &str| sources.clone() + &listener(&format!("allow = [{allow}]\n"));
        let mut site = Site::new(crate::harness::folder(), &text("\"127.0.0.0/8\""), listeners);
        let (stays, goes) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        let (mut one, mut two) =
            (connect_from(stays, site.hub.client()), connect_from(goes, site.hub.client()));
        for _ in 0..2 {
            site.hub.wait_for("connected");
        }
        site.write(&text("\"127.0.0.1\""));
        // Reset or closed, but not served on.
        let mut octets = Vec::new();
        let _ = two.read_to_end(&mut octets);
        let left = site.hub.wait_for("left");
        assert!(left.contains("127.0.0.2") && left.contains("its address is not in allow="), "{left}");
        one.set_nonblocking(true).unwrap();
        let still = one.read(&mut [0; 1]);
        let waits = still.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(waits || still.is_ok_and(|n| n == 1), "it is connected");
        let late = connect_from(goes, site.hub.client());
        assert!(site.hub.wait_for("refused").contains("not in allow="));
        drop((late, one));
    }
}

#[test]
fn a_producer_that_may_no_longer_connect_is_cut_off() {
    let text = |deny: &str| {
        format!(
            "[[source]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n{deny}\n[[sink]]\nendpoint = \"null:\"\n"
        )
    };
    let mut site = Site::new(folder(), &text(""), 1);
    let mut producer = connect(site.hub.producers[0]);
    producer.write_all(&header(1)).unwrap();
    site.hub.wait_for("Ethernet");
    site.change(&text("deny = \"127.0.0.0/8\""));
    assert_eq!(producer.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn a_listener_that_becomes_another_one_keeps_its_socket() {
    let folder = folder();
    let (address, socket) = (own_address(1), folder.path().join("hub.sock"));
    let text = |format: &str| {
        format!(
            "[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"tcp-listen://{address}\"\nallow = \"any\"\n\
             format = \"{format}\"\n[[sink]]\nendpoint = \"unix-listen:{}\"\nformat = \"{format}\"\n",
            socket.display()
        )
    };
    let mut site = Site::new(folder, &text("pcap"), 1);
    site.hub.wait_for("listening on unix-listen");
    let mut before = (connect(address), UnixStream::connect(&socket).unwrap());
    site.hub.wait_for("connected");
    site.hub.wait_for("connected");
    // Somebody connects all the time, and is never refused.
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let (begin, begun) = std::sync::mpsc::sync_channel::<()>(1);
    let dialling = std::thread::spawn(move || {
        while stopped.try_recv().is_err() {
            drop(TcpStream::connect(address).unwrap());
            let _ = begin.try_send(());
        }
    });
    begun.recv().unwrap();
    let said = site.change(&text("pcapng"));
    assert!(said.contains("2 came, 2 went"), "{said}");
    stop.send(()).unwrap();
    dialling.join().unwrap();
    // Those who were there get what was queued, whole records, and the end.
    let mut octets = Vec::new();
    before.0.read_to_end(&mut octets).unwrap();
    read_pcap(&octets);
    octets.clear();
    before.1.read_to_end(&mut octets).unwrap();
    read_pcap(&octets);
    assert_eq!(read_exact(&mut connect(address), 4), [0x0a, 0x0d, 0x0d, 0x0a]);
    let mut unix = [0; 4];
    UnixStream::connect(&socket).unwrap().read_exact(&mut unix).unwrap();
    assert_eq!(unix, [0x0a, 0x0d, 0x0d, 0x0a]);
    // Taken away, nobody listens there any more.
    site.change(&("[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("")));
    wait_until("nobody listens any more", || TcpStream::connect(address).is_err());
    wait_until("the socket is gone", || !socket.exists());
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let mut site = Site::new(folder(), &base, 1);
    let mut client = client(site.hub.client());
    let more = format!("[[sink]]\nendpoint = \"tcp-listen://{}\"\n", taken.local_addr().unwrap());
    for (more, why) in [
        ("alow = 1\n", "unknown key \"alow\""),
        (more.as_str(), "address in use"),
        ("[[sink]]\nendpoint = \"/nowhere/out.pcap\"\n", "cannot write it"),
        ("[[source]]\nendpoint = \"/nowhere/in.pcap\"\npace = \"1x\"\n", "No such file"),
        ("filter = \"no such thing\"\n", "filter"),
    ] {
        site.write(&format!("{base}{more}"));
        let said = site.hub.wait_for("everything stays as it was");
        assert!(said.contains(why), "{said}");
    }
    read_exact(&mut client, 10_000);
    let changed = site.change(&base);
    assert!(changed.contains("every source and sink stays"), "{changed}");
    site.write(&format!("hold = \"3s\"\n{base}"));
    site.hub.wait_for("hold changed, which holds from the next start on");
}

#[test]
fn a_refused_change_leaves_files_as_they_are_and_nothing_behind() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("keep.pcap"), "precious").unwrap();
    std::os::unix::fs::symlink(folder.path(), at("link")).unwrap();
    let sink = |endpoint: String| format!("[[sink]]\nendpoint = \"{endpoint}\"\n");
    let file = |name: &str| sink(at(name).display().to_string());
    let port = sink(format!("tcp-listen://{}", taken.local_addr().unwrap()));
    let socket = sink(format!("unix-listen:{}", at("new.sock").display()));
    let keep = at("keep.pcap");
    let unchanged = || std::fs::read(&keep).unwrap() == b"precious";

    // At the start, too.
    let sources = "[[source]]\nendpoint = \"demo:\"\n";
    let path = folder.path().join("start.toml");
    std::fs::write(&path, [sources, &file("keep.pcap"), &port].concat()).unwrap();
    assert_eq!(run(&["run", path.to_str().unwrap()], b"").status.code(), Some(1));
    assert!(unchanged());

    let (new_socket, running) = (at("new.sock"), at("running.pcap"));
    let base = sources.to_owned() + &listener("") + &file("running.pcap");
    let more = [
        file("keep.pcap") + &port,
        port.clone() + &file("keep.pcap"),
        file("keep.pcap") + &file("missing/x.pcap"),
        socket + &file("missing/x.pcap"),
        // What is being written has one sink, however it is spelt.
        file("running.pcap"),
        file("link/running.pcap"),
    ];
    let spelt = base.replace("/running.pcap", "/link/running.pcap");
    let mut site = Site::new(folder, &base, 1);
    wait_until("it records", || std::fs::metadata(&running).is_ok_and(|file| file.len() > 24));
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&running).unwrap());
    let before = inode();
    for text in more.iter().map(|more| base.clone() + more).chain([spelt]) {
        site.write(&text);
        site.hub.wait_for("everything stays as it was");
        assert!(unchanged() && !new_socket.exists() && inode() == before, "{text}");
    }
    let (status, counts) = site.hub.stop();
    assert!(status.success());
    let recorded = read_pcap(&std::fs::read(&running).unwrap()).len() as u64;
    assert_eq!(counts["sources"][0]["forwarded"], recorded);
}

#[test]
fn a_listener_that_would_move_to_all_addresses_is_told_how() {
    let base = |address: &str, more: &str| {
        format!("[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"tcp-listen://{address}\"\n{more}")
    };
    let mut site = Site::new(folder(), &base("127.0.0.1:0", ""), 1);
    let port = site.hub.client().port();
    site.change(&base(&format!("127.0.0.1:{port}"), ""));
    site.write(&base(&format!("0.0.0.0:{port}"), "allow = \"127.0.0.0/8\"\n"));
    let said = site.hub.wait_for("everything stays as it was");
    assert!(said.contains("of this hub listens at that port") && said.contains("in the next"), "{said}");
    site.change("[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"null:\"\n");
    wait_until("nobody listens any more", || TcpStream::connect(("127.0.0.1", port)).is_err());
    site.change(&base(&format!("0.0.0.0:{port}"), "allow = \"127.0.0.0/8\"\n"));
    client(SocketAddr::from(([127, 0, 0, 1], port)));
}

#[test]
fn each_mistake_of_a_changed_file_is_a_line() {
    let base = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let mut site = Site::new(folder(), &base, 1);
    site.write(&format!("{base}alow = 1\nfillter = \"udp\"\n"));
    assert!(site.hub.wait_for("everything stays as it was").contains("\"alow\""));
    assert!(site.hub.wait_for("everything stays as it was").contains("\"fillter\""));
}

#[test]
fn clients_of_files_get_the_files_of_their_time() {
    let folder = folder();
    let (old, new) =
        (packets(1, 60_000, 1_700_000_000_000_000, 10), packets(2, 10, 1_700_000_000_000_000, 10));
    let (a, b) = (file(&folder, "a.pcap", &pcap(&old)), file(&folder, "b.pcap", &pcap(&new)));
    let text = |path: &PathBuf, more: &str| {
        format!("[[source]]\nendpoint = \"{}\"\n{more}", path.display()) + &listener("")
    };
    let mut site = Site::new(folder, &text(&a, ""), 1);
    let mut before = connect(site.hub.client());
    site.hub.wait_for("connected");
    site.change(&text(&b, ""));
    assert_eq!(read_pcap(&read_all(site.hub.client())), new);
    // From each client's own files to one stream for all, and back.
    site.change(&text(&b, "loop = \"forever\"\npace = \"1000pps\"\n"));
    let mut shared = client(site.hub.client());
    read_exact(&mut shared, 5000);
    site.change(&text(&b, ""));
    assert_eq!(read_pcap(&read_all(site.hub.client())), new);
    let mut octets = Vec::new();
    before.read_to_end(&mut octets).unwrap();
    assert!(read_pcap(&octets) == old, "who read the old file has read it to its end");
}

#[test]
fn a_recorder_goes_on_by_new_rules() {
    let folder = folder();
    let (producer, recordings) = (Producer::new(), folder.path().join("rec"));
    let text = |packets: u32| {
        source(&producer)
            + &format!("[[sink]]\nendpoint = \"{}/\"\npackets = {packets}\n", recordings.display())
            + &listener("")
    };
    let mut site = Site::new(folder, &text(10), 1);
    let mut sending = producer.accept();
    sending.write_all(&header(1)).unwrap();
    let mut client = client(site.hub.client());
    let all = packets(1, 100, 1_700_000_000_000_000, 10);
    let send = |sending: &mut TcpStream, client: &mut TcpStream, some: &[Packet]| {
        let octets: Vec<u8> = some.iter().flat_map(record).collect();
        sending.write_all(&octets).unwrap();
        assert_eq!(read_exact(client, octets.len()), octets);
    };
    send(&mut sending, &mut client, &all[..50]);
    site.change(&text(25));
    // The one before lets go of the folder first; nothing is lost meanwhile.
    send(&mut sending, &mut client, &all[50..75]);
    let files = || {
        let entries = std::fs::read_dir(&recordings).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "pcapng")).collect();
        files.sort();
        files
    };
    wait_until("five files of ten", || files().len() >= 5);
    let begun = Instant::now();
    let mut sent = 75;
    while files().len() < 7 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", files());
        let packet = packets(1, sent + 1, 1_700_000_000_000_000, 10).pop().unwrap();
        send(&mut sending, &mut client, &[packet]);
        sent += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, _) = site.hub.stop();
    assert!(status.success());
    if has("capinfos") {
        let mut counts: Vec<_> = files().iter().map(|path| count_with_capinfos(path).unwrap()).collect();
        counts.sort_unstable();
        assert_eq!(counts.iter().sum::<u64>(), u64::from(sent));
        let whole = counts.iter().filter(|count| **count == 10).count();
        assert!(whole >= 5 && counts.iter().filter(|count| **count == 25).count() >= 2, "{counts:?}");
    }
}

#[test]
fn a_sink_that_has_all_that_it_was_to_have_stays_as_it_is() {
    let folder = folder();
    let out = folder.path().join("out.pcap");
    let text =
        format!("[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"{}\"\ncount = 3\n", out.display())
            + &listener("");
    let mut site = Site::new(folder, &text, 1);
    wait_until("it has three packets", || {
        std::fs::read(&out).is_ok_and(|octets| octets.len() > 24 && read_pcap(&octets).len() == 3)
    });
    let before = std::fs::read(&out).unwrap();
    for _ in 0..2 {
        let said = site.change(&text);
        assert!(said.contains("every source and sink stays"), "{said}");
        assert_eq!(std::fs::read(&out).unwrap(), before);
    }
}

#[test]
fn what_waits_for_another_to_let_go_still_starts_after_another_reload() {
    let folder = folder();
    let (producer, recordings) = (Producer::new(), folder.path().join("rec"));
    let recorded = |packets: u32| {
        source(&producer)
            + &format!("[[sink]]\nendpoint = \"{}/\"\npackets = {packets}\n", recordings.display())
    };
    let client_that_stalls = "[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\nname = \"other\"\n";
    // In quick succession: what each reload replaces may still be there at the next.
    let mut site = Site::new(folder, &recorded(1_000_000), 0);
    let mut sending = producer.accept();
    sending.write_all(&header(1)).unwrap();
    let mut number = 0;
    for round in 0..12 {
        let more = if round % 2 == 0 { client_that_stalls } else { "" };
        site.change(&(recorded(1_000 + round / 3) + more));
        number += 1;
        let packet = packets(1, number, 1_700_000_000_000_000, 10).pop().unwrap();
        sending.write_all(&record(&packet)).unwrap();
    }
    wait_until("one recorder is left, and runs", || {
        let counts = site.hub.counts();
        let sinks = counts["sinks"].as_array().unwrap();
        sinks.len() == 1 && sinks[0].get("waiting").is_none() && sinks[0].get("leaving").is_none()
    });
    wait_until("all are written", || {
        let counts = site.hub.counts();
        let queued: u64 =
            counts["subscribers"].as_array().unwrap().iter().map(|one| one["queued"].as_u64().unwrap()).sum();
        counts["sources"][0]["forwarded"] == number && queued == 0
    });
    let (status, counts) = site.hub.stop();
    assert!(status.success(), "{counts}");
    if has("capinfos") {
        let entries = std::fs::read_dir(&recordings).unwrap().map(|entry| entry.unwrap().path());
        let count: u64 = entries.map(|path| count_with_capinfos(&path).unwrap()).sum();
        assert_eq!(count, u64::from(number));
    }
}

#[test]
fn a_sink_whose_new_form_cannot_be_opened_is_told_to_have_failed() {
    let folder = folder();
    let recordings = folder.path().join("rec");
    let base = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let record = |format: &str| {
        format!("{base}[[sink]]\nendpoint = \"{}/\"\nformat = \"{format}\"\n", recordings.display())
    };
    let mut site = Site::new(folder, &record("pcap"), 1);
    wait_until("both are there", || site.hub.counts()["sinks"].as_array().unwrap().len() == 2);
    let failed = |site: &mut Site| {
        let counts = site.hub.counts();
        let sinks = counts["sinks"].as_array().unwrap();
        assert_eq!(sinks.len(), 2, "{counts}");
        let its = sinks.iter().find(|sink| sink["name"].as_str().unwrap().ends_with("rec/"));
        its.unwrap()["failed"].as_str().map(str::to_owned)
    };
    assert_eq!(failed(&mut site), None);
    std::fs::rename(&recordings, recordings.with_extension("old")).unwrap();
    std::fs::write(&recordings, "in its place").unwrap();
    site.write(&record("pcapng"));
    wait_until("it has failed", || failed(&mut site).is_some_and(|why| why.contains("Not a directory")));
    site.change(&base);
    wait_until("it is gone", || site.hub.counts()["sinks"].as_array().unwrap().len() == 1);
}

#[test]
fn what_is_taken_away_takes_nothing_any_more() {
    let base = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let more = format!("{base}[[sink]]\nendpoint = \"null:\"\nname = \"gone\"\n");
    let mut site = Site::new(folder(), &more, 1);
    site.change(&base);
    wait_until("it has left", || {
        let counts = site.hub.counts();
        !counts["subscribers"].as_array().unwrap().iter().any(|one| one["name"] == "gone")
    });
}

#[test]
fn one_of_two_listeners_that_are_alike_gets_a_filter_and_keeps_its_client() {
    let producer = Producer::new();
    let text = |more: &str| source(&producer) + &listener("") + &listener(more);
    let mut site = Site::new(folder(), &text(""), 2);
    let mut sending = producer.accept();
    sending.write_all(&header(1)).unwrap();
    let mut clients = [client(site.hub.clients[0]), client(site.hub.clients[1])];
    let said = site.change(&text("filter = \"src host 10.0.0.2\"\n"));
    assert!(said.contains("1 of them with another filter"), "{said}");
    let (one, two) = (packets(1, 1, 0, 1).remove(0), packets(2, 1, 0, 1).remove(0));
    sending.write_all(&[record(&one), record(&two)].concat()).unwrap();
    let both = [record(&one), record(&two)].concat();
    assert_eq!(read_exact(&mut clients[0], both.len()), both);
    assert_eq!(read_exact(&mut clients[1], record(&two).len()), record(&two));
}

#[test]
fn clients_of_a_stream_that_becomes_files_of_their_own_come_back_to_those() {
    let folder = folder();
    let capture = file(&folder, "a.pcap", &pcap(&packets(1, 10, 1_700_000_000_000_000, 10)));
    let live = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let mut site = Site::new(folder, &live, 1);
    let mut client = client(site.hub.client());
    site.change(&(format!("[[source]]\nendpoint = \"{}\"\n", capture.display()) + &listener("")));
    rest(&mut client);
    assert_eq!(read_pcap(&read_all(site.hub.client())).len(), 10);
}

#[test]
fn settings_that_need_a_new_start_are_named_at_whatever_level() {
    let base = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let mut site = Site::new(folder(), &base, 1);
    site.write(&format!(
        "user = \"daemon\"\norder = \"exact\"\n{base}[log]\nformat = \"json\"\nlevel = \"error\"\n"
    ));
    let said = site.hub.wait_for("from the next start on");
    assert!(["order", "[log] format", "user"].iter().all(|name| said.contains(name)), "{said}");
}

#[test]
fn the_log_level_changes_at_once() {
    let base = "[[source]]\nendpoint = \"demo:\"\n".to_owned() + &listener("");
    let mut site = Site::new(folder(), &base, 1);
    site.change(&base);
    // Nothing is said of a client any more, nor of the reload itself.
    site.write(&format!("{base}[log]\nlevel = \"error\"\n"));
    wait_until("the new level holds", || {
        drop(connect(site.hub.client()));
        let mut silent = true;
        while let Some(line) = site.hub.line_within(Duration::from_millis(200)) {
            silent &= !line.contains("connected");
        }
        silent
    });
}
