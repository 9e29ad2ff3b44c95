//! Filters over whole batches: each distinct one is run once for a packet, however many read the
//! result.

use std::sync::Arc;

use super::compile::CompileError;
use super::expression::Filter;
use super::program::Program;
use super::set::Filters;
use crate::batch::Batch;
use crate::interface::{Interface, Interfaces};
use crate::linktype::LinkType;
use crate::packet::Packet;

/// Runs some filters over batches of one stream.
#[derive(Debug)]
pub struct Marker {
    filters: Filters,
    numbers: Arc<[u32]>,
    interfaces: Interfaces,
    known: Vec<Arc<Interface>>,
    /// The programs of each linktype that was met, in the filters' order.
    programs: Vec<(LinkType, Programs)>,
    errors: Vec<Unfit>,
}

/// A filter that cannot be run for packets of a linktype, and why.
#[derive(Debug, Clone)]
pub struct Unfit {
    /// Which one, and whose.
    pub filter: Filter,
    /// Why.
    pub why: Arc<CompileError>,
}

/// `None` where the filter means nothing for the linktype: no packet matches.
type Programs = Box<[Option<Arc<Program>>]>;

/// Filters whose results one word holds.
const WORD: usize = 64;

impl Marker {
    /// `interfaces` is the hub's table, which knows the packets' linktypes.
    pub fn new(filters: Filters, interfaces: Interfaces) -> Self {
        let numbers = filters.numbers();
        Marker { filters, numbers, interfaces, known: Vec::new(), programs: Vec::new(), errors: Vec::new() }
    }

    /// A filter that cannot be run for a linktype that was met; each is told once, by one of all the markers
    /// that run it.
    pub fn take_error(&mut self) -> Option<Unfit> {
        self.errors.pop()
    }

    /// Writes into a batch which of its packets match which filters. Nothing may be taken out of it
    /// afterwards.
    pub fn mark(&mut self, batch: &mut Batch) {
        if self.filters.is_empty() {
            return;
        }
        let words = self.filters.len().div_ceil(WORD);
        let mut marks = vec![0; words * batch.packets.len()];
        for (packet, marks) in batch.packets.iter().zip(marks.chunks_exact_mut(words)) {
            let octets = batch.octets(packet);
            for (index, program) in self.programs_of(packet, octets).iter().enumerate() {
                let matches = program.as_ref().is_some_and(|program| program.run(octets, packet.origlen) > 0);
                if let Some(word) = marks.get_mut(index / WORD) {
                    *word |= u64::from(matches) << (index % WORD);
                }
            }
        }
        batch.marks = marks;
        batch.marked_by = Some(self.numbers.clone());
    }

    /// Keeps of a batch the packets that match the first filter; how many others there were.
    pub fn keep(&mut self, batch: &mut Batch) -> u64 {
        let buffer = batch.buffer.clone();
        batch.retain(|packet| {
            let start = packet.offset as usize;
            let octets = buffer.get(start..start + packet.caplen as usize).unwrap_or_default();
            let program = self.programs_of(packet, octets).first();
            program.and_then(Option::as_ref).is_some_and(|program| program.run(octets, packet.origlen) > 0)
        })
    }

    fn programs_of(&mut self, packet: &Packet, octets: &[u8]) -> &[Option<Arc<Program>>] {
        let id = packet.interface.0 as usize;
        if id >= self.known.len() {
            self.interfaces.catch_up(&mut self.known);
        }
        let Some(interface) = self.known.get(id) else { return &[] };
        let linktype = meant(interface.linktype, octets);
        // Nearly always there is one.
        let known = self.programs.iter().position(|(known, _)| *known == linktype);
        let index = known.unwrap_or_else(|| self.meet(linktype));
        self.programs.get(index).map_or(&[], |(_, programs)| programs)
    }

    fn meet(&mut self, linktype: LinkType) -> usize {
        let Marker { filters, errors, .. } = self;
        let compile = |filter: &Filter| {
            let refused = |why| {
                if filter.first_tells(linktype) {
                    errors.push(Unfit { filter: filter.clone(), why });
                }
            };
            filter.program(linktype).map_err(refused).ok()
        };
        let programs = filters.iter().map(compile).collect();
        self.programs.push((linktype, programs));
        self.programs.len() - 1
    }
}

