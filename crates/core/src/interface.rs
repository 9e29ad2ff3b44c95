//! What a packet was captured on, and the table that gives each interface the one id it has here.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::linktype::LinkType;
use crate::time::Resolution;

/// An interface's place in the [`InterfaceTable`]; ids are ours, never the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

/// What a linktype, snaplen and resolution belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface {
    /// The name of the source it came from.
    pub source: Arc<str>,
    /// The name the capture gave it (pcapng if_name); `None` where it gave none.
    pub name: Option<Arc<str>>,
    /// How its packets begin.
    pub linktype: LinkType,
    /// The most octets that were captured of a packet; 0 is no limit.
    pub snaplen: u32,
    /// The resolution its timestamps are written in.
    pub resolution: Resolution,
    /// Octets of frame check sequence at the end of each packet (pcapng if_fcslen), where known.
    pub fcs_len: Option<u8>,
    /// Its other pcapng options, encoded little-endian, each padded, without end-of-options;
    /// never if_name, if_tsresol, if_tsoffset or if_fcslen.
    pub options: Bytes,
}

impl Interface {
    /// The name under which clients see it: its own, else its source's.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.source)
    }

    /// What it holds in memory, about, with its places in the tables of the hub and of a feed.
    fn octets(&self) -> usize {
        let text = self.name.as_ref().map_or(0, |name| name.len()) + self.source.len() + self.options.len();
        // The text is there once more in the announcement.
        size_of::<Self>() + 160 + 2 * text
    }
}

/// Hands out interface ids. The hub's table implements it; decoders call it.
pub trait Intern {
    /// The id of an interface equal to this one, new if it was never seen; `None` if the table
    /// is full.
    fn intern(&mut self, interface: Interface) -> Option<InterfaceId>;
}

/// Every interface that was ever announced, each once: a producer that comes back finds its own.
#[derive(Debug)]
pub struct InterfaceTable {
    interfaces: Vec<Arc<Interface>>,
    ids: HashMap<Arc<Interface>, InterfaceId>,
    octets: usize,
    most: usize,
    /// How many each source has, and what those hold.
    shares: HashMap<Arc<str>, (usize, usize)>,
}

impl Default for InterfaceTable {
    fn default() -> Self {
        Self::new()
    }
}

/// Most interfaces of one hub. Sections have at most 4096; 16 sources of that size fit.
pub const MAX_INTERFACES: usize = 65_536;
/// One source has at most these parts of the interfaces and of their octets: one that makes interfaces
/// up must not leave others without. Two of its sections may have as many as a section can.
const COUNT_SHARES: usize = 8;
const OCTET_SHARES: usize = 4;
/// Most octets of names and options that the interfaces of one hub hold together: producers that
/// come with new ones each time must not fill the memory.
pub const MAX_OCTETS: usize = 16 << 20;

impl InterfaceTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::bounded(MAX_OCTETS)
    }

    /// An empty table whose interfaces hold at most `octets` together, [`MAX_OCTETS`] at most.
    pub fn bounded(octets: usize) -> Self {
        let most = octets.min(MAX_OCTETS);
        InterfaceTable {
            interfaces: Vec::new(),
            ids: HashMap::new(),
            octets: 0,
            most,
            shares: HashMap::new(),
        }
    }

    /// The interfaces, by id.
    pub fn interfaces(&self) -> &[Arc<Interface>] {
        &self.interfaces
    }

    /// The interface with this id.
    pub fn get(&self, id: InterfaceId) -> Option<&Arc<Interface>> {
        self.interfaces.get(id.0 as usize)
    }
}

impl Intern for InterfaceTable {
    fn intern(&mut self, interface: Interface) -> Option<InterfaceId> {
        if let Some(id) = self.ids.get(&interface) {
            return Some(*id);
        }
        let octets = interface.octets();
        let (count, held) = self.shares.get(&interface.source).copied().unwrap_or_default();
        let full = self.interfaces.len() >= MAX_INTERFACES || self.octets + octets > self.most;
        if full || count >= MAX_INTERFACES / COUNT_SHARES || held + octets > self.most / OCTET_SHARES {
            return None;
        }
        self.shares.insert(interface.source.clone(), (count + 1, held + octets));
        self.octets += octets;
        let id = InterfaceId(self.interfaces.len() as u32);
        let interface = Arc::new(interface);
        self.interfaces.push(interface.clone());
        self.ids.insert(interface, id);
        Some(id)
    }
}

/// The hub's one interface table, shared by its decoders, feeds and writers; clones are handles.
#[derive(Debug, Clone, Default)]
pub struct Interfaces {
    table: Arc<Mutex<InterfaceTable>>,
}

impl Interfaces {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table whose interfaces hold at most `octets` together.
    pub fn bounded(octets: usize) -> Self {
        Interfaces { table: Arc::new(Mutex::new(InterfaceTable::bounded(octets))) }
    }

    /// The interfaces with these ids, as far as there are any.
    pub fn range(&self, ids: Range<usize>) -> Vec<Arc<Interface>> {
        let table = self.lock();
        let end = ids.end.min(table.interfaces.len());
        table.interfaces.get(ids.start.min(end)..end).unwrap_or_default().to_vec()
    }

    /// How many interfaces there are; ids are below it.
    pub fn count(&self) -> usize {
        self.lock().interfaces.len()
    }

    /// Appends to `known`, which holds the first interfaces, those that came since.
    pub fn catch_up(&self, known: &mut Vec<Arc<Interface>>) {
        let table = self.lock();
        if let Some(new) = table.interfaces.get(known.len()..) {
            known.extend_from_slice(new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, InterfaceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intern for Interfaces {
    fn intern(&mut self, interface: Interface) -> Option<InterfaceId> {
        self.lock().intern(interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(number: usize, options: usize) -> Interface {
        Interface {
            source: "tap".into(),
            name: Some(format!("eth{number}").into()),
            linktype: LinkType::ETHERNET,
            snaplen: 0,
            resolution: Resolution::NANOS,
            fcs_len: None,
            options: Bytes::from(vec![0; options]),
        }
    }

    #[test]
    fn an_interface_that_comes_back_has_its_old_id() {
        let mut table = InterfaceTable::new();
        let first = table.intern(interface(1, 0));
        assert_ne!(table.intern(interface(2, 0)), first);
        assert_eq!(table.intern(interface(1, 0)), first);
        assert_eq!(table.interfaces().len(), 2);
    }

    #[test]
    fn ever_new_interfaces_meet_a_bound_in_octets() {
        let mut table = InterfaceTable::new();
        let of =
            |source: usize, n| Interface { source: format!("tap {source}").into(), ..interface(n, 8000) };
        let mut fill = |source| (0..10_000).take_while(|n| table.intern(of(source, *n)).is_some()).count();
        let taken: Vec<usize> = (0..20).map(&mut fill).collect();
        assert!(taken.iter().all(|n| *n <= taken[0]), "{taken:?}");
        assert!(taken[1] == taken[0], "one source leaves room for others");
        let all: usize = taken.iter().sum();
        assert!((500..2000).contains(&all), "{taken:?}");
        assert!(table.intern(of(0, 0)).is_some(), "a known one is still found");
    }
}
