//! The feeds that run: which sinks share one, and when one has come to its end.
//!
//! Sinks that agree on a [`FeedKey`] read from one feed, unless another plan may come that parts them.
//! A feed that no sink wants any more takes no more packets, and stays until those that are ending have
//! left it. Stands between the path, which fills them, and the roster, whose sinks read from them.

use std::sync::Arc;

use pcaphub_core::feed::{Feed, Ring};
use pcaphub_core::interface::Interfaces;

use crate::defaults::FeedKey;
use crate::limits::Limits;
use crate::outlet::Outlet;
use crate::path::Path;
use crate::stats::Books;

/// All feeds of a hub.
pub(crate) struct Feeds {
    feeds: Vec<FedFrom>,
    next: u64,
    limits: Arc<Limits>,
    interfaces: Interfaces,
    books: Books,
    /// Whether another plan may come.
    changeable: bool,
}

/// Which feed. Given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedId(u64);

/// A feed, and what sinks have to agree on to share it.
struct FedFrom {
    id: FeedId,
    key: FeedKey,
    ring: Arc<Ring>,
    /// No sink reads from it any more, but for those that are ending.
    retired: bool,
    /// Sinks that read from it and have not ended, with those that are ending.
    readers: Vec<u64>,
}

impl Feeds {
    /// None yet. `changeable` says whether another plan may come.
    pub(crate) fn new(limits: Arc<Limits>, interfaces: Interfaces, books: Books, changeable: bool) -> Self {
        Feeds { feeds: Vec::new(), next: 0, limits, interfaces, books, changeable }
    }

    /// The feed of this key; made if there is none.
    pub(crate) fn get_or_make(&mut self, key: FeedKey, path: &mut Path) -> FeedId {
        // A feed that sinks share cannot have another filter for one of them: where that may be wanted, each
        // has its own.
        let known = self.feeds.iter().find(|feed| !self.changeable && !feed.retired && feed.key == key);
        if let Some(feed) = known {
            return feed.id;
        }
        self.next += 1;
        let id = FeedId(self.next);
        let there = self.feeds.iter().filter(|feed| !feed.retired).count();
        let options = key.options(&self.limits, self.limits.ring_octets(there + 1));
        let feed = Feed::new(options, self.interfaces.clone());
        let ring = feed.ring().clone();
        self.books.add_ring(ring.clone());
        path.add_outlet(Outlet::new(key.name.clone(), key.onto, feed, key.pace));
        self.feeds.push(FedFrom { id, key, ring, retired: false, readers: Vec::new() });
        id
    }

    /// What its sinks read from; `None` if it is gone.
    pub(crate) fn ring(&self, id: FeedId) -> Option<&Arc<Ring>> {
        self.of(id).map(|feed| &feed.ring)
    }

    /// What its sinks agree on; `None` if it is gone.
    pub(crate) fn key(&self, id: FeedId) -> Option<&FeedKey> {
        self.of(id).map(|feed| &feed.key)
    }

    fn of(&self, id: FeedId) -> Option<&FedFrom> {
        self.feeds.iter().find(|feed| feed.id == id)
    }

    /// The sink of this number reads from it until it [leaves](Self::leave): from what, and how that is made;
    /// `None` if it is gone.
    pub(crate) fn enter(&mut self, id: FeedId, sink: u64) -> Option<(Arc<Ring>, FeedKey)> {
        let feed = self.feeds.iter_mut().find(|feed| feed.id == id)?;
        feed.readers.push(sink);
        Some((feed.ring.clone(), feed.key.clone()))
    }

    /// The sink of this number has ended.
    pub(crate) fn leave(&mut self, sink: u64) {
        self.feeds.iter_mut().for_each(|feed| feed.readers.retain(|reader| *reader != sink));
    }

    /// The sink that reads from it stays, and has another filter perhaps.
    pub(crate) fn renew(&mut self, id: FeedId, new: &FeedKey, path: &mut Path) {
        if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.id == id) {
            path.set_filter(&feed.ring, new.filter());
            feed.key.renew(new);
        }
    }

    /// All who read for the sink of this number get what is queued for them, and then the end.
    pub(crate) fn end_readers(&self, sink: u64) {
        self.feeds.iter().for_each(|feed| feed.ring.end_group(sink));
    }

    /// Ends the feeds that no sink wants any more, and forgets those that none reads from.
    pub(crate) fn retire(&mut self, is_wanted: impl Fn(FeedId) -> bool, path: &mut Path) {
        for feed in &mut self.feeds {
            if !feed.retired && !is_wanted(feed.id) {
                feed.retired = true;
                path.remove_outlet(&feed.ring);
            }
        }
        let books = &self.books;
        self.feeds.retain(|feed| {
            let gone = feed.retired && feed.readers.is_empty();
            if gone {
                books.retire_ring(&feed.ring);
            }
            !gone
        });
    }

    /// Shares out memory among the feeds that there are.
    pub(crate) fn share_memory(&self) {
        let feeds = || self.feeds.iter().filter(|feed| !feed.retired);
        let capacity = self.limits.ring_octets(feeds().count());
        for feed in feeds() {
            let (options, on_slow) = (feed.ring.options(), feed.key.on_slow());
            if (options.capacity_octets, options.on_slow) != (capacity, on_slow) {
                feed.ring.adjust(capacity, on_slow);
            }
        }
    }
}
