//! What can happen that is worth a line, what it is counted as, and what it is about.
//!
//! A new kind does not compile until it has the name of a counter here, and a line in `line.rs`.

use std::fmt;

use pcaphub_core::linktype::LinkType;

use super::mismatch::Mismatch;

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
    SinkInterfaceUp { sink: &'a str },
    Recorded { sink: &'a str, file: &'a str, packets: u64, octets: u64 },
    RecordingRemoved { sink: &'a str, file: &'a str },
    RecordingRecovered { sink: &'a str, file: &'a str, packets: u64, cut: u64 },
    RecordingLeft { sink: &'a str, file: &'a str, why: &'a (dyn fmt::Display + Sync) },
    RecordingShared { sink: &'a str },
    LinkTypeMismatch { sink: &'a str, mismatch: Mismatch },
    EarlyRelease { packets: u64 },
    InterfaceLimit { source: &'a str },
    InterfaceDown { source: &'a str },
    InterfaceUp { source: &'a str },
    FilterUnfit { whose: &'a str, filter: &'a str, source: &'a str, why: &'a (dyn fmt::Display + Sync) },
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
            pub(super) const NAMES: &'static [&'static str] = &[$($name,)*];

            /// The name of its counter.
            pub(super) fn name(&self) -> &'static str {
                match self { $(Event::$variant { .. } => $name,)* }
            }

            pub(super) fn index(&self) -> usize {
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
    SinkInterfaceUp => "sink_interface_up",
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
pub(super) struct Subject<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) sink: Option<&'a str>,
    pub(super) client: Option<&'a str>,
    pub(super) address: Option<&'a str>,
}

impl Event<'_> {
    pub(super) fn subject(&self) -> Subject<'_> {
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
            | Event::SinkInterfaceUp { sink }
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
