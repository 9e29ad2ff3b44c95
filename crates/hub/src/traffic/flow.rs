//! One conversation between two hosts, packet by packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep,
    TcpOptionElement,
};

use super::message;
use super::random::Random;

/// Octets of TCP payload in a full segment.
const MSS: usize = 1400;
/// Names that are asked for.
const NAMES: &[&str] = &[
    "www.example.com",
    "api.example.net",
    "cdn.example.org",
    "mail.example.com",
    "updates.example.net",
    "shop.test",
];
const PATHS: &[&str] = &["/", "/index.html", "/news", "/images/logo", "/api/v1/items?page=2"];

/// The two ends: addresses of a private network, and of those set aside for documentation.
#[derive(Debug, Clone, Copy)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Who sends a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}

/// What a conversation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Http,
    Tls,
    NoSuchName,
    Ntp,
    Ping,
    Arp,
}

/// How far a TCP conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Question,
    Answer,
    Syn,
    SynAck,
    Established,
    Request,
    RequestAcknowledged,
    Response,
    ResponseAcknowledged,
    ServerFin,
    ClientFin,
    LastAck,
    Over,
}

/// A conversation in progress.
#[derive(Debug)]
pub(super) struct Flow {
    topic: Topic,
    stage: Stage,
    random: Random,
    client_mac: [u8; 6],
    ends: Ends,
    resolver: Ipv4Addr,
    port: u16,
    name: &'static str,
    path: &'static str,
    client_seq: u32,
    server_seq: u32,
    identification: u16,
    /// Octets of the response, and how many were sent.
    response: usize,
    sent: usize,
    unacknowledged: u32,
}

/// The router, which all servers are behind.
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

