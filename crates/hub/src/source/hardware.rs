//! What of a packet is captured, by the hardware type of its interface.

use pcaphub_core::linktype::LinkType;
use pcaphub_sys::Layer;

use crate::interfaces::linktype_of;

/// The linktype of an interface's packets by its hardware type (ARPHRD_ of linux/if_arp.h), and what of
/// them is captured for it. `None` is all interfaces at once.
pub(super) fn begins_with(hardware_type: Option<u16>) -> (LinkType, Layer) {
    match hardware_type.and_then(linktype_of) {
        // IP packets, behind whatever there is.
        Some(LinkType::RAW) => (LinkType::RAW, Layer::Cut),
        Some(linktype) => (linktype, Layer::Whole),
        // Their own headers are taken off here: behind one, the kernel hides VLAN tags.
        None => (LinkType::SLL2, Layer::Whole),
    }
}
