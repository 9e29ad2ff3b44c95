//! What happens around the packets: one type emits both the log line and its counter.
//!
//! error: packets are lost, or a person must act; warn: odd, recovered; info: a source or client
//! came or went; debug: per connection. There is nothing per packet.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pcaphub_core::linktype::LinkType;

use crate::escape::escaped;

/// The longest text from outside in a log line, in characters.
const SHOWN: usize = 240;

/// Something worth a line.
#[allow(missing_docs, reason = "each variant's line says what it is")]
pub enum Event<'a> {
    Listening { address: &'a str, role: &'static str },
    SourceOpened { source: &'a str, format: &'a (dyn fmt::Display + Sync), linktype: LinkType },
    SourceEnded { source: &'a str, packets: u64 },
    SourceFailed { source: &'a str, why: &'a (dyn fmt::Display + Sync) },
    SourceRetried { source: &'a str, why: &'a (dyn fmt::Display + Sync), pause: std::time::Duration },
    ProducerSilent { source: &'a str, why: &'a (dyn fmt::Display + Sync) },
    ProducerRefused { source: &'a str, peer: &'a str, why: &'a str },
    ChildSaid { source: &'a str, line: &'a str, suppressed: u64 },
    ChildSuppressed { source: &'a str, lines: u64 },
    ChildExited { command: &'a str, status: &'a str },
    ClientCame { client: &'a str },
    ClientLeft { client: &'a str, packets: u64, lost: u64, why: &'a str },
    ClientRefused { client: &'a str, why: &'a str },
    AcceptFailed { address: &'a str, why: &'a (dyn fmt::Display + Sync) },
    SinkFailed { why: &'a (dyn fmt::Display + Sync) },
    SinkRetried { sink: &'a str, why: &'a (dyn fmt::Display + Sync), pause: std::time::Duration },
    SinkFull { sink: &'a str, why: &'a (dyn fmt::Display + Sync) },
    SinkHasRoom { sink: &'a str },
    Recorded { sink: &'a str, file: &'a str, packets: u64, octets: u64 },
    RecordingRemoved { sink: &'a str, file: &'a str },
    RecordingRecovered { sink: &'a str, file: &'a str, packets: u64, cut: u64 },
    RecordingLeft { sink: &'a str, file: &'a str, why: &'a (dyn fmt::Display + Sync) },
    RecordingShared { sink: &'a str },
    LinkTypeMismatch { sink: &'a str, has: &'a (dyn fmt::Display + Sync), other: LinkType },
    EarlyRelease { packets: u64 },
    InterfaceLimit { source: &'a str },
    InterfaceDown { source: &'a str },
    InterfaceUp { source: &'a str },
    FilterUnfit { source: &'a str, why: &'a (dyn fmt::Display + Sync) },
    Snowball { source: &'a str },
    OwnTrafficCaptured { source: &'a str, why: &'a (dyn fmt::Display + Sync) },
    HandshakeFailed { peer: &'a str, why: &'a str },
    SpokeTls { client: &'a str },
    EndedUnsaid { source: &'a str },
    OpenToAll { address: &'a str },
    Insecure { endpoint: &'a str },
    CertificatesRenewed { endpoint: &'a str, expires: &'a str },
    CertificatesKept { endpoint: &'a str, why: &'a str },
    CertificateExpires { endpoint: &'a str, file: &'a str, expires: &'a str },
    CertificateExpired { endpoint: &'a str, file: &'a str, expires: &'a str },
}

macro_rules! kinds {
    ($($variant:ident => $name:literal,)*) => {
        impl Event<'_> {
            /// Counter names, by [`index`](Self::index).
            const NAMES: &'static [&'static str] = &[$($name,)*];

            /// The name of its counter.
            fn name(&self) -> &'static str {
                match self { $(Event::$variant { .. } => $name,)* }
            }

            fn index(&self) -> usize {
                #[derive(Clone, Copy)]
                enum Kind { $($variant,)* }
                (match self { $(Event::$variant { .. } => Kind::$variant,)* }) as usize
            }
        }
    };
}

kinds! {
    Listening => "listening",
    SourceOpened => "source_opened",
    SourceEnded => "source_ended",
    SourceFailed => "source_failed",
    SourceRetried => "source_retried",
    ProducerSilent => "producer_silent",
    ProducerRefused => "producer_refused",
    ChildSaid => "child_said",
    ChildSuppressed => "child_suppressed",
    ChildExited => "child_exited",
    ClientCame => "client_came",
    ClientLeft => "client_left",
    ClientRefused => "client_refused",
    AcceptFailed => "accept_failed",
    SinkFailed => "sink_failed",
    SinkRetried => "sink_retried",
    SinkFull => "sink_full",
    SinkHasRoom => "sink_has_room",
    Recorded => "recorded",
    RecordingRemoved => "recording_removed",
    RecordingRecovered => "recording_recovered",
    RecordingLeft => "recording_left",
    RecordingShared => "recording_shared",
    LinkTypeMismatch => "linktype_mismatch",
    EarlyRelease => "early_release",
    InterfaceLimit => "interface_limit",
    InterfaceDown => "interface_down",
    InterfaceUp => "interface_up",
    FilterUnfit => "filter_unfit",
    Snowball => "snowball",
    OwnTrafficCaptured => "own_traffic_captured",
    HandshakeFailed => "handshake_failed",
    SpokeTls => "spoke_tls",
    EndedUnsaid => "ended_unsaid",
    OpenToAll => "open_to_all",
    Insecure => "insecure",
    CertificatesRenewed => "certificates_renewed",
    CertificatesKept => "certificates_kept",
    CertificateExpires => "certificate_expires",
    CertificateExpired => "certificate_expired",
}

/// What an event is about.
#[derive(Default)]
struct Subject<'a> {
    source: Option<&'a str>,
    sink: Option<&'a str>,
    client: Option<&'a str>,
    address: Option<&'a str>,
}

impl Event<'_> {
    fn subject(&self) -> Subject<'_> {
        let none = Subject::default();
        match self {
            Event::SourceOpened { source, .. }
            | Event::SourceEnded { source, .. }
            | Event::SourceFailed { source, .. }
            | Event::SourceRetried { source, .. }
            | Event::ProducerSilent { source, .. }
            | Event::ChildSaid { source, .. }
            | Event::ChildSuppressed { source, .. }
            | Event::InterfaceLimit { source }
            | Event::InterfaceDown { source }
            | Event::InterfaceUp { source }
            | Event::FilterUnfit { source, .. }
            | Event::Snowball { source }
            | Event::EndedUnsaid { source }
            | Event::OwnTrafficCaptured { source, .. } => Subject { source: Some(source), ..none },
            Event::ProducerRefused { source, peer, .. } => {
                Subject { source: Some(source), address: Some(peer), ..none }
            }
            Event::SinkRetried { sink, .. }
            | Event::SinkFull { sink, .. }
            | Event::SinkHasRoom { sink }
            | Event::Recorded { sink, .. }
            | Event::RecordingRemoved { sink, .. }
            | Event::RecordingRecovered { sink, .. }
            | Event::RecordingLeft { sink, .. }
            | Event::RecordingShared { sink }
            | Event::LinkTypeMismatch { sink, .. } => Subject { sink: Some(sink), ..none },
            Event::ClientCame { client }
            | Event::ClientLeft { client, .. }
            | Event::SpokeTls { client }
            | Event::ClientRefused { client, .. } => Subject { client: Some(client), ..none },
            Event::HandshakeFailed { peer, .. } => Subject { address: Some(peer), ..none },
            Event::OpenToAll { address }
            | Event::Listening { address, .. }
            | Event::AcceptFailed { address, .. } => Subject { address: Some(address), ..none },
            _ => none,
        }
    }
}

/// Says how many lines of a kind were kept back.
fn tell_suppressed(name: &'static str, lines: u64) {
    tracing::warn!(
        event = "suppressed",
        kind = name,
        lines,
        "{lines} lines of the kind {name} were not shown"
    );
}

/// How often it is looked whether a flood has ended.
const SETTLING: Duration = Duration::from_secs(1);

/// Lines of one kind that are logged in a second; an attacker must not fill the disk with them.
const LINES_PER_SECOND: u32 = 20;

/// Where events go: the log, and a counter per kind. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Events {
    kinds: Arc<[Kind]>,
}

/// What is kept of one kind of event.
#[derive(Debug)]
struct Kind {
    count: AtomicU64,
    lines: Mutex<Lines>,
}

/// Lines of the second that began last.
#[derive(Debug)]
struct Lines {
    began: Instant,
    logged: u32,
    suppressed: u64,
}

impl Default for Events {
    fn default() -> Self {
        let lines = || Lines { began: Instant::now(), logged: 0, suppressed: 0 };
        let kind = |_: &&str| Kind { count: AtomicU64::new(0), lines: Mutex::new(lines()) };
        Events { kinds: Event::NAMES.iter().map(kind).collect() }
    }
}

impl Kind {
    /// How many lines were kept back before the one that may be logged now; `None` if it may not.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(lines.began) >= Duration::from_secs(1) {
            (lines.began, lines.logged) = (now, 0);
        }
        if lines.logged == LINES_PER_SECOND {
            lines.suppressed += 1;
            return None;
        }
        lines.logged += 1;
        Some(std::mem::take(&mut lines.suppressed))
    }

    /// How many lines were kept back in a second that began at `latest` or before, once.
    fn settle(&self, latest: Instant) -> u64 {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.began > latest { 0 } else { std::mem::take(&mut lines.suppressed) }
    }
}

impl Events {
    /// How often each kind occurred, for those that did.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.kinds.iter().map(|kind| kind.count.load(Ordering::Relaxed));
        Event::NAMES.iter().copied().zip(counts).filter(|(_, n)| *n > 0).collect()
    }

    /// Tells of lines that were kept back where no other of their kind came to tell it, for as long as it
    /// is polled.
    pub async fn settle_floods(&self) {
        loop {
            tokio::time::sleep(SETTLING).await;
            if let Some(latest) = Instant::now().checked_sub(SETTLING) {
                self.settle(latest);
            }
        }
    }

    /// Tells of all lines that were kept back so far; for the end.
    pub fn settle_all(&self) {
        self.settle(Instant::now());
    }

    fn settle(&self, latest: Instant) {
        for (name, kind) in Event::NAMES.iter().copied().zip(self.kinds.iter()) {
            match kind.settle(latest) {
                0 => {}
                lines => tell_suppressed(name, lines),
            }
        }
    }

    /// Counts and logs; of a kind that comes in floods, some lines only.
    pub fn emit(&self, event: Event<'_>) {
        let Some(kind) = self.kinds.get(event.index()) else { return };
        kind.count.fetch_add(1, Ordering::Relaxed);
        match kind.admit(Instant::now()) {
            None => return,
            Some(0) => {}
            Some(n) => tell_suppressed(event.name(), n),
        }
        let name = event.name();
        let Subject { source, sink, client, address } = event.subject();
        // Each line says as fields, too, what it is about; a log in JSON shows them.
        macro_rules! log {
            ($level:ident, $($text:tt)*) => {
                tracing::$level!(event = name, source, sink, client, address, $($text)*)
            };
        }
        let safe = |text: &str| escaped(text, SHOWN);
        let shown = |text: &dyn fmt::Display| escaped(&text.to_string(), 2 * SHOWN);
        match event {
            Event::Listening { address, role } => log!(info, "listening on {} for {role}", safe(address)),
            Event::SourceOpened { source, format, linktype } => {
                log!(info, "source {}: {}, {}", safe(source), shown(format), linktype);
            }
            Event::SourceEnded { source, packets } => {
                log!(info, "source {}: ended after {packets} packets", safe(source));
            }
            Event::SourceFailed { source, why } => log!(error, "source {}: {}", safe(source), shown(why)),
            Event::SourceRetried { source, why, pause } => {
                let pause = pause.as_secs_f32();
                log!(warn, "source {}: {}; trying again in {pause:.1} s", safe(source), shown(why));
            }
            Event::ProducerSilent { source, why } => {
                log!(debug, "source {}: {}", safe(source), shown(why))
            }
            Event::ProducerRefused { source, peer, why } => {
                log!(warn, "source {}: refused {}: {why}", safe(source), safe(peer));
            }
            Event::ChildSaid { source, line, suppressed: 0 } => {
                log!(info, "{}: {}", safe(source), safe(line));
            }
            Event::ChildSaid { source, line, suppressed } => {
                log!(info, "{}: {} ({suppressed} lines before it not shown)", safe(source), safe(line));
            }
            Event::ChildSuppressed { source, lines } => {
                log!(info, "{}: {lines} lines more were not shown", safe(source));
            }
            Event::ChildExited { command, status } => {
                log!(info, "{}: {}", safe(command), safe(status));
            }
            Event::ClientCame { client } => log!(info, "client {} connected", safe(client)),
            Event::ClientLeft { client, packets, lost: 0, why } => {
                log!(info, "client {} left: {}, {packets} packets delivered", safe(client), safe(why));
            }
            Event::ClientLeft { client, packets, lost, why } => {
                log!(
                    warn,
                    "client {} left: {}, {packets} packets delivered, {lost} lost",
                    safe(client),
                    safe(why)
                );
            }
            Event::ClientRefused { client, why } => log!(warn, "client {} refused: {why}", safe(client)),
            Event::AcceptFailed { address, why } => {
                log!(error, "cannot accept on {}: {}; trying on", safe(address), shown(why));
            }
            Event::SinkFailed { why } => log!(error, "cannot deliver: {}", shown(why)),
            Event::SinkRetried { sink, why, pause } => {
                let pause = pause.as_secs_f32();
                log!(warn, "sink {}: {}; trying again in {pause:.1} s", safe(sink), shown(why));
            }
            Event::SinkFull { sink, why } => log!(
                error,
                "sink {}: {}; make room: it is valid up to its last whole record, and goes on when it can",
                safe(sink),
                shown(why)
            ),
            Event::SinkHasRoom { sink } => log!(warn, "sink {}: there is room again", safe(sink)),
            Event::Recorded { sink, file, packets, octets } => {
                log!(info, "{}: recorded {}: {packets} packets, {octets} octets", safe(sink), safe(file));
            }
            Event::RecordingRemoved { sink, file } => {
                log!(info, "{}: removed {}, as keep= says", safe(sink), safe(file));
            }
            Event::RecordingRecovered { sink, file, packets, cut } => log!(
                warn,
                "{}: recovered {}, which an earlier recorder did not finish: {packets} packets; {cut} octets \
                 behind the last whole record are cut off",
                safe(sink),
                safe(file)
            ),
            Event::RecordingLeft { sink, file, why } => {
                log!(error, "{}: {}: {}", safe(sink), safe(file), shown(why));
            }
            Event::RecordingShared { sink } => log!(
                warn,
                "{}: others may write there, and rename or remove recordings; chmod go-w it",
                safe(sink)
            ),
            Event::LinkTypeMismatch { sink, has, other } => log!(
                error,
                "sink {}: packets of {other} cannot be in a pcap stream of {} and are dropped; --format pcapng carries both",
                safe(sink),
                shown(has)
            ),
            Event::InterfaceLimit { source } => log!(
                error,
                "source {}: it has more interfaces than the hub keeps of one source, or of all (--max-memory); \
                 packets of the others are dropped",
                safe(source)
            ),
            Event::InterfaceDown { source } => {
                log!(warn, "source {}: the interface is down; packets come when it is up", safe(source));
            }
            Event::InterfaceUp { source } => {
                log!(warn, "source {}: the interface is up again", safe(source))
            }
            Event::FilterUnfit { source, why } => log!(
                error,
                "source {}: a filter cannot be used for its packets, so none of them matches: {}",
                safe(source),
                shown(why)
            ),
            Event::Snowball { source } => log!(
                error,
                "source {}: it brings back what this hub sends, so that each packet begets another: through a tunnel, \
                 a relay or a capturing command, where it cannot be told from other traffic; leave it out with a \
                 filter, e.g. filter='not port PORT' with the tunnel's port, or serve the clients on another interface",
                safe(source)
            ),
            Event::OwnTrafficCaptured { source, why } => log!(
                error,
                "source {}: the hub's own traffic cannot be kept out: {}; give filter= to leave it out",
                safe(source),
                shown(why)
            ),
            Event::HandshakeFailed { peer, why } => {
                log!(warn, "no TLS connection with {}: {}", safe(peer), safe(why));
            }
            Event::SpokeTls { client } => log!(
                warn,
                "client {}: it speaks TLS, and this listener does not: let it connect to a tls-listen:// one, \
                 or without TLS",
                safe(client)
            ),
            Event::EndedUnsaid { source } => log!(
                warn,
                "source {}: it closed without TLS's own end, as ncat and others do; whether somebody in between \
                 cut the stream cannot be known",
                safe(source)
            ),
            Event::OpenToAll { address } => log!(
                warn,
                "anybody may connect to {}: it is encrypted; client-ca= or allow= say who may",
                safe(address)
            ),
            Event::Insecure { endpoint } => log!(
                error,
                "{}: insecure=yes: whoever answers there is trusted, and can read and forge everything; \
                 pin= or ca= protect",
                safe(endpoint)
            ),
            Event::CertificatesRenewed { endpoint, expires } => log!(
                info,
                "{}: certificates read again, valid until {}; connections that there are stay",
                safe(endpoint),
                safe(expires)
            ),
            Event::CertificatesKept { endpoint, why } => log!(
                error,
                "{}: the new certificates cannot be used, so those from before stay: {}",
                safe(endpoint),
                safe(why)
            ),
            Event::CertificateExpires { endpoint, file, expires } => log!(
                warn,
                "{}: {} expires on {}: replace it before then; it is read again without a restart",
                safe(endpoint),
                safe(file),
                safe(expires)
            ),
            Event::CertificateExpired { endpoint, file, expires } => log!(
                error,
                "{}: {} has expired on {}: connections are refused until it is replaced",
                safe(endpoint),
                safe(file),
                safe(expires)
            ),
            Event::EarlyRelease { packets } => log!(
                warn,
                "{packets} packets left the merge before their hold was over: a source is too fast for its memory"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_some_lines_are_shown_and_the_others_counted() {
        let began = Instant::now();
        let lines = Lines { began, logged: 0, suppressed: 0 };
        let kind = Kind { count: AtomicU64::new(0), lines: Mutex::new(lines) };
        let shown = (0..100).filter(|_| kind.admit(began) == Some(0)).count();
        assert_eq!(shown, LINES_PER_SECOND as usize);
        assert_eq!(kind.admit(began + Duration::from_secs(1)), Some(80));
        assert_eq!(kind.admit(began + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn when_a_flood_has_ended_what_was_not_shown_of_it_is_told_once() {
        let began = Instant::now();
        let lines = Lines { began, logged: 0, suppressed: 0 };
        let kind = Kind { count: AtomicU64::new(0), lines: Mutex::new(lines) };
        assert_eq!((0..100).filter(|_| kind.admit(began).is_some()).count(), LINES_PER_SECOND as usize);
        let before = began.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(kind.settle(before), 0, "it may go on");
        assert_eq!(kind.settle(began), 80);
        assert_eq!(kind.settle(began), 0);
    }

    #[test]
    fn every_event_is_counted() {
        let events = Events::default();
        for _ in 0..100 {
            events.emit(Event::ClientRefused { client: "192.0.2.1:1", why: "no" });
        }
        assert_eq!(events.counts(), [("client_refused", 100)]);
    }
}
