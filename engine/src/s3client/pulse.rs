//! Whether a request still moves.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Bytes that may wait between the client and the store after the last was handed over: buffers of
/// the program and of the two kernels.
const UNDER_WAY: u64 = 4 << 20;

/// An answer that comes has to bring so many bytes, or its end, within so many times the wait for a single one:
/// at 30 s that is 136 bytes a second.
const LEAST: u64 = 16 << 10;
const WAITS_FOR_THE_LEAST: u32 = 4;

/// A sign of life of one request: it beats whenever a byte of a body goes out or comes in.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    begun: Instant,
    beat: Instant,
    handed: u64,
    all_handed: bool,
    /// Since when how much of an answer came.
    coming: Option<(Instant, u64)>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let (handed, all_handed) = (0, false);
        Pulse(Mutex::new(State { begun: now, beat: now, handed, all_handed, coming: None }))
    }

    /// Notes that the request waits for something that is not the store's doing.
    pub(super) fn beat(&self) {
        let (mut state, now) = (self.state(), Instant::now());
        state.beat = now;
        state.coming = state.coming.map(|(_, bytes)| (now, bytes));
    }

    /// Notes that bytes of an answer came.
    pub(super) fn receive(&self, bytes: u64) {
        let (mut state, now) = (self.state(), Instant::now());
        state.beat = now;
        let (since, before) = state.coming.unwrap_or((now, 0));
        let came = before + bytes;
        state.coming = Some(if came < LEAST { (since, came) } else { (now, 0) });
    }

    /// Notes that bytes were handed to the connection; `last` if no more follow.
    pub(super) fn hand_over(&self, bytes: u64, last: bool) {
        let mut state = self.state();
        state.beat = Instant::now();
        state.handed += bytes;
        state.all_handed = last;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns when the request counts as stuck, unless it beats before.
    fn deadline(&self, stalled: Duration) -> Instant {
        let state = self.state();
        let mut patience = stalled;
        if state.all_handed && state.handed > 0 {
            // What was handed over has not arrived yet: on a slow line that takes its time.
            let waiting = state.handed.min(UNDER_WAY) as f64 / state.handed as f64;
            patience += (state.beat - state.begun).mul_f64(waiting);
        }
        let silent = state.beat + patience;
        let slow = state.coming.map(|(since, _)| since + stalled * WAITS_FOR_THE_LEAST);
        slow.map_or(silent, |slow| slow.min(silent))
    }

    /// Waits for `request`; `None` when nothing, or next to nothing, moved for too long.
    pub(super) async fn watch<T>(
        &self,
        stalled: Duration,
        request: impl Future<Output = T>,
    ) -> Option<T> {
        let mut request = std::pin::pin!(request);
        loop {
            if let Ok(result) = timeout_at(self.deadline(stalled), request.as_mut()).await {
                return Some(result);
            }
            if self.deadline(stalled) <= Instant::now() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_in_drops_is_stuck_and_one_that_waits_for_us_is_not() {
        let stalled = Duration::from_secs(5);
        let pulse = Pulse::new();
        let begun = Instant::now();
        pulse.receive(1);
        let first = pulse.state().coming.unwrap().0;
        (0..1000).for_each(|_| pulse.receive(1));
        assert_eq!(pulse.state().coming, Some((first, 1001)));
        pulse.state().beat = begun + Duration::from_secs(19);
        assert_eq!(pulse.deadline(stalled), first + stalled * WAITS_FOR_THE_LEAST);
        pulse.receive(LEAST);
        assert!(matches!(pulse.state().coming, Some((since, 0)) if since >= first));
        pulse.state().coming = Some((begun, 5));
        pulse.beat();
        assert!(pulse.deadline(stalled) >= begun + stalled);
    }
}
