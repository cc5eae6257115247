//! Limits: bytes a second, and bytes in memory.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::pulse::Pulse;

/// What is let through at once: pieces of this length in time keep the line smooth.
const PIECE: Duration = Duration::from_millis(50);
/// No piece is larger: a connection takes so much at once.
const PIECE_BYTES_MAX: u64 = 256 << 10;
const PIECE_BYTES_MIN: u64 = 256;

/// A number of bytes a second, shared by all threads.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When the line is free again.
    free: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Pace { bytes_per_second: bytes_per_second.max(1), free: Mutex::new(Instant::now()) }
    }

    /// Returns in which pieces bytes should be let through.
    fn piece_bytes(&self) -> u64 {
        let bytes = (self.bytes_per_second as f64 * PIECE.as_secs_f64()) as u64;
        bytes.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }

    /// Takes a place for `bytes` in the queue; they may go at the time it returns.
    fn book(&self, bytes: u64, now: Instant) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let start = (*free).max(now);
        *free = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        start
    }

    /// Waits until `bytes` may go. Who waits for this is not stuck.
    async fn wait(&self, mut bytes: u64, pulse: &Pulse) {
        while bytes > 0 {
            let piece = bytes.min(self.piece_bytes());
            let start = self.book(piece, Instant::now());
            while start > Instant::now() {
                sleep_until(start.min(Instant::now() + Duration::from_secs(1))).await;
                pulse.beat();
            }
            bytes -= piece;
        }
    }
}

/// Waits until `bytes` may go, if there is a limit.
pub(super) async fn pace(limit: Option<&Pace>, bytes: u64, pulse: &Pulse) {
    if let Some(limit) = limit {
        limit.wait(bytes, pulse).await;
    }
}

/// Returns in which pieces bytes are handed to a connection.
pub(super) fn piece_bytes(limit: Option<&Pace>) -> usize {
    limit.map_or(PIECE_BYTES_MAX, Pace::piece_bytes) as usize
}

/// Connections under way at once, and bytes of answers that are gathered in memory.
#[derive(Debug)]
pub(super) struct Permits {
    connections: Semaphore,
    memory: Semaphore,
    memory_units: u32,
}

/// The unit in which memory is counted.
const UNIT: u64 = 64 << 10;

impl Permits {
    pub(super) fn new(connections: usize, memory_bytes: u64) -> Self {
        let memory_units = u32::try_from(memory_bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Permits {
            connections: Semaphore::new(connections.max(1)),
            memory: Semaphore::new(memory_units as usize),
            memory_units,
        }
    }

    /// Waits for the right to use a connection.
    pub(super) async fn connection(&self) -> SemaphorePermit<'_> {
        self.connections.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits for the right to gather `bytes`. One that wants more than there is has all of it.
    pub(super) async fn memory(&self, bytes: u64) -> SemaphorePermit<'_> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.memory_units);
        self.memory.acquire_many(units).await.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_one_after_the_other_at_the_rate_and_idle_time_is_not_saved_up() {
        let pace = Pace::new(1000);
        let now = Instant::now() + Duration::from_secs(10);
        assert_eq!(pace.book(500, now), now);
        assert_eq!(pace.book(250, now), now + Duration::from_millis(500));
        assert_eq!(pace.book(1, now), now + Duration::from_millis(750));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.book(1000, later), later);
        assert_eq!(pace.book(1, later), later + Duration::from_secs(1));
    }

    #[test]
    fn pieces_are_small_when_the_line_is_slow() {
        assert_eq!(Pace::new(1).piece_bytes(), 256);
        assert_eq!(Pace::new(1 << 20).piece_bytes(), 52428);
        assert_eq!(Pace::new(1 << 40).piece_bytes(), 256 << 10);
        assert_eq!(piece_bytes(None), 256 << 10);
    }
}
