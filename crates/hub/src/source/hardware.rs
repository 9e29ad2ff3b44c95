//! How packets of a network interface begin, by its hardware type.

use pcaphub_core::linktype::LinkType;
use pcaphub_sys::Layer;

/// The linktype of an interface's packets by its hardware type (ARPHRD_ of linux/if_arp.h), and
/// what of a packet is captured for it. `None` is all interfaces at once; these, and what has no linktype
/// of its own, are cooked.
pub fn begins_with(hardware_type: Option<u16>) -> (LinkType, Layer) {
    match hardware_type {
        // ETHER, LOOPBACK
        Some(1 | 772) => (LinkType::ETHERNET, Layer::Whole),
        // IEEE80211_RADIOTAP
        Some(803) => (LinkType(127), Layer::Whole),
        // PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE: IP packets behind whatever there is.
        Some(512 | 519 | 768 | 769 | 776 | 778 | 823 | 65_534) => (LinkType::RAW, Layer::Cut),
        _ => (LinkType::SLL2, Layer::Cut),
    }
}
