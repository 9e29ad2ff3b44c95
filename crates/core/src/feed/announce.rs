//! Announcements of interfaces, encoded once for all subscribers: one that does not read them costs
//! next to nothing, however many there are.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::encoding::Format;
use crate::interface::{Interface, InterfaceId, Interfaces};

/// Interfaces whose announcements are one piece.
const GROUP: usize = 16;

/// The announcements of a hub's interfaces; clones share them.
#[derive(Debug, Clone)]
pub struct Announcements {
    interfaces: Interfaces,
    /// pcapng announcements of whole groups, as far as they were asked for.
    groups: Arc<Mutex<Vec<Bytes>>>,
}

impl Announcements {
    /// Those of the hub's table.
    pub fn new(interfaces: Interfaces) -> Self {
        Announcements { interfaces, groups: Arc::default() }
    }

    /// The interface with this id.
    pub fn interface(&self, id: InterfaceId) -> Option<Arc<Interface>> {
        self.interfaces.range(id.0 as usize..id.0 as usize + 1).pop()
    }

    /// How many interfaces there are.
    pub fn count(&self) -> usize {
        self.interfaces.count()
    }

    /// What announces the interfaces with these ids, as far as there are any, in `format`; and the id
    /// behind the last of them. Nothing in pcap, whose streams have one.
    pub fn of(&self, format: Format, ids: Range<usize>) -> (Vec<Bytes>, usize) {
        let end = ids.end.min(self.interfaces.count());
        if format != Format::PcapNg {
            return (Vec::new(), end);
        }
        let (mut at, mut pieces) = (ids.start, Vec::new());
        while at < end {
            let next = end.min((at / GROUP + 1) * GROUP);
            let whole = next - at == GROUP;
            pieces.push(if whole { self.group(at / GROUP) } else { self.encode(at..next) });
            at = next;
        }
        (pieces, end)
    }

    fn encode(&self, ids: Range<usize>) -> Bytes {
        let interfaces = self.interfaces.range(ids);
        let octets: Vec<u8> = interfaces.iter().flat_map(|one| Format::PcapNg.interface(one)).collect();
        octets.into()
    }

    /// The announcements of a whole group.
    fn group(&self, number: usize) -> Bytes {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        while groups.len() <= number {
            let first = groups.len() * GROUP;
            groups.push(self.encode(first..first + GROUP));
        }
        groups.get(number).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::Intern;
    use crate::linktype::LinkType;
    use crate::time::Resolution;

    #[test]
    fn announcements_asked_for_in_any_pieces_are_those_of_all_in_order() {
        let mut interfaces = Interfaces::new();
        let announcements = Announcements::new(interfaces.clone());
        let mut all = Vec::new();
        for number in 0..50 {
            let interface = Interface {
                source: "tap".into(),
                name: Some(format!("eth{number}").into()),
                linktype: LinkType::ETHERNET,
                snaplen: 0,
                resolution: Resolution::NANOS,
                fcs_len: None,
                options: Bytes::new(),
            };
            all.push(Format::PcapNg.interface(&interface));
            interfaces.intern(interface);
        }
        for cut in 0..=50 {
            let (mut pieces, middle) = announcements.of(Format::PcapNg, 0..cut);
            let (rest, end) = announcements.of(Format::PcapNg, middle..99);
            pieces.extend(rest);
            assert_eq!((middle, end), (cut, 50));
            assert_eq!(pieces.concat(), all.concat(), "cut at {cut}");
        }
        assert_eq!(announcements.of(Format::Pcap, 0..99), (Vec::new(), 50));
    }
}
