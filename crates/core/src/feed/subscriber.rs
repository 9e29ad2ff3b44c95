//! The reading end of a feed: one consumer's header, chunks, gaps and end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::chunk::Chunk;
use super::reader::{Ending, Gap, Start, SubscriberSnapshot};
use super::ring::Ring;
use super::slots::OnSlow;
use crate::linktype::LinkType;
use crate::stats::DropReason;

/// What [`Subscriber::poll_take`] found.
pub type Taken = Result<Option<Gap>, Ending>;

/// One consumer of a feed. Dropping it leaves the feed; what was queued counts as closed.
#[derive(Debug)]
pub struct Subscriber {
    ring: Arc<Ring>,
    id: u64,
}

impl Subscriber {
    /// Joins a feed under a name for people.
    pub fn join(ring: &Arc<Ring>, name: Arc<str>, start: Start) -> Self {
        Subscriber::join_group(ring, name, start, 0)
    }

    /// Joins it as one of a group, which [`Ring::end_group`] ends.
    pub fn join_group(ring: &Arc<Ring>, name: Arc<str>, start: Start, group: u64) -> Self {
        let id = ring.lock().join(name, start, group);
        Subscriber { ring: ring.clone(), id }
    }

    /// Whether nothing more will be queued for it.
    pub fn has_ended(&self) -> bool {
        let state = self.ring.lock();
        state.ended || state.readers.get(&self.id).is_none_or(|reader| reader.is_ending())
    }

    /// The ring it reads from.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Ready with the linktype for the header, as soon as that is known or assumed.
    ///
    /// # Errors
    /// [`Ending::Ended`] if the sources ended without any.
    pub fn poll_header(&self, cx: &mut Context<'_>) -> Poll<Result<LinkType, Ending>> {
        let mut state = self.ring.lock();
        let (linktype, feed_ended) = (state.linktype, state.ended);
        let Some(reader) = state.readers.get_mut(&self.id) else { return Poll::Ready(Err(Ending::Stopped)) };
        if let Some(ending) = reader.ending {
            return Poll::Ready(Err(ending));
        }
        if let Some(linktype) = linktype {
            reader.has_header = true;
            return Poll::Ready(Ok(linktype));
        }
        if feed_ended || reader.is_ending() {
            return Poll::Ready(Err(Ending::Ended));
        }
        reader.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Tops up `hand`, the chunks this subscriber's writer holds and has not finished writing, to
    /// about `max_octets`.
    ///
    /// Ready when there is something in `hand`. A gap lies before the first chunk of `hand`; while
    /// one lies behind those it holds, nothing is added to them.
    ///
    /// # Errors
    /// Why there is nothing more.
    pub fn poll_take(
        &self,
        cx: &mut Context<'_>,
        max_octets: usize,
        hand: &mut VecDeque<Chunk>,
    ) -> Poll<Taken> {
        let mut state = self.ring.lock();
        let ended = state.ended;
        let Some(reader) = state.readers.get_mut(&self.id) else { return Poll::Ready(Err(Ending::Stopped)) };
        if let Some(ending) = reader.ending {
            return Poll::Ready(Err(ending));
        }
        if !hand.is_empty() && reader.has_gap() {
            return Poll::Ready(Ok(None));
        }
        let gap = reader.gap();
        let ended = ended || reader.is_ending();
        state.top_up(self.id, max_octets, hand);
        if !hand.is_empty() || gap.is_some() {
            return Poll::Ready(Ok(gap));
        }
        if ended {
            return Poll::Ready(Err(Ending::Ended));
        }
        if let Some(reader) = state.readers.get_mut(&self.id) {
            reader.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ready when this subscriber is to be sent away, whatever its writer is doing: it does not
    /// wake for chunks.
    pub fn poll_dismissed(&self, cx: &mut Context<'_>) -> Poll<Ending> {
        let mut state = self.ring.lock();
        let Some(reader) = state.readers.get_mut(&self.id) else { return Poll::Ready(Ending::Stopped) };
        if let Some(ending) = reader.ending {
            return Poll::Ready(ending);
        }
        reader.dismissal = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The first `chunks` of the hand were written, `octets` in all since the last call (headers
    /// and parts of chunks included). The caller takes them from its hand.
    pub fn confirm(&self, chunks: usize, octets: usize) {
        let publisher = {
            let mut state = self.ring.lock();
            if let Some(reader) = state.readers.get_mut(&self.id) {
                reader.count_octets(octets as u64);
            }
            if chunks == 0 {
                return;
            }
            state.confirm(self.id, chunks);
            state.release()
        };
        publisher.into_iter().for_each(std::task::Waker::wake);
    }

    /// Lets go of all but the first `keep` chunks of the hand, so that a writer which cannot go
    /// on does not keep the ring's memory; they are offered again. The caller drops them.
    pub fn put_back(&self, keep: usize) {
        let mut state = self.ring.lock();
        if state.options.on_slow != OnSlow::Wait {
            state.put_back(self.id, keep);
        }
    }

    /// Gives up everything that is queued but the first `keep` chunks of the hand, whatever
    /// [`OnSlow`] says, so that a writer which cannot go on for long holds up nobody. The caller
    /// drops the others.
    pub fn forfeit(&self, keep: usize, reason: DropReason) {
        let publisher = {
            let mut state = self.ring.lock();
            state.forfeit(self.id, keep, reason);
            state.release()
        };
        publisher.into_iter().for_each(std::task::Waker::wake);
    }

    /// Counts packets of the hand's first chunk, which was written only in part: before leaving, or
    /// before going on behind them.
    pub fn confirm_part(&self, packets: u64) {
        let mut state = self.ring.lock();
        if let Some(reader) = state.readers.get_mut(&self.id) {
            reader.count_part(packets);
        }
    }

    /// Loses packets of the hand's first chunk, of which others may be delivered.
    pub fn lose_part(&self, reason: DropReason, packets: u64) {
        let mut state = self.ring.lock();
        if let Some(reader) = state.readers.get_mut(&self.id) {
            reader.lose_part(reason, packets);
        }
    }

    /// Its counts at this moment; `None` once the ring let it go.
    pub fn snapshot(&self) -> Option<SubscriberSnapshot> {
        self.ring.lock().count_of(self.id)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let publisher = {
            let mut state = self.ring.lock();
            state.leave(self.id);
            state.release()
        };
        publisher.into_iter().for_each(std::task::Waker::wake);
    }
}
