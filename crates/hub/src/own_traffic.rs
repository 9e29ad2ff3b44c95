//! Every local endpoint of this process, and the live captures that keep their traffic out.
//!
//! What the hub sends must not come in again: on the link where its clients sit, each packet would
//! beget another. An endpoint is entered before it carries anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pcaphub_sys::PacketSocket;

use crate::event::{Event, Events};
use crate::exclusion::Exclusion;

/// The endpoints and the captures; clones share them.
#[derive(Debug, Clone, Default)]
pub struct OwnTraffic {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    next: u64,
    endpoints: BTreeMap<u64, SocketAddr>,
    captures: BTreeMap<u64, Capture>,
    /// What the machine's interfaces have, as far as is known.
    local: Vec<IpAddr>,
    /// What none of them has, and yet was connected to: routes of the kind `local` make whole networks so.
    accepted: Vec<IpAddr>,
    events: Option<Events>,
}

#[derive(Debug)]
struct Capture {
    name: Arc<str>,
    socket: PacketSocket,
    exclusion: Exclusion,
}

/// An endpoint, or a capture, for as long as it is there.
#[derive(Debug)]
#[must_use = "its traffic is kept out as long as this lives"]
pub struct Entry {
    shared: Arc<Mutex<Shared>>,
    id: u64,
}

/// The filter of a live capture, whose text may change while it runs. The kernel runs it where it can,
/// before anything is copied; what passes there is filtered here again.
#[derive(Debug, Clone)]
pub struct CaptureFilter {
    own_traffic: OwnTraffic,
    name: Arc<str>,
    text: Arc<Mutex<Option<String>>>,
}

impl CaptureFilter {
    /// That of the captures of this name.
    pub fn new(own_traffic: OwnTraffic, name: Arc<str>, text: Option<String>) -> Self {
        CaptureFilter { own_traffic, name, text: Arc::new(Mutex::new(text)) }
    }

    /// Its text now.
    pub fn text(&self) -> Option<String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it. What is captured already goes on, without a filter in the kernel, until the interface is
    /// captured again.
    pub fn set(&self, text: Option<String>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
        let mut shared = self.own_traffic.lock();
        for capture in shared.captures.values_mut().filter(|capture| capture.name == self.name) {
            capture.exclusion.filter.clear();
        }
        shared.renew();
    }
}

