//! What is said of packets that a sink drops for their linktype: of which, why, and what carries them.

use std::fmt;

use pcaphub_core::convert;
use pcaphub_core::linktype::LinkType;

/// Where packets go that have one linktype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// A stream or file of pcap.
    Stream,
    /// A network interface, which takes Ethernet.
    Interface,
}

/// Packets of a linktype came that is not the one of where they go.
#[derive(Debug, Clone, Copy)]
pub struct Mismatch {
    /// Where they go.
    pub onto: Onto,
    /// Its linktype, if it has one already.
    pub has: Option<LinkType>,
    /// Theirs.
    pub other: LinkType,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { onto, has, other } = self;
        if *has == Some(LinkType::ETHERNET) && convert::is_convertible(*other) {
            write!(
                f,
                "some packets of {other} cannot become Ethernet and are dropped: their header is cut short or wrong, \
                 or they carry what Ethernet does not; the others are sent. "
            )?;
            return f.write_str(match onto {
                Onto::Stream => "--format pcapng carries all, as they are",
                Onto::Interface => "A file or listener of pcapng (--format pcapng) carries all, as they are",
            });
        }
        match (onto, has) {
            (Onto::Interface, _) => write!(
                f,
                "packets of {other} cannot be sent on an interface and are dropped: it takes Ethernet, which they \
                 cannot become. A file or listener of pcapng (--format pcapng) carries them"
            ),
            (Onto::Stream, Some(has)) => write!(
                f,
                "packets of {other} cannot be in a pcap stream of {has} and are dropped; --format pcapng carries both"
            ),
            (Onto::Stream, None) => {
                write!(
                    f,
                    "packets of {other} cannot be in this pcap stream and are dropped; --format pcapng carries them"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRELESS: LinkType = LinkType(105);

    fn said(onto: Onto, has: LinkType, other: LinkType) -> String {
        Mismatch { onto, has: Some(has), other }.to_string()
    }

    #[test]
    fn of_a_linktype_that_can_become_ethernet_only_some_packets_are_dropped() {
        for onto in [Onto::Stream, Onto::Interface] {
            let said = said(onto, LinkType::ETHERNET, LinkType::SLL);
            assert!(
                said.starts_with("some packets of LINUX_SLL (linktype 113) cannot become Ethernet"),
                "{said}"
            );
            assert!(said.contains("the others are sent") && said.contains("--format pcapng"), "{said}");
        }
    }

    #[test]
    fn an_interface_is_no_pcap_stream_and_another_format_does_not_help_there() {
        let said = said(Onto::Interface, LinkType::ETHERNET, WIRELESS);
        assert!(
            said.starts_with("packets of IEEE802_11 (linktype 105) cannot be sent on an interface"),
            "{said}"
        );
        assert!(
            !said.contains("stream of Ethernet") && said.contains("A file or listener of pcapng"),
            "{said}"
        );
    }

    #[test]
    fn a_pcap_stream_has_one_linktype_and_pcapng_carries_all() {
        for (has, other) in [(LinkType::ETHERNET, WIRELESS), (LinkType::RAW, LinkType::SLL)] {
            let said = said(Onto::Stream, has, other);
            assert!(
                said.starts_with(&format!("packets of {other} cannot be in a pcap stream of {has}")),
                "{said}"
            );
            assert!(said.ends_with("--format pcapng carries both"), "{said}");
        }
    }
}