impl Flow {
    /// A new conversation.
    pub(super) fn new(random: &mut Random) -> Self {
        let mut random = Random::new(random.next());
        let topic = match random.below(20) {
            0..=8 => Topic::Http,
            9..=15 => Topic::Tls,
            16 => Topic::NoSuchName,
            17 => Topic::Ntp,
            18 => Topic::Ping,
            _ => Topic::Arp,
        };
        let (host, server) = (random.below(200) as u8 + 10, random.below(200) as u8 + 10);
        let v6 = random.below(5) == 0 && matches!(topic, Topic::Http | Topic::Tls);
        let ends = match v6 {
            false => Ends::V4(Ipv4Addr::new(10, 1, 1, host), Ipv4Addr::new(198, 51, 100, server)),
            true => Ends::V6(
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()),
                Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, server.into()),
            ),
        };
        Flow {
            topic,
            stage: Stage::Question,
            client_mac: [2, 0, 10, 1, 1, host],
            ends,
            resolver: Ipv4Addr::new(10, 1, 1, 1),
            port: 32_768 + random.below(28_000) as u16,
            name: random.pick(NAMES).unwrap_or("www.example.com"),
            path: random.pick(PATHS).unwrap_or("/"),
            client_seq: random.next() as u32,
            server_seq: random.next() as u32,
            identification: random.next() as u16,
            response: 200 + random.below(30_000) as usize,
            sent: 0,
            unacknowledged: 0,
            random,
        }
    }

    /// Whether all was said.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Appends its next packet to `out`. `seconds` is the time since the epoch.
    pub(super) fn next(&mut self, out: &mut Vec<u8>, seconds: u64) {
        match self.topic {
            Topic::Arp => self.arp(out),
            Topic::Ping => self.ping(out),
            Topic::Ntp => self.ntp(out, seconds),
            Topic::NoSuchName | Topic::Http | Topic::Tls => match self.stage {
                Stage::Question | Stage::Answer => self.dns(out),
                _ => self.tcp(out),
            },
        }
    }

    /// Moves from the first half of an exchange to the second, and then to its end.
    fn answered(&mut self) -> bool {
        let answer = self.stage == Stage::Answer;
        self.stage = if answer { Stage::Over } else { Stage::Answer };
        answer
    }

    fn arp(&mut self, out: &mut Vec<u8>) {
        let answer = self.answered();
        let Ends::V4(client, _) = self.ends else { return };
        let (sender, target) = if answer { (ROUTER_MAC, self.client_mac) } else { (self.client_mac, [0; 6]) };
        let (from, to) = if answer { (self.resolver, client) } else { (client, self.resolver) };
        out.extend(if answer { target } else { [0xff; 6] });
        out.extend(sender);
        out.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1 + u8::from(answer)]);
        out.extend(sender);
        out.extend(from.octets());
        out.extend(target);
        out.extend(to.octets());
        out.extend([0; 18]);
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        let answer = self.answered();
        let sender = if answer { Sender::Server } else { Sender::Client };
        let payload: Vec<u8> = (0..56).collect();
        let id = self.port;
        let ip = self.ip(sender, IpNumber::ICMP, None);
        let packet = if answer { ip.icmpv4_echo_reply(id, 1) } else { ip.icmpv4_echo_request(id, 1) };
        // Writing to memory cannot fail, and no packet here is over what IP carries.
        let _ = packet.write(out, &payload);
    }

    fn ntp(&mut self, out: &mut Vec<u8>, seconds: u64) {
        let answer = self.answered();
        let sender = if answer { Sender::Server } else { Sender::Client };
        let message = message::ntp(if answer { 4 } else { 3 }, seconds);
        self.udp(out, sender, 123, None, &message);
    }

    fn dns(&mut self, out: &mut Vec<u8>) {
        let id = self.client_seq as u16;
        let (address, kind) = match self.ends {
            Ends::V4(_, server) => (server.octets().to_vec(), 1),
            Ends::V6(_, server) => (server.octets().to_vec(), 28),
        };
        let answer = self.stage == Stage::Answer;
        let missing = self.topic == Topic::NoSuchName;
        let name = if missing { "no-such-host.example.com" } else { self.name };
        let resolver = Some(self.resolver);
        if answer {
            let known = (!missing).then_some(&address[..]);
            self.udp(out, Sender::Server, 53, resolver, &message::dns_answer(id, name, kind, known));
            self.stage = if missing { Stage::Over } else { Stage::Syn };
        } else {
            self.udp(out, Sender::Client, 53, resolver, &message::dns_query(id, name, kind));
            self.stage = Stage::Answer;
        }
    }

    fn udp(&mut self, out: &mut Vec<u8>, sender: Sender, port: u16, to: Option<Ipv4Addr>, payload: &[u8]) {
        let client = self.port;
        let (from, to_port) = if sender == Sender::Client { (client, port) } else { (port, client) };
        let _ = self.ip(sender, IpNumber::UDP, to).udp(from, to_port).write(out, payload);
    }

    fn tcp(&mut self, out: &mut Vec<u8>) {
        use Sender::{Client, Server};
        self.stage = match self.stage {
            Stage::Syn => {
                self.segment(out, Client, Flags::SYN, &[]);
                Stage::SynAck
            }
            Stage::SynAck => {
                self.segment(out, Server, Flags::SYN_ACK, &[]);
                Stage::Established
            }
            Stage::Established => {
                self.segment(out, Client, Flags::ACK, &[]);
                Stage::Request
            }
            Stage::Request => {
                let request = match self.topic {
                    Topic::Tls => message::client_hello(&mut self.random, self.name),
                    _ => message::http_request(self.name, self.path),
                };
                self.segment(out, Client, Flags::PUSH, &request);
                Stage::RequestAcknowledged
            }
            Stage::RequestAcknowledged => {
                self.segment(out, Server, Flags::ACK, &[]);
                Stage::Response
            }
            Stage::Response => self.respond(out),
            Stage::ResponseAcknowledged => {
                self.segment(out, Client, Flags::ACK, &[]);
                self.unacknowledged = 0;
                if self.sent < self.response { Stage::Response } else { Stage::ServerFin }
            }
            Stage::ServerFin => {
                self.segment(out, Server, Flags::FIN, &[]);
                Stage::ClientFin
            }
            Stage::ClientFin => {
                self.segment(out, Client, Flags::FIN, &[]);
                Stage::LastAck
            }
            _ => {
                self.segment(out, Server, Flags::ACK, &[]);
                Stage::Over
            }
        };
    }

    /// One segment of the response; the client acknowledges every second one, and the last.
    fn respond(&mut self, out: &mut Vec<u8>) -> Stage {
        let left = self.response - self.sent;
        let (payload, progress) = match self.topic {
            Topic::Tls if self.sent == 0 => (message::server_hello(&mut self.random), left.min(MSS)),
            Topic::Tls => {
                let length = left.min(MSS - 5);
                (message::encrypted(&mut self.random, length), length)
            }
            _ => {
                let mut payload =
                    if self.sent == 0 { message::http_response(self.response) } else { Vec::new() };
                let length = left.min(MSS - payload.len());
                payload.extend(message::body(self.sent, length));
                (payload, length)
            }
        };
        self.sent += progress;
        self.unacknowledged += 1;
        self.segment(out, Sender::Server, Flags::PUSH, &payload);
        if self.unacknowledged == 2 || self.sent == self.response {
            Stage::ResponseAcknowledged
        } else {
            Stage::Response
        }
    }

    fn segment(&mut self, out: &mut Vec<u8>, sender: Sender, flags: Flags, payload: &[u8]) {
        let service = if self.topic == Topic::Tls { 443 } else { 80 };
        let (client, client_seq, server_seq) = (self.port, self.client_seq, self.server_seq);
        let ip = self.ip(sender, IpNumber::TCP, None);
        let (step, acknowledged) = match sender {
            Sender::Client => (ip.tcp(client, service, client_seq, 64_240), server_seq),
            Sender::Server => (ip.tcp(service, client, server_seq, 65_160), client_seq),
        };
        let step = if flags.ack { step.ack(acknowledged) } else { step };
        let step = if flags.push { step.psh() } else { step };
        let step = if flags.fin { step.fin() } else { step };
        let step = if flags.syn { step.syn() } else { step };
        let _ = match flags.syn {
            true => {
                let options = [
                    TcpOptionElement::MaximumSegmentSize(MSS as u16),
                    TcpOptionElement::SelectiveAcknowledgementPermitted,
                    TcpOptionElement::Noop,
                    TcpOptionElement::WindowScale(7),
                ];
                step.options(&options).map(|step| step.write(out, payload))
            }
            false => Ok(step.write(out, payload)),
        };
        let used = payload.len() as u32 + u32::from(flags.syn) + u32::from(flags.fin);
        match sender {
            Sender::Client => self.client_seq = self.client_seq.wrapping_add(used),
            Sender::Server => self.server_seq = self.server_seq.wrapping_add(used),
        }
    }

    /// Ethernet and IP of a packet; `resolver` stands in for the server.
    fn ip(
        &mut self,
        sender: Sender,
        protocol: IpNumber,
        resolver: Option<Ipv4Addr>,
    ) -> PacketBuilderStep<IpHeaders> {
        let (from, to) = match sender {
            Sender::Client => (self.client_mac, ROUTER_MAC),
            Sender::Server => (ROUTER_MAC, self.client_mac),
        };
        self.identification = self.identification.wrapping_add(1);
        let headers = match (self.ends, resolver) {
            (Ends::V6(client, server), None) => {
                let (source, destination) =
                    if sender == Sender::Client { (client, server) } else { (server, client) };
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: protocol,
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                IpHeaders::Ipv6(header, Default::default())
            }
            (ends, resolver) => {
                let (client, server) = match ends {
                    Ends::V4(client, server) => (client, server),
                    Ends::V6(client, _) => (Ipv4Addr::new(10, 1, 1, client.octets()[15]), self.resolver),
                };
                let server = resolver.unwrap_or(server);
                let (source, destination) =
                    if sender == Sender::Client { (client, server) } else { (server, client) };
                let header = Ipv4Header {
                    time_to_live: if sender == Sender::Client { 64 } else { 57 },
                    protocol,
                    identification: self.identification,
                    dont_fragment: true,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, Default::default())
            }
        };
        PacketBuilder::ethernet2(from, to).ip(headers)
    }
}

/// Flags of a segment.
#[derive(Debug, Clone, Copy)]
struct Flags {
    syn: bool,
    ack: bool,
    push: bool,
    fin: bool,
}

impl Flags {
    const ACK: Flags = Flags { syn: false, ack: true, push: false, fin: false };
    const SYN: Flags = Flags { syn: true, ack: false, ..Flags::ACK };
    const SYN_ACK: Flags = Flags { syn: true, ..Flags::ACK };
    const PUSH: Flags = Flags { push: true, ..Flags::ACK };
    const FIN: Flags = Flags { fin: true, ..Flags::ACK };
}
