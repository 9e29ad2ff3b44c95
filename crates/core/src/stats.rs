//! Why packets are lost, what was odd about them, and counts of both that close.

use std::fmt;

macro_rules! counted {
    ($(#[$doc:meta])* $kind:ident, $counts:ident, { $($(#[$vdoc:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $($(#[$vdoc])* $variant,)* }

        impl $kind {
            /// Every kind, in the order in which they are shown.
            pub const ALL: &'static [$kind] = &[$($kind::$variant,)*];

            /// The name of its counter: lower case, `_` between words.
            pub const fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)* }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        #[doc = concat!("One count per [`", stringify!($kind), "`]; adding saturates.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $counts([u64; $kind::ALL.len()]);

        impl $counts {
            /// Adds `n` to the count of `kind`.
            pub const fn add(&mut self, kind: $kind, n: u64) {
                let i = kind as usize;
                self.0[i] = self.0[i].saturating_add(n);
            }

            /// The count of `kind`.
            pub const fn of(&self, kind: $kind) -> u64 {
                self.0[kind as usize]
            }

            /// All counts together.
            pub fn total(&self) -> u64 {
                self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
            }

            /// Adds every count of `other`.
            pub fn merge(&mut self, other: &Self) {
                for kind in $kind::ALL {
                    self.add(*kind, other.of(*kind));
                }
            }

            /// What was counted since `earlier`, an older copy of the same counts.
            pub fn since(&self, earlier: &Self) -> Self {
                let mut counts = *self;
                for (now, then) in counts.0.iter_mut().zip(earlier.0) {
                    *now = now.saturating_sub(then);
                }
                counts
            }

            /// The kinds that occurred, with their counts.
            pub fn nonzero(&self) -> impl Iterator<Item = ($kind, u64)> + '_ {
                $kind::ALL.iter().map(|kind| (*kind, self.of(*kind))).filter(|(_, n)| *n > 0)
            }
        }
    };
}

counted! {
    /// Why a packet was not delivered. Every lost packet has exactly one.
    DropReason, DropCounts, {
        /// The subscriber was too slow and the ring had to make room.
        Lag => "lag",
        /// The subscriber left, or the hub ended, with packets still queued for it.
        Closed => "closed",
        /// The packet's linktype is not the one this pcap stream has.
        LinkTypeMismatch => "linktype_mismatch",
        /// An empty packet, at which clients of a pcap stream would stop.
        EmptyPacket => "empty_packet",
        /// Larger than any reader accepts.
        OversizePacket => "oversize_packet",
        /// Its time cannot be expressed.
        Timestamp => "timestamp",
        /// The file system had no room for it.
        SinkFull => "sink_full",
        /// The kernel had no room for it in the ring of a live capture.
        Kernel => "kernel",
        /// Larger than the interface takes that it was to be sent on.
        OverMtu => "over_mtu",
        /// Shorter than an Ethernet header: no interface sends it.
        TooShort => "too_short",
        /// It came back to us: hubs dial each other in a circle.
        Circle => "circle",
        /// The same octets came from another source just before.
        Duplicate => "duplicate",
        /// Its interface was one more than the hub keeps.
        InterfaceLimit => "interface_limit",
    }
}

counted! {
    /// What was odd about a packet or stream that was nevertheless forwarded, made sane.
    Anomaly, AnomalyCounts, {
        /// More octets than the interface's snaplen allows.
        CaplenOverSnaplen => "caplen_over_snaplen",
        /// More octets captured than the packet originally had.
        CaplenOverOriglen => "caplen_over_origlen",
        /// Microseconds or nanoseconds of a second or more.
        SubsecondCarry => "subsecond_carry",
        /// A time before the previous packet's of the same source.
        TimeBack => "ts_back",
        /// No time at all: it got that of its arrival.
        NoTime => "no_time",
        /// A packet without octets.
        EmptyPacket => "empty",
        /// An option that could not be used, or was given twice.
        BadOption => "bad_option",
        /// The options of a packet block overran it, or were longer than any packet, and were left out.
        OptionsDropped => "options_dropped",
        /// An if_tsoffset or time so large that it was set to the end of the range.
        TimeSaturated => "time_saturated",
        /// An interface resolution that cannot be computed with.
        BadResolution => "bad_resolution",
        /// A block that is not passed on: custom, name resolution, unknown.
        SkippedBlock => "skipped_block",
        /// Decryption secrets that were not passed on.
        SecretsStripped => "secrets_stripped",
        /// Packets that the upstream's own interface statistics or drop counts report as lost.
        UpstreamDrops => "upstream_drops",
    }
}
