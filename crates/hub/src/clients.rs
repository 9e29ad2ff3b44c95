//! Clients counted: each has a place while it is connected, and no more have one than the limits allow.
//!
//! A listener admits a peer here before it serves it. One that closed its sending side may be gone
//! without a sign; where somebody else has no place, the one that did so longest ago has to go.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::limits::Limits;

/// Counts the clients of all listeners, or the producers of one.
#[derive(Debug, Clone)]
pub struct Clients {
    most: usize,
    most_of_address: usize,
    doubtful: Arc<Mutex<Doubtful>>,
    freed: Arc<Notify>,
    counts: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

/// Clients who closed their sending side, the longest ago first: most of them only did that, and some
/// are gone, which shows only when there is something to send to them.
#[derive(Debug, Default)]
struct Doubtful {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Clients {
    /// No client yet.
    pub fn new(limits: &Limits) -> Self {
        Clients::at_most(limits.max_clients, limits.max_clients_per_address)
    }

    /// No producer yet. How many there are in all is not this type's affair: of them, a silent one
    /// makes room for another.
    pub fn producers(limits: &Limits) -> Self {
        Clients::at_most(usize::MAX, limits.max_producers_per_address)
    }

    fn at_most(most: usize, most_of_address: usize) -> Self {
        Clients {
            most,
            most_of_address,
            doubtful: Arc::default(),
            freed: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// A place for a client of this address (`None` for a Unix peer).
    ///
    /// # Errors
    /// Which limit it met.
    pub fn admit(&self, address: Option<IpAddr>) -> Result<Place, Full> {
        let address = address.map(|a| a.to_canonical()).filter(|a| !a.is_loopback());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= self.most {
            return Err(Full::All);
        }
        if address.is_some() && counts.get(&address).is_some_and(|n| *n >= self.most_of_address) {
            return Err(Full::Address);
        }
        *counts.entry(address).or_default() += 1;
        Ok(Place { address, clients: self.clone() })
    }

    /// The client closed its sending side.
    pub fn doubt(&self) -> Doubt {
        let told = Arc::new(Notify::new());
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let number = doubtful.next;
        doubtful.next += 1;
        doubtful.waiting.insert(number, told.clone());
        Doubt { number, told, clients: self.clone() }
    }

    /// [Makes room](Self::make_room) and waits until there is; whether there is.
    pub async fn free_a_place(&self) -> bool {
        let freed = self.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable();
        // Its task has nothing to do but to end.
        self.make_room() && tokio::time::timeout(Duration::from_secs(1), freed).await.is_ok()
    }

    /// Somebody has no place, or no descriptor: the client that closed its sending side longest ago
    /// has to go. Whether there is one.
    pub fn make_room(&self) -> bool {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.waiting.pop_first().map(|(_, told)| told.notify_one()).is_some()
    }
}

/// Which limit leaves no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all together.
    All,
    /// That of one address.
    Address,
}

impl Full {
    /// For people, where it is about clients.
    pub const fn of_clients(self) -> &'static str {
        match self {
            Full::All => "there are as many clients as --max-clients allows",
            Full::Address => "its address has as many clients as --max-clients-per-address allows",
        }
    }
}

/// A client's place among the counted; dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    address: Option<IpAddr>,
    clients: Clients,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
        drop(counts);
        self.clients.freed.notify_waiters();
    }
}

/// A client's entry among the doubtful; dropping it takes it out.
#[derive(Debug)]
pub struct Doubt {
    number: u64,
    told: Arc<Notify>,
    clients: Clients,
}

impl Doubt {
    /// Returns when it has to go.
    pub async fn until_told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        let mut doubtful = self.clients.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_limit_and_loopback_has_none() {
        let clients =
            Clients::new(&Limits { max_clients: 4, max_clients_per_address: 1, ..Limits::default() });
        let remote = Some("192.0.2.1".parse().unwrap());
        let place = clients.admit(remote).unwrap();
        assert_eq!(clients.admit(remote).unwrap_err(), Full::Address);
        assert!(Full::Address.of_clients().contains("--max-clients-per-address"));
        let local = Some("127.0.0.1".parse().unwrap());
        let _local: Vec<_> = (0..3).map(|_| clients.admit(local).unwrap()).collect();
        assert_eq!(clients.admit(None).unwrap_err(), Full::All);
        assert!(Full::All.of_clients().contains("--max-clients allows"));
        drop(place);
        assert!(clients.admit(remote).is_ok());
    }
}
