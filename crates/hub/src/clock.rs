//! Readings of clocks for the core, which reads none itself.

use std::time::{Duration, Instant, SystemTime};

use pcaphub_core::time::{Monotonic, Timestamp};

/// The hub's monotonic clock, which the core is handed readings of.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Clock(Instant::now())
    }
}

impl Clock {
    /// This moment.
    pub fn now(&self) -> Monotonic {
        Monotonic::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment of a reading, for timers.
    pub fn instant(&self, reading: Monotonic) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + Duration::from_nanos(reading.nanos()))
    }
}

/// Now, as packets have it.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
