//! Help that teaches by the use cases.

use std::net::SocketAddr;

use pcaphub::endpoint::DEFAULT_PORT;
use pcaphub::escape::escaped;
use pcaphub::plan::Key;
use pcaphub::sink::{self, SINKS};
use pcaphub::source::{self, SOURCES};

pub(crate) const ABOUT: &str = "\
Moves packets: any number of sources, one time order, any number of clients.

pcaphub takes packets from interfaces, files, commands and PCAP-over-IP streams (pcap over
TCP, port 57012), puts them into one time order, and gives them to any number of clients
and other sinks. Every packet is accounted for.";

pub(crate) const USE_CASES: &str = "\
Examples:
  pcaphub demo                                   synthetic traffic to try everything with
  pcaphub serve sniffed.pcap                     every client gets the whole file
      tshark -i TCP@127.0.0.1:57012              … reads it live, so does dumpcap
      nc 127.0.0.1 57012 | tshark -r -           … or this
  pcaphub serve sniffed.pcap --listen 0.0.0.0:57012 --allow 192.168.1.0/24
  pcaphub serve -i eth0 -f 'not port 22'         live capture for all clients, with a filter
  pcaphub replay sniffed.pcap eth1               onto a network interface
  pcaphub record -i eth0 /var/captures           into rotating files
  pcaphub cat tcp://host:57012 | tshark -r -     read from somebody else's listener
  pcaphub serve tcp-listen://127.0.0.1:57013     sniffers connect: tcpdump -w - | nc HOST 57013
  pcaphub pipe a.pcap --to tcp://192.168.1.3:57012            push to a listening analyzer
  pcaphub serve tcp://10.1.2.3:57012 tcp://10.4.5.6:57012     several sensors, one stream
  pcaphub serve tcp://10.1.2.3 --history 10s     late joiners get the last ten seconds
  pcaphub run pcaphub.toml                       what a configuration file says, for a service
  pcaphub top                                    what all of them do: clients, rates, losses; live

`pcaphub help VERB` shows a verb's options, `pcaphub --help` every kind of endpoint.";

pub(crate) const SERVE: &str = "\
Files alone are replayed: each client gets the whole stream from its beginning, at its own
pace. Other sources, and files with --pace, --loop, -c or --history, are one stream that all
share: a client joins at the next packet, or --history earlier.

Examples:
  pcaphub serve sniffed.pcap
  pcaphub serve sniffed.pcap --listen 0.0.0.0:57012 --allow 192.168.1.0/24
  pcaphub serve -i eth0 -f 'not port 22'
  pcaphub serve -i eth0 --listen :57012 --listen :57013 --opt 'filter=udp port 53'
  pcaphub serve exec:'tcpdump -i any -U -w - not tcp port 57012' --format pcapng
  pcaphub serve 'tcp://10.1.2.3?name=office' 'tcp://10.4.5.6?name=plant' --format pcapng
  pcaphub serve tcp-listen://127.0.0.1:57013 --history 10s";

pub(crate) const CAT: &str = "\
One source keeps its own format and resolution; several become one pcapng stream.

Examples:
  pcaphub cat tcp://host:57012 | tshark -r -
  pcaphub cat a.pcap b.pcapng.gz --format pcap > merged.pcap
  pcaphub cat capture.pcapng.zst | tcpdump -r -";

pub(crate) const PIPE: &str = "\
Examples:
  pcaphub pipe sniffed.pcap --to tcp://192.168.1.3:57012
  pcaphub pipe tcp://sensor --to capture.pcapng.zst --to tcp-listen://127.0.0.1:57012
  pcaphub pipe tcp://sensor --to exec:'suricata -r /dev/stdin -l /tmp'
  pcaphub pipe - --to null:";

pub(crate) const REPLAY: &str = "\
Packets go at their original distances, or as --pace says. Those over the MTU are dropped and
counted, or cut into what fits with --oversize segment. Packets without an Ethernet header get
one. Needs CAP_NET_RAW (root, setcap or systemd).

Examples:
  pcaphub replay capture.pcap eth1
  pcaphub replay capture.pcap eth1 --pace max --loop 10
  pcaphub replay tcp://sensor tap0 --create tap      an interface of its own, for Suricata";

pub(crate) const DEMO: &str = "\
Traffic starts when the first client connects.

Examples:
  pcaphub demo
  pcaphub demo --rate 100000 --mix imix --listen 127.0.0.1:0
  pcaphub demo --seed 7 --to demo.pcapng --duration 10s";

/// What to type next, where the demo listens.
pub(crate) fn demo_hint(listening: &[SocketAddr]) -> String {
    let default = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT));
    let mut address = listening.first().copied().unwrap_or(default);
    if address.ip().is_unspecified() {
        address.set_ip(default.ip());
    }
    // As it was called here: it need not be where the shell looks for it.
    let program = std::env::args().next().map_or("pcaphub".into(), |name| escaped(&name, 300));
    format!(
        "Synthetic traffic starts when the first client connects. In another terminal:\n\
         \x20 tshark -i TCP@{address}\n\
         \x20 nc {} {} | tcpdump -n -r -\n\
         \x20 {program} top\n\
         Ctrl-C ends it.\n",
        address.ip(),
        address.port()
    )
}

/// Every kind of endpoint and its options, from the tables that parse them.
pub(crate) fn endpoints() -> String {
    let mut text = format!("{USE_CASES}\n\nSources:\n");
    for kind in SOURCES {
        text += &row(kind.example, kind.help, kind.keys);
    }
    text += "  of every source:\n";
    text += &keys(source::COMMON);
    text += "\nSinks (--to):\n";
    for kind in SINKS {
        text += &row(kind.example, kind.help, kind.keys);
    }
    text += "  of every sink:\n";
    text += &keys(sink::COMMON);
    text + "
Options follow an endpoint with a scheme as ?key=value&key=value, percent-encoded; behind
any endpoint as --opt key=value. Also understood: TCP@HOST[:19000] and
pcapovertcp::HOST:PORT. A path that looks like a scheme needs ./ before it.

Formats: listeners and pushes send pcap (microseconds) by default, files go by their
extension (.pcap, .pcapng, with .gz or .zst packed). A pcap stream has one linktype: where
it is Ethernet, bare IP, cooked and PPP packets become Ethernet, others are dropped and
counted. --format pcapng carries all as they were.

Slow clients: with files, standard input and commands the sources wait; with network
sources the slow client loses whole chunks, counted. --on-slow says otherwise.

`pcaphub top` shows what running hubs do.

Signals: INT, TERM and HUP let clients take what is queued and end, a second one ends at
once; USR1 prints the counts.

Exit codes: 0; 1 something failed or a source ended in error; 2 usage; 77 no permission;
78 the configuration file is wrong."
}

fn row(example: &str, help: &str, options: &[Key]) -> String {
    format!("  {example:<28} {help}\n{}", keys(options))
}

fn keys(keys: &[Key]) -> String {
    keys.iter().map(|key| format!("      {:<24} {}\n", format!("{}=", key.name), key.help)).collect()
}
