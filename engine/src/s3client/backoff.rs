//! How long to wait before a request is sent again.

use std::time::Duration;

use crate::id::random;

/// The wait before the second attempt is at most this long, and doubles from there.
const FIRST: Duration = Duration::from_millis(200);
/// The same when the store asked for less: it needs time, not luck.
const FIRST_SLOW: Duration = Duration::from_millis(800);
/// A store that asks for more patience than this is not obeyed to the letter.
const ASKED_MAX: Duration = Duration::from_secs(120);

/// Exponential waits with full jitter: whoever was refused together does not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    max: Duration,
    state: u64,
}

impl Backoff {
    pub(super) fn new(max: Duration) -> Self {
        Self::seeded(max, u64::from_le_bytes(random()))
    }

    fn seeded(max: Duration, seed: u64) -> Self {
        Backoff { max, state: seed }
    }

    /// Returns the wait before attempt `attempt + 1`; `attempt` counts from 1. Not shorter than what
    /// the store `asked` for.
    pub(super) fn wait(&mut self, attempt: u32, slow: bool, asked: Option<Duration>) -> Duration {
        let first = if slow { FIRST_SLOW } else { FIRST };
        let ceiling = first.saturating_mul(1u32 << (attempt - 1).min(20)).min(self.max);
        let jitter = ceiling.mul_f64(self.fraction());
        jitter + asked.unwrap_or_default().min(ASKED_MAX)
    }

    /// Returns the next of a row of even numbers from 0 to 1 (SplitMix64).
    fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling_and_spread_over_all_of_it() {
        let max = Duration::from_secs(20);
        let mut backoff = Backoff::seeded(max, 7);
        for attempt in 1..40 {
            let ceiling = FIRST.saturating_mul(1 << (attempt - 1).min(20)).min(max);
            let waits: Vec<Duration> =
                (0..200).map(|_| backoff.wait(attempt, false, None)).collect();
            assert!(waits.iter().all(|wait| *wait <= ceiling), "{attempt}");
            assert!(waits.iter().any(|wait| *wait < ceiling / 10), "{attempt}");
            assert!(waits.iter().any(|wait| *wait > ceiling.mul_f64(0.9)), "{attempt}");
        }
    }

    #[test]
    fn what_the_store_asks_for_is_waited_at_least_within_reason() {
        let mut backoff = Backoff::seeded(Duration::from_secs(1), 7);
        let asked = Duration::from_secs(5);
        assert!(backoff.wait(1, true, Some(asked)) >= asked);
        let hour = Duration::from_secs(3600);
        assert!(backoff.wait(30, true, Some(hour)) <= ASKED_MAX + Duration::from_secs(1));
    }
}