impl OwnTraffic {
    /// Nothing yet. `events` hears of captures that cannot keep everything out.
    pub fn new(events: Events) -> Self {
        let shared = Shared { events: Some(events), ..Shared::default() };
        OwnTraffic { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Keeps the traffic of a bound socket out of every capture, from before this returns. An
    /// unspecified address stands for all that this machine has.
    pub fn exclude(&self, endpoint: SocketAddr) -> Entry {
        let mut shared = self.lock();
        let id = shared.enter();
        shared.endpoints.insert(id, endpoint);
        if !shared.captures.is_empty() {
            shared.look_up_local();
            shared.renew();
        }
        drop(shared);
        Entry { shared: self.shared.clone(), id }
    }

    /// Keeps the traffic of all endpoints, those to come included, out of a capture that lets nothing through
    /// yet.
    ///
    /// # Errors
    /// A program that the kernel refuses.
    pub fn keep_out_of(
        &self,
        name: Arc<str>,
        socket: PacketSocket,
        exclusion: Exclusion,
    ) -> std::io::Result<Entry> {
        let mut shared = self.lock();
        shared.look_up_local();
        let capture = Capture { name, socket, exclusion };
        shared.apply(&capture)?;
        let id = shared.enter();
        shared.captures.insert(id, capture);
        drop(shared);
        Ok(Entry { shared: self.shared.clone(), id })
    }

    /// A connection was accepted at this address: if the machine has it only since a moment ago, or no
    /// interface has it, it is learnt now, before anything is sent.
    pub fn accepted_at(&self, address: IpAddr) {
        let address = address.to_canonical();
        let mut shared = self.lock();
        if shared.knows(address) {
            return;
        }
        shared.look_up_local();
        if !shared.knows(address) {
            if shared.accepted.len() == MAX_ACCEPTED {
                return shared.tell(TOO_MANY_ACCEPTED);
            }
            shared.accepted.push(address);
        }
        shared.renew();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn enter(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn look_up_local(&mut self) {
        if let Ok(local) = pcaphub_sys::local_addresses() {
            self.local = local;
        }
    }

    fn knows(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.local.contains(&address) || self.accepted.contains(&address)
    }

    /// Says of all captures that they take in what they should not.
    fn tell(&self, why: &'static str) {
        for (capture, events) in self.captures.values().zip(self.events.iter().cycle()) {
            events.emit(Event::OwnTrafficCaptured { source: &capture.name, why: &why });
        }
    }

    fn renew(&self) {
        for capture in self.captures.values() {
            if let (Err(why), Some(events)) = (self.apply(capture), &self.events) {
                events.emit(Event::OwnTrafficCaptured { source: &capture.name, why: &why });
            }
        }
    }

    fn apply(&self, capture: &Capture) -> std::io::Result<()> {
        let endpoints: Vec<_> = self.endpoints.values().copied().collect();
        let local = [self.local.as_slice(), &self.accepted].concat();
        let program = capture.exclusion.program(&endpoints, &local);
        // Without the source's filter it may fit: that runs here as well.
        let alone = Exclusion { filter: Vec::new(), ..capture.exclusion.clone() };
        let program = program.or_else(|_| alone.program(&endpoints, &local));
        let program = program.map_err(|_| std::io::Error::other("there are too many sockets"))?;
        capture.socket.set_filter(&program)
    }
}

impl Entry {
    /// A capture takes no packet any more, whatever is entered or taken out from now on.
    ///
    /// # Errors
    /// Of the system.
    pub fn close(&self) -> std::io::Result<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.captures.remove(&self.id).map_or(Ok(()), |capture| capture.socket.close())
    }

    /// A socket that was bound to no address, and is connected now, has got one: other addresses of this
    /// machine are not ours any more.
    pub fn narrow(&self, endpoint: SocketAddr) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.endpoints.get_mut(&self.id)
            && std::mem::replace(known, endpoint) != endpoint
        {
            shared.renew();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.captures.remove(&self.id);
        if shared.endpoints.remove(&self.id).is_some() {
            // The socket is closed just before or after this: its last packets are worth no care.
            shared.renew();
        }
    }
}

/// Addresses that no interface has: each is compared with in every packet of our ports, and of IPv6 so many
/// take more than half of a program.
const MAX_ACCEPTED: usize = 128;
const TOO_MANY_ACCEPTED: &str =
    "clients connect to more addresses that no interface has than can be told apart";

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;

    use pcaphub_sys::{Device, Layer};

    use super::*;
    use crate::exclusion::Beginning;

    #[test]
    fn addresses_that_no_interface_has_are_learnt_from_connections_up_to_a_limit() {
        let own_traffic = OwnTraffic::default();
        for last in 0..=255 {
            own_traffic.accepted_at([192, 0, 2, last].into());
            own_traffic.accepted_at(std::net::Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped().into());
        }
        own_traffic.accepted_at([127, 0, 0, 9].into());
        assert_eq!(own_traffic.lock().accepted.len(), MAX_ACCEPTED);
        let v6: Vec<IpAddr> =
            (0..MAX_ACCEPTED as u16).map(|n| [0xfd00, 0, 0, 0, 0, 0, 0, n].into()).collect();
        let exclusion =
            Exclusion { beginning: Beginning::Any, loopback: Some(1), snaplen: 65_535, filter: Vec::new() };
        assert!(exclusion.program(&["[::]:57012".parse().unwrap()], &v6).is_ok());
    }

    #[test]
    fn a_closed_capture_takes_nothing_whatever_endpoints_come_and_go() {
        let socket = match PacketSocket::new(Layer::Whole) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return eprintln!("SKIPPED: capturing needs CAP_NET_RAW");
            }
            socket => socket.unwrap(),
        };
        let device = Device::find("lo").unwrap().unwrap();
        socket.close().unwrap();
        socket.bind(Some(device.index)).unwrap();
        let exclusion = Exclusion {
            beginning: Beginning::Ethernet,
            loopback: Some(device.index),
            snaplen: 65_535,
            filter: Vec::new(),
        };
        let own_traffic = OwnTraffic::default();
        let capture = own_traffic.keep_out_of("lo".into(), socket.clone(), exclusion).unwrap();
        let [from, to] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        // On loopback a datagram has passed the capture when it can be received.
        let passed = || {
            from.send_to(b"x", to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 1]).unwrap();
            socket.statistics().unwrap().packets
        };
        assert_ne!(passed(), 0);
        capture.close().unwrap();
        // What others sent until then.
        socket.statistics().unwrap();
        let endpoint = own_traffic.exclude(([127, 0, 0, 1], 9).into());
        assert_eq!(passed(), 0);
        drop(endpoint);
        assert_eq!(passed(), 0);
    }
}