/// The linktype that a packet is filtered as. NULL begins with a number in the order of octets of the machine
/// that captured; with the highest octet first it is a packet of LOOP.
fn meant(linktype: LinkType, octets: &[u8]) -> LinkType {
    match (linktype, octets) {
        (LinkType::NULL, [0, 0, ..]) => LinkType::LOOP,
        _ => linktype,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Compile, Instruction, code};
    use super::*;
    use crate::interface::{InterfaceId, Intern};
    use crate::time::{Resolution, Timestamp};

    /// Makes programs that accept packets whose first octet is the number that is the text, for Ethernet.
    struct FirstOctet;

    impl Compile for FirstOctet {
        fn compile(&self, text: &str, linktype: LinkType, _: u32) -> Result<Program, CompileError> {
            if linktype != LinkType::ETHERNET {
                return Err(CompileError::UnknownLinkType(linktype));
            }
            Ok(Program::new(vec![
                Instruction::new(code::LOAD_BYTE, 0),
                Instruction::test(code::EQUAL, text.parse().unwrap_or(0), 0, 1),
                Instruction::new(code::RETURN, 1),
                Instruction::new(code::RETURN, 0),
            ])?)
        }
    }

    fn marker(texts: &[String]) -> (Marker, Vec<InterfaceId>) {
        let mut interfaces = Interfaces::new();
        let mut intern = |linktype| {
            let interface = Interface {
                source: "tap".into(),
                name: None,
                linktype,
                snaplen: 0,
                resolution: Resolution::NANOS,
                fcs_len: None,
                options: Bytes::new(),
            };
            interfaces.intern(interface)
        };
        let ids = [intern(LinkType::ETHERNET), intern(LinkType::RAW)].into_iter().flatten().collect();
        let filters =
            texts.iter().filter_map(|text| Filter::new(text.as_str(), 0, Arc::new(FirstOctet)).ok());
        let filters = filters.map(|filter| filter.of("sink one"));
        (Marker::new(filters.collect(), interfaces), ids)
    }

    fn batch(interface: InterfaceId) -> Batch {
        let packet = |n: u32| Packet {
            timestamp: Timestamp::ZERO,
            interface,
            caplen: 1,
            origlen: 1,
            offset: n,
            options_offset: 0,
            options_len: 0,
        };
        Batch { buffer: (0..100).collect(), packets: (0..100).map(packet).collect(), ..Batch::default() }
    }

    #[test]
    fn each_packet_knows_the_filters_that_it_matches() {
        let texts: Vec<String> = (0..70).map(|n| n.to_string()).collect();
        let (mut marker, ids) = marker(&texts);
        let mut batch = batch(ids[0]);
        marker.mark(&mut batch);
        for filter in 0..70 {
            let number = marker.filters.number(&filter.to_string()).unwrap();
            let mark = batch.mark_of(number).unwrap();
            for packet in 0..100 {
                assert_eq!(batch.is_marked(packet, mark), packet == filter, "{packet} {filter}");
            }
        }
        assert_eq!(batch.mark_of(1000), None);
        assert!(marker.take_error().is_none());
    }

    #[test]
    fn of_a_linktype_for_which_a_filter_means_nothing_no_packet_matches_and_that_is_told_once() {
        let (mut marker, ids) = marker(&["3".to_owned()]);
        let mut batch = batch(ids[1]);
        marker.mark(&mut batch);
        assert!((0..100).all(|packet| !batch.is_marked(packet, 0)));
        let unfit = marker.take_error().unwrap();
        assert_eq!((unfit.filter.text(), unfit.filter.whose()), ("3", "sink one"));
        assert_eq!(*unfit.why, CompileError::UnknownLinkType(LinkType::RAW));
        marker.mark(&mut batch);
        assert!(marker.take_error().is_none());
        // Of another stream, or for another client.
        let mut other = Marker::new(marker.filters.clone(), marker.interfaces.clone());
        other.mark(&mut batch);
        assert!(other.take_error().is_none());
    }

    #[test]
    fn a_filter_keeps_its_number_while_others_come_and_go() {
        let set = |texts: &[&str], before: &Filters| {
            before.renewed(texts.iter().filter_map(|text| Filter::new(*text, 0, Arc::new(FirstOctet)).ok()))
        };
        let first = set(&["1", "2"], &Filters::default());
        let second = set(&["3", "2", "3"], &first);
        assert_eq!(second.len(), 2);
        assert_eq!(second.number("2"), first.number("2"));
        assert_eq!(second.number("1"), None);
        let third = set(&["1"], &second);
        let known: Vec<_> = first.numbers().iter().chain(&*second.numbers()).copied().collect();
        assert!(!known.contains(&third.number("1").unwrap()), "a number is not given twice");
    }

    #[test]
    fn what_does_not_match_can_be_left_out() {
        let (mut marker, ids) = marker(&["3".to_owned()]);
        let mut batch = batch(ids[0]);
        assert_eq!(marker.keep(&mut batch), 99);
        assert_eq!(batch.packets[0].offset, 3);
    }
}
