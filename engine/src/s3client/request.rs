//! One request: sent, watched, and sent again where that may help.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::{Instant, timeout_at};

use super::action::Action;
use super::backoff::Backoff;
use super::credentials::KeptCredentials;
use super::customer_key::CustomerKey;
use super::explain::Place;
use super::failure::{Failure, Verdict};
use super::limit::{Pace, Permits};
use super::options::S3Options;
use super::pulse::Pulse;
use crate::error::Error;
use crate::progress::Cancel;
use crate::traffic::Meter;

/// How often a request is sent at most while the store has never answered: a wrong endpoint should
/// not take minutes to be found out.
const ATTEMPTS_UNANSWERED: u32 = 4;
/// How often a request is sent at most that only tidies up: nobody should wait long for it.
const ATTEMPTS_TIDYING: u32 = 3;
/// How often a request is sent at most because of the clock: one answer is enough to correct it.
const ATTEMPTS_CLOCK: u32 = 3;

/// How often is looked whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(100);
/// How long an answer is waited for after that: what is nearly done is better known.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// How long is tried after that to take away what would hold up others.
const LAST_WAIT_TIDYING: Duration = Duration::from_secs(5);

/// What all requests share.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) options: S3Options,
    pub(super) place: Place,
    pub(super) credentials: KeptCredentials,
    pub(super) customer_key: Option<CustomerKey>,
    pub(super) permits: Permits,
    pub(super) upload: Option<Pace>,
    pub(super) line: Arc<Line>,
    /// Whether the user wants to stop.
    pub(super) cancel: Cancel,
    /// Whether the store ever answered.
    pub(super) answered: AtomicBool,
    /// Above this length an object goes up in parts.
    pub(super) parts_above: AtomicU64,
}

/// What threads of the runtime share with those that ask.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) download: Option<Pace>,
    pub(super) meter: Meter,
}

/// What came of a request in the end.
#[derive(Debug)]
pub(super) struct Outcome<T> {
    pub(super) result: Result<T, Failure>,
    /// Whether an attempt before the last was sent: the store may have done it although it seemed to
    /// fail.
    pub(super) uncertain: bool,
}

/// Turns an error of the SDK into a failure.
pub(super) fn failed<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    Failure::of(error)
}

impl Asker {
    /// Sends a request until it is done, or failed for good. `attempt` sends it once.
    pub(super) async fn ask<T>(
        &self,
        action: Action,
        attempt: impl AsyncFn(&Arc<Pulse>) -> Result<T, Failure>,
    ) -> Outcome<T> {
        let last_wait = if action.outlives_a_stop() { LAST_WAIT_TIDYING } else { LAST_WAIT };
        let uncertain = Cell::new(false);
        let result = self.heed(last_wait, self.ask_until_done(action, &uncertain, attempt)).await;
        Outcome { result: result.flatten(), uncertain: uncertain.get() }
    }

    async fn ask_until_done<T>(
        &self,
        action: Action,
        uncertain: &Cell<bool>,
        attempt: impl AsyncFn(&Arc<Pulse>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let patience = &self.options.patience;
        let mut backoff = Backoff::new(patience.backoff_max);
        let mut refreshed = false;
        let mut number = 1;
        let mut begun = std::time::Instant::now();
        loop {
            let failure = match self.ask_once(action, number > 1, &mut begun, &attempt).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let verdict = failure.verdict();
            let attempts = match (verdict, &failure) {
                (Verdict::Final, _) => 0,
                (Verdict::Refresh, _) => {
                    if refreshed {
                        0
                    } else {
                        patience.attempts
                    }
                }
                (Verdict::Clock, _) => patience.attempts.min(ATTEMPTS_CLOCK),
                (_, Failure::Credentials { .. }) => patience.attempts.min(ATTEMPTS_UNANSWERED),
                _ if !self.answered.load(Ordering::Relaxed) => {
                    patience.attempts.min(ATTEMPTS_UNANSWERED)
                }
                _ if action.tidies_up() => patience.attempts.min(ATTEMPTS_TIDYING),
                _ => patience.attempts,
            };
            if number >= attempts {
                return Err(failure.after(number));
            }
            uncertain.set(uncertain.get() | failure.is_uncertain());
            if verdict == Verdict::Refresh {
                self.credentials.forget(begun).await;
                refreshed = true;
            }
            let asked = failure.answer().and_then(|answer| answer.retry_after);
            let wait = backoff.wait(number, verdict == Verdict::Slow, asked);
            self.heed_idle(action, tokio::time::sleep(wait)).await?;
            number += 1;
        }
    }

    /// Does some work, and gives it up `last_wait` after the user wanted to stop.
    async fn heed<T>(
        &self,
        last_wait: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        let mut end: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if end.is_none() && self.cancel.check().is_err() {
                end = Some(now + last_wait);
            }
            if end.is_some_and(|end| end <= now) {
                return Err(Failure::Stopped);
            }
            if let Ok(done) = timeout_at(now + LOOK, work.as_mut()).await {
                return Ok(done);
            }
        }
    }

    /// Waits for what need not be waited for once the user wants to stop.
    async fn heed_idle<T>(
        &self,
        action: Action,
        wait: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let last_wait = if action.outlives_a_stop() { LAST_WAIT_TIDYING } else { Duration::ZERO };
        self.heed(last_wait, wait).await
    }

    async fn ask_once<T>(
        &self,
        action: Action,
        is_retry: bool,
        begun: &mut std::time::Instant,
        attempt: &impl AsyncFn(&Arc<Pulse>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _connection = self.heed_idle(action, self.permits.connection()).await?;
        // Asked for here, so that a slow answer of who gives them does not look like a slow store.
        let credentials = self.heed_idle(action, self.credentials.get()).await?;
        credentials.map_err(|error| Failure::of_credentials(&error))?;
        *begun = std::time::Instant::now();
        self.line.meter.count(action.class(), is_retry);
        let pulse = Arc::new(Pulse::new());
        let stalled = self.options.patience.stalled;
        let result = pulse.watch(stalled, attempt(&pulse)).await.unwrap_or_else(|| {
            let seconds = stalled.as_secs_f64();
            Err(Failure::Lost(format!("nothing, or next to nothing, moved for {seconds} s")))
        });
        let was_answered = match &result {
            Ok(_) => true,
            Err(failure) => failure.answer().is_some(),
        };
        if was_answered {
            self.answered.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Returns the key of an object below the prefix.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    /// Makes the error for a request about `name` that failed for good.
    pub(super) fn error(&self, action: Action, name: &str, failure: &Failure) -> Error {
        self.place.explain(action, name, failure)
    }
}
