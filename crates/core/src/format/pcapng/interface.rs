//! Interface descriptions, read: what packets of a section refer to, under an id of ours.

use std::sync::Arc;

use bytes::Bytes;

use super::super::byte_order::ByteOrder;
use super::super::decoder::{Call, DecoderOptions};
use super::options::{Layout, Opt, Options};
use super::scale::{DEFAULT_TSRESOL, Scale};
use crate::error::DecodeErrorKind;
use crate::interface::{Interface, InterfaceId, Intern};
use crate::linktype::LinkType;
use crate::stats::Anomaly;

/// An interface of the section.
#[derive(Debug)]
pub(super) struct Described {
    /// As it is announced to clients.
    pub(super) interface: Interface,
    /// `None` if the table has no room for it.
    pub(super) id: Option<InterfaceId>,
    /// The snaplen of its description.
    pub(super) declared: u32,
    pub(super) scale: Scale,
    /// Packets that its statistics report as lost, so far.
    pub(super) upstream_drops: u64,
}

impl Described {
    /// Goes over, once, to an interface without limit: what is sent is never above its snaplen.
    pub(super) fn widen(&mut self, intern: &mut dyn Intern) {
        if self.interface.snaplen != 0 {
            self.interface.snaplen = 0;
            self.id = self.id.and_then(|_| intern.intern(self.interface.clone()));
        }
    }
}

/// Reads interface descriptions, and keeps what a stream may make us remember within bounds.
#[derive(Debug)]
pub(super) struct Description {
    /// Octets of options that interfaces yet to come may have.
    left: usize,
    /// The highest id so far: only interfaces above it are new.
    highest: Option<InterfaceId>,
}

impl Default for Description {
    fn default() -> Self {
        Description { left: MAX_OPTIONS_OF_STREAM, highest: None }
    }
}

/// What the options of a description say.
#[derive(Default)]
struct Said {
    name: Option<String>,
    tsresol: Option<u8>,
    tsoffset: Option<i64>,
    fcs_len: Option<u8>,
    others: Vec<u8>,
}

impl Description {
    /// Reads a whole interface description block.
    pub(super) fn read(
        &mut self,
        order: ByteOrder,
        block: &[u8],
        call: &mut Call<'_>,
    ) -> Result<Described, DecodeErrorKind> {
        let linktype = LinkType(order.u16_at(block, 8).unwrap_or_default());
        let declared = order.u32_at(block, 12).unwrap_or_default();
        let mut said = Said::default();
        let limit = MAX_OPTIONS.min(self.left);
        for option in Options::of(order, block, 16) {
            if !said.hear(option?, order, limit) {
                call.counts.anomalies.add(Anomaly::BadOption, 1);
            }
        }
        let tsresol = said.tsresol.unwrap_or(DEFAULT_TSRESOL);
        let scale = Scale::new(tsresol, said.tsoffset.unwrap_or(0));
        if !scale.is_usable() {
            call.counts.anomalies.add(Anomaly::BadResolution, 1);
        }
        let interface = Interface {
            source: call.options.source.clone(),
            name: name(call.options, said.name),
            linktype,
            snaplen: declared,
            resolution: Scale::resolution(tsresol),
            fcs_len: said.fcs_len,
            options: Bytes::from(said.others),
        };
        let id = call.intern.intern(interface.clone());
        if id > self.highest {
            let name = interface.name.as_ref().map_or(0, |name| name.len());
            self.left = self.left.saturating_sub(name + interface.options.len());
            self.highest = id;
        }
        Ok(Described { interface, id, declared, scale, upstream_drops: 0 })
    }
}

impl Said {
    /// Takes in an option; `false` if it could not be used, or was given before.
    fn hear(&mut self, option: Opt<'_>, order: ByteOrder, limit: usize) -> bool {
        match option.code {
            IF_NAME => first(&mut self.name, Some(text(option.value))),
            IF_TSRESOL => first(&mut self.tsresol, octet(option.value)),
            IF_FCSLEN => first(&mut self.fcs_len, octet(option.value)),
            IF_TSOFFSET => {
                let seconds = order.u64(option.value).map(u64::cast_signed);
                first(&mut self.tsoffset, seconds)
            }
            _ if option.is_private() => true,
            _ if self.others.len() + option.len() > limit => false,
            code => {
                option.append(&mut self.others, order, layout(code));
                true
            }
        }
    }
}

fn first<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let used = place.is_none() && value.is_some();
    if used {
        *place = value;
    }
    used
}

fn octet(value: &[u8]) -> Option<u8> {
    <[u8; 1]>::try_from(value).ok().map(|[octet]| octet)
}

/// A name, cut where it is absurdly long; some writers count the C string's NUL.
fn text(value: &[u8]) -> String {
    let value = value.get(..MAX_NAME).unwrap_or(value);
    let mut text = String::from_utf8_lossy(value).into_owned();
    // What is not UTF-8 becomes longer.
    while text.len() > MAX_NAME || text.ends_with('\0') {
        text.pop();
    }
    text
}

/// The name under which clients see an interface.
fn name(options: &DecoderOptions, own: Option<String>) -> Option<Arc<str>> {
    match (&options.name, own.filter(|own| !own.is_empty())) {
        (Some(given), Some(own)) => Some(format!("{given}/{own}").into()),
        (Some(given), None) => Some(given.clone()),
        (None, own) => own.map(Arc::from),
    }
}

fn layout(code: u16) -> Layout {
    match code {
        IF_SPEED | IF_TXSPEED | IF_RXSPEED => Layout::U64,
        IF_TZONE => Layout::U32,
        _ => Layout::Octets,
    }
}

/// Octets of a name that are kept; the longest real ones, Windows device paths, have 60.
const MAX_NAME: usize = 512;

/// Octets of the other options of an interface that are kept: the table never forgets them.
const MAX_OPTIONS: usize = 8 * 1024;

/// The same for all interfaces of a stream.
const MAX_OPTIONS_OF_STREAM: usize = 1024 * 1024;

const IF_NAME: u16 = 2;
const IF_SPEED: u16 = 8;
const IF_TSRESOL: u16 = 9;
const IF_TZONE: u16 = 10;
const IF_FCSLEN: u16 = 13;
const IF_TSOFFSET: u16 = 14;
const IF_TXSPEED: u16 = 16;
const IF_RXSPEED: u16 = 17;
