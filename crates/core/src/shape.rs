//! What is kept of a stream of packets: one in so many, so many in all, so many octets of each, with
//! their own time or that of their arrival.

use crate::batch::Batch;
use crate::packet::Packet;
use crate::time::Timestamp;

/// What is kept. The default keeps everything as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// One packet in so many; 1 and more.
    pub sample: Option<u64>,
    /// So many packets in all, and then no more.
    pub count: Option<u64>,
    /// Octets of each packet; 1 and more.
    pub snaplen: Option<u32>,
    /// Whose time packets have.
    pub time: Time,
}

/// Whose time packets have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Time {
    /// That with which they come.
    #[default]
    Keep,
    /// That of the moment at which they pass.
    Now,
    /// Their own, also where a source [asks for another](Batch::timed_later): for what sends each when it is due by
    /// that, to where nobody sees it.
    Own,
}

/// Applies a [`Shape`] to packet after packet.
#[derive(Debug, Clone, Default)]
pub struct Shaper {
    shape: Shape,
    seen: u64,
    kept: u64,
}

impl Shaper {
    /// Nothing has passed yet.
    pub fn new(shape: Shape) -> Self {
        Shaper { shape, seen: 0, kept: 0 }
    }

    /// Whether it changes nothing, whatever comes.
    pub fn is_idle(&self) -> bool {
        self.shape == Shape::default()
    }

    /// Whether packets of a batch get the time at which they pass.
    pub fn times(&self, batch: &Batch) -> bool {
        match self.shape.time {
            Time::Keep => batch.timed_later,
            Time::Now => true,
            Time::Own => false,
        }
    }

    /// Whether it changes packets that it keeps, whatever they are.
    pub fn alters(&self) -> bool {
        self.shape.snaplen.is_some() || self.shape.time == Time::Now
    }

    /// Whether the next packet is kept.
    pub fn keeps(&mut self) -> bool {
        if self.is_done() {
            return false;
        }
        let chosen = self.shape.sample.is_none_or(|every| self.seen.is_multiple_of(every.max(1)));
        self.seen += 1;
        self.kept += u64::from(chosen);
        chosen
    }

    /// Whether it has kept all that it may.
    pub fn is_done(&self) -> bool {
        self.shape.count.is_some_and(|count| self.kept >= count)
    }

    /// A packet as it is to be; `time` is what it gets, where that is not its own.
    pub fn altered(&self, packet: &Packet, time: Option<Timestamp>) -> Packet {
        let mut packet = *packet;
        packet.caplen = self.shape.snaplen.map_or(packet.caplen, |snaplen| packet.caplen.min(snaplen));
        packet.timestamp = time.unwrap_or(packet.timestamp);
        packet
    }

    /// Keeps of a batch the packets that are to be kept; how many others there were.
    pub fn choose(&mut self, batch: &mut Batch) -> u64 {
        if self.is_idle() { 0 } else { batch.retain(|_| self.keeps()) }
    }

    /// Makes of a batch's packets what they are to be; `now` is the time of this moment, and `None` where packets
    /// that want it are to get that of a later one.
    pub fn alter(&self, batch: &mut Batch, now: Option<Timestamp>) {
        let cuts = |packet: &Packet| self.shape.snaplen.is_some_and(|snaplen| packet.caplen > snaplen);
        let timed = self.shape.time == Time::Now;
        if timed || batch.packets.iter().any(cuts) {
            let time = now.filter(|_| timed);
            batch.verbatim = None;
            batch.timed_later = timed && time.is_none();
            batch.packets.iter_mut().for_each(|packet| *packet = self.altered(packet, time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceId;
    use bytes::Bytes;

    fn batch(packets: u32) -> Batch {
        let packet = |n: u32| Packet {
            timestamp: Timestamp::new(n.into(), 0),
            interface: InterfaceId(0),
            caplen: 10,
            origlen: 20,
            offset: n * 10,
            options_offset: 0,
            options_len: 0,
        };
        let buffer = Bytes::from(vec![0; packets as usize * 10]);
        Batch { buffer, packets: (0..packets).map(packet).collect(), ..Batch::default() }
    }

    fn times(batch: &Batch) -> Vec<u64> {
        batch.packets.iter().map(|packet| packet.timestamp.seconds()).collect()
    }

    #[test]
    fn one_in_so_many_is_kept_across_batches() {
        let mut shaper = Shaper::new(Shape { sample: Some(3), ..Shape::default() });
        let (mut first, mut second) = (batch(4), batch(4));
        assert_eq!(shaper.choose(&mut first), 2);
        assert_eq!(shaper.choose(&mut second), 3);
        assert_eq!((times(&first), times(&second)), (vec![0, 3], vec![2]));
    }

    #[test]
    fn a_count_ends_it() {
        let mut shaper = Shaper::new(Shape { count: Some(2), sample: Some(2), ..Shape::default() });
        let mut many = batch(10);
        assert_eq!(shaper.choose(&mut many), 8);
        assert_eq!(times(&many), [0, 2]);
        assert!(shaper.is_done());
    }

    #[test]
    fn a_cut_packet_keeps_its_original_length() {
        let mut shaper = Shaper::new(Shape { snaplen: Some(4), time: Time::Now, ..Shape::default() });
        let mut some = batch(2);
        assert_eq!(shaper.choose(&mut some), 0);
        shaper.alter(&mut some, Some(Timestamp::new(99, 0)));
        assert_eq!((some.packets[1].caplen, some.packets[1].origlen), (4, 20));
        assert_eq!(times(&some), [99, 99]);
    }

    #[test]
    fn packets_get_a_later_time_where_they_are_let_go_later() {
        let mut some = batch(2);
        Shaper::new(Shape { time: Time::Now, ..Shape::default() }).alter(&mut some, None);
        assert_eq!(times(&some), [0, 1]);
        for (time, gets) in [(Time::Keep, true), (Time::Now, true), (Time::Own, false)] {
            assert_eq!(Shaper::new(Shape { time, ..Shape::default() }).times(&some), gets);
        }
    }
}
