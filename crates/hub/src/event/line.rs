//! The line of the log that tells an event, and what can be done where somebody must act.
//!
//! Text from outside is escaped and cut: nobody writes lines of his own into the log.

use std::fmt;

use super::kinds::{Event, Subject};
use crate::escape::escaped;

impl Event<'_> {
    /// Logs it, where lines of its level are shown and `admit` lets this one pass.
    pub(super) fn log(self, admit: impl FnOnce() -> bool) {
        let name = self.name();
        let Subject { source, sink, client, address } = self.subject();
        // Each line says as fields, too, what it is about; a log in JSON shows them.
        macro_rules! log {
            ($level:ident, $($text:tt)*) => {
                if tracing::enabled!(tracing::Level::$level) && admit() {
                    tracing::event!(
                        tracing::Level::$level,
                        event = name,
                        source,
                        sink,
                        client,
                        address,
                        $($text)*
                    )
                }
            };
        }
        let safe = |text: &str| escaped(text, SHOWN);
        let shown = |text: &dyn fmt::Display| escaped(&text.to_string(), 2 * SHOWN);
        match self {
            Event::Listening { address, role } => log!(INFO, "listening on {} for {role}", safe(address)),
            Event::SourceOpened { source, format, linktype } => {
                log!(INFO, "source {}: {}, {}", safe(source), shown(format), linktype);
            }
            Event::SourceEnded { source, packets } => {
                log!(INFO, "source {}: ended after {packets} packets", safe(source));
            }
            Event::SourceFailed { source, why } => log!(ERROR, "source {}: {}", safe(source), shown(why)),
            Event::SourceRetried { source, why, pause } => {
                let pause = pause.as_secs_f32();
                log!(WARN, "source {}: {}; trying again in {pause:.1} s", safe(source), shown(why));
            }
            Event::ProducerSilent { source, why } => {
                log!(DEBUG, "source {}: {}", safe(source), shown(why))
            }
            Event::ProducerRefused { source, peer, why } => {
                log!(WARN, "source {}: refused {}: {why}", safe(source), safe(peer));
            }
            Event::ChildSaid { source, line, suppressed: 0 } => {
                log!(INFO, "{}: {}", safe(source), safe(line));
            }
            Event::ChildSaid { source, line, suppressed } => {
                log!(INFO, "{}: {} ({suppressed} lines before it not shown)", safe(source), safe(line));
            }
            Event::ChildSuppressed { source, lines } => {
                log!(INFO, "{}: {lines} lines more were not shown", safe(source));
            }
            Event::ChildExited { command, status } => {
                log!(INFO, "{}: {}", safe(command), safe(status));
            }
            Event::ClientCame { client } => log!(INFO, "client {} connected", safe(client)),
            Event::ClientLeft { client, packets, lost: 0, why } => {
                log!(INFO, "client {} left: {}, {packets} packets delivered", safe(client), safe(why));
            }
            Event::ClientLeft { client, packets, lost, why } => {
                log!(
                    WARN,
                    "client {} left: {}, {packets} packets delivered, {lost} lost",
                    safe(client),
                    safe(why)
                );
            }
            Event::ClientRefused { client, why } => log!(WARN, "client {} refused: {why}", safe(client)),
            Event::AcceptFailed { address, why } => {
                log!(ERROR, "cannot accept on {}: {}; trying on", safe(address), shown(why));
            }
            Event::SinkFailed { why } => log!(ERROR, "cannot deliver: {}", shown(why)),
            Event::SinkRetried { sink, why, pause } => {
                let pause = pause.as_secs_f32();
                log!(WARN, "sink {}: {}; trying again in {pause:.1} s", safe(sink), shown(why));
            }
            Event::SinkFull { sink, why } => log!(
                ERROR,
                "sink {}: {}; make room: it is valid up to its last whole record, and goes on when it can",
                safe(sink),
                shown(why)
            ),
            Event::SinkHasRoom { sink } => log!(WARN, "sink {}: there is room again", safe(sink)),
            Event::SinkInterfaceUp { sink } => log!(WARN, "sink {}: the interface is up again", safe(sink)),
            Event::Recorded { sink, file, packets, octets } => {
                log!(INFO, "{}: recorded {}: {packets} packets, {octets} octets", safe(sink), safe(file));
            }
            Event::RecordingRemoved { sink, file } => {
                log!(INFO, "{}: removed {}, by the rules of what is kept", safe(sink), safe(file));
            }
            Event::RecordingRecovered { sink, file, packets, cut } => log!(
                WARN,
                "{}: recovered {}, which an earlier recorder did not finish: {packets} packets; {cut} octets \
                 behind the last whole record are cut off",
                safe(sink),
                safe(file)
            ),
            Event::RecordingLeft { sink, file, why } => {
                log!(ERROR, "{}: {}: {}", safe(sink), safe(file), shown(why));
            }
            Event::RecordingShared { sink } => log!(
                WARN,
                "{}: others may write there, and rename or remove recordings; chmod go-w it",
                safe(sink)
            ),
            Event::LinkTypeMismatch { sink, mismatch } => {
                log!(ERROR, "sink {}: {mismatch}", safe(sink));
            }
            Event::InterfaceLimit { source } => log!(
                ERROR,
                "source {}: it has more interfaces than the hub keeps of one source, or of all (--max-memory); \
                 packets of the others are dropped",
                safe(source)
            ),
            Event::InterfaceDown { source } => {
                log!(WARN, "source {}: the interface is down; packets come when it is up", safe(source));
            }
            Event::InterfaceUp { source } => {
                log!(WARN, "source {}: the interface is up again", safe(source))
            }
            Event::FilterUnfit { whose, filter, source, why } => log!(
                ERROR,
                "{}: the filter `{}` cannot be used for packets of {}, so none of them matches: {}",
                safe(whose),
                safe(filter),
                safe(source),
                shown(why)
            ),
            Event::Snowball { source } => log!(
                ERROR,
                "source {}: it brings back what this hub sends, so that each packet begets another: through a tunnel, \
                 a relay or a capturing command, where it cannot be told from other traffic; leave it out with a \
                 filter, e.g. filter='not port PORT' with the tunnel's port, or serve the clients on another interface",
                safe(source)
            ),
            Event::OwnTrafficCaptured { source, why } => log!(
                ERROR,
                "source {}: the hub's own traffic cannot be kept out: {}; give filter= to leave it out",
                safe(source),
                shown(why)
            ),
            Event::HandshakeFailed { peer, why } => {
                log!(WARN, "no TLS connection with {}: {}", safe(peer), safe(why));
            }
            Event::SpokeTls { client } => log!(
                WARN,
                "client {}: it speaks TLS, and this listener does not: let it connect to a tls-listen:// one, \
                 or without TLS",
                safe(client)
            ),
            Event::EndedUnsaid { source } => log!(
                WARN,
                "source {}: it closed without TLS's own end, as ncat and others do; whether somebody in between \
                 cut the stream cannot be known",
                safe(source)
            ),
            Event::OpenToAll { address } => log!(
                WARN,
                "anybody may connect to {}: it is encrypted; client-ca= or allow= say who may",
                safe(address)
            ),
            Event::Insecure { endpoint } => log!(
                ERROR,
                "{}: insecure=yes: whoever answers there is trusted, and can read and forge everything; \
                 pin= or ca= protect",
                safe(endpoint)
            ),
            Event::CertificatesRenewed { endpoint, expires } => log!(
                INFO,
                "{}: certificates read again, valid until {}; connections that there are stay",
                safe(endpoint),
                safe(expires)
            ),
            Event::CertificatesKept { endpoint, why } => log!(
                ERROR,
                "{}: the new certificates cannot be used, so those from before stay: {}",
                safe(endpoint),
                safe(why)
            ),
            Event::CertificateExpires { endpoint, file, expires } => log!(
                WARN,
                "{}: {} expires on {}: replace it before then; it is read again without a restart",
                safe(endpoint),
                safe(file),
                safe(expires)
            ),
            Event::CertificateExpired { endpoint, file, expires } => log!(
                ERROR,
                "{}: {} has expired on {}: connections are refused until it is replaced",
                safe(endpoint),
                safe(file),
                safe(expires)
            ),
            Event::EarlyRelease { packets } => log!(
                WARN,
                "{packets} packets left the merge before their hold was over: a source is too fast for its memory"
            ),
        }
    }
}

/// Says how many lines of a kind were kept back.
pub(super) fn tell_suppressed(name: &'static str, lines: u64) {
    tracing::warn!(
        event = "suppressed",
        kind = name,
        lines,
        "{lines} lines of the kind {name} were not shown"
    );
}

/// The longest text from outside in a log line, in characters.
const SHOWN: usize = 240;
