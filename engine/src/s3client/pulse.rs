//! Whether a request still moves.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Bytes that may wait between the client and the store after the last was handed over: buffers of
/// the program and of the two kernels.
const UNDER_WAY: u64 = 4 << 20;

/// A sign of life of one request: it beats whenever a byte of a body goes out or comes in.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    begun: Instant,
    beat: Instant,
    handed: u64,
    all_handed: bool,
}

impl Pulse {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Pulse(Mutex::new(State { begun: now, beat: now, handed: 0, all_handed: false }))
    }

    /// Notes that something moved.
    pub(super) fn beat(&self) {
        self.state().beat = Instant::now();
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
        state.beat + patience
    }

    /// Waits for `request`; `None` when nothing moved for too long.
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
