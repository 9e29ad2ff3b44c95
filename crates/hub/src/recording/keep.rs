//! Which files of a recording are kept: so many, so much, so long, and so much of the disk free.

use std::time::{Duration, SystemTime};

use crate::directory::Entry;

/// Limits of all files together; `None` is none. The oldest go first, the one being written never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Files, the one being written included.
    pub count: Option<u64>,
    /// Octets on the disk, those of the one being written included.
    pub total: Option<u64>,
    /// How long after its last packet a file is kept.
    pub age: Option<Duration>,
    /// Octets that the file system is to have free.
    pub free: Option<u64>,
}

/// What there is beside the finished files.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The time of the day.
    pub now: SystemTime,
    /// Files that are being written: 0 or 1.
    pub writing: u64,
    /// Octets that these have or may get.
    pub writing_octets: u64,
    /// Octets that the file system has free, if that is known.
    pub free: Option<u64>,
}

impl Keep {
    /// Whether everything is kept.
    pub fn is_everything(&self) -> bool {
        *self == Keep::default()
    }

    /// Whether it has to be looked after while no file ends.
    pub fn watches(&self) -> bool {
        self.age.is_some() || self.free.is_some() || self.total.is_some()
    }

    /// How many of `files`, the oldest first, have to go.
    pub fn surplus(&self, files: &[Entry], situation: Situation) -> usize {
        let mut count = (files.len() as u64).saturating_add(situation.writing);
        let octets = files.iter().map(|file| file.octets);
        let mut total = octets.fold(situation.writing_octets, u64::saturating_add);
        let mut free = situation.free.unwrap_or(u64::MAX);
        let mut gone = 0;
        for file in files {
            let age = situation.now.duration_since(file.modified).unwrap_or_default();
            let stays = self.count.is_none_or(|most| count <= most)
                && self.total.is_none_or(|most| total <= most)
                && self.age.is_none_or(|most| age <= most)
                && self.free.is_none_or(|least| free >= least);
            if stays {
                break;
            }
            gone += 1;
            count -= 1;
            total = total.saturating_sub(file.octets);
            free = free.saturating_add(file.octets);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of 100 octets, one a minute, the last a minute ago.
    fn files(count: u64) -> Vec<Entry> {
        let modified = |n| now() - Duration::from_secs(60 * (count - n));
        (0..count).map(|n| Entry { name: format!("{n}.pcap"), octets: 100, modified: modified(n) }).collect()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn gone(keep: Keep, count: u64, writing: u64, free: u64) -> usize {
        let situation = Situation { now: now(), writing, writing_octets: 50 * writing, free: Some(free) };
        keep.surplus(&files(count), situation)
    }

    #[test]
    fn nothing_goes_unless_it_is_asked_for() {
        assert_eq!(gone(Keep::default(), 100, 1, 0), 0);
    }

    #[test]
    fn so_many_are_kept_with_the_one_being_written() {
        let keep = Keep { count: Some(3), ..Keep::default() };
        assert_eq!((gone(keep, 3, 0, 0), gone(keep, 3, 1, 0), gone(keep, 10, 1, 0)), (0, 1, 8));
    }

    #[test]
    fn so_much_is_kept_with_the_one_being_written() {
        let keep = Keep { total: Some(350), ..Keep::default() };
        assert_eq!((gone(keep, 3, 1, 0), gone(keep, 4, 0, 0), gone(keep, 10, 1, 0)), (0, 1, 7));
        let keep = Keep { total: Some(10), ..Keep::default() };
        assert_eq!(gone(keep, 2, 1, 0), 2, "the one being written stays whatever it takes");
    }

    #[test]
    fn they_are_kept_so_long() {
        let keep = Keep { age: Some(Duration::from_secs(180)), ..Keep::default() };
        assert_eq!(gone(keep, 10, 1, 0), 7);
        assert_eq!(gone(keep, 3, 1, 0), 0);
    }

    #[test]
    fn the_oldest_go_until_so_much_is_free() {
        let keep = Keep { free: Some(1000), ..Keep::default() };
        assert_eq!((gone(keep, 5, 1, 1000), gone(keep, 5, 1, 850), gone(keep, 5, 1, 0)), (0, 2, 5));
    }

    #[test]
    fn the_strictest_limit_counts() {
        let keep = Keep { count: Some(5), total: Some(250), ..Keep::default() };
        assert_eq!(gone(keep, 10, 0, 0), 8);
    }
}
