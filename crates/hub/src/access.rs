//! Who may connect: networks allowed and denied, as the plan says now.
//!
//! Listeners ask before they admit a peer, and are told when one that is connected may no longer be.

use std::net::IpAddr;

use ipnet::IpNet;
use tokio::sync::watch;

/// Which addresses may connect to a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `None`: nothing was said, which is only accepted on loopback.
    pub allow: Option<Vec<IpNet>>,
    /// Takes precedence.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Why a peer of this address may not connect; `None` if it may. IPv4 inside IPv6 counts as IPv4.
    pub fn refuses(&self, peer: IpAddr) -> Option<&'static str> {
        let peer = peer.to_canonical();
        let holds = |network: &IpNet| network.contains(&peer);
        if self.deny.iter().any(holds) {
            return Some("its address is in deny=");
        }
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.iter().any(holds));
        (!allowed).then_some("its address is not in allow=")
    }
}

/// Who may connect to a listener, which may change while it is there. Clones share it.
#[derive(Debug, Clone)]
pub struct LiveAccess {
    access: watch::Sender<Access>,
}

impl LiveAccess {
    /// These may.
    pub fn new(access: Access) -> Self {
        LiveAccess { access: watch::Sender::new(access) }
    }

    /// Why a peer of this address may not connect now; `None` if it may.
    pub fn refuses(&self, peer: IpAddr) -> Option<&'static str> {
        self.access.borrow().refuses(peer)
    }

    /// From now on, these may; whoever is connected and may not any more is told by
    /// [`revoked`](Self::revoked).
    pub fn set(&self, access: Access) {
        self.access.send_if_modified(|now| {
            let changed = *now != access;
            *now = access;
            changed
        });
    }

    /// Returns once a peer of this address may no longer be connected, with the reason.
    pub async fn revoked(&self, peer: IpAddr) -> &'static str {
        let mut access = self.access.subscribe();
        loop {
            let refused = access.borrow_and_update().refuses(peer);
            if let Some(why) = refused {
                return why;
            }
            // `self` holds the sender; an error cannot occur.
            if access.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_networks_win_and_mapped_addresses_count_as_ipv4() {
        let access = Access {
            allow: Some(vec!["10.0.0.0/8".parse().unwrap()]),
            deny: vec!["10.9.0.0/16".parse().unwrap()],
        };
        assert_eq!(access.refuses("10.1.1.1".parse().unwrap()), None);
        assert_eq!(access.refuses("::ffff:10.1.1.1".parse().unwrap()), None);
        assert_eq!(access.refuses("10.9.1.1".parse().unwrap()), Some("its address is in deny="));
        assert_eq!(access.refuses("11.1.1.1".parse().unwrap()), Some("its address is not in allow="));
    }
}
