//! One request: sent, watched, and sent again where that may help.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

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
use crate::traffic::Meter;

/// How often a request is sent at most while the store has never answered: a wrong endpoint should
/// not take minutes to be found out.
const ATTEMPTS_UNANSWERED: u32 = 4;
/// How often a request is sent at most because of the clock: one answer is enough to correct it.
const ATTEMPTS_CLOCK: u32 = 3;

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
    /// Whether an attempt before the last may have been done by the store although it seemed to
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
        let patience = &self.options.patience;
        let mut backoff = Backoff::new(patience.backoff_max);
        let (mut uncertain, mut refreshed) = (false, false);
        let mut number = 1;
        let mut begun = Instant::now();
        loop {
            let failure = match self.ask_once(action, number > 1, &mut begun, &attempt).await {
                Ok(value) => return Outcome { result: Ok(value), uncertain },
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
                _ => patience.attempts,
            };
            if number >= attempts {
                return Outcome { result: Err(failure.after(number)), uncertain };
            }
            uncertain |= failure.is_uncertain();
            if verdict == Verdict::Refresh {
                self.credentials.forget(begun).await;
                refreshed = true;
            }
            let asked = failure.answer().and_then(|answer| answer.retry_after);
            let wait = backoff.wait(number, verdict == Verdict::Slow, asked);
            tokio::time::sleep(wait).await;
            number += 1;
        }
    }

    async fn ask_once<T>(
        &self,
        action: Action,
        is_retry: bool,
        begun: &mut Instant,
        attempt: &impl AsyncFn(&Arc<Pulse>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _connection = self.permits.connection().await;
        // Asked for here, so that a slow answer of who gives them does not look like a slow store.
        self.credentials.get().await.map_err(|error| Failure::of_credentials(&error))?;
        *begun = Instant::now();
        self.line.meter.count(action.class(), is_retry);
        let pulse = Arc::new(Pulse::new());
        let stalled = self.options.patience.stalled;
        let result = pulse.watch(stalled, attempt(&pulse)).await.unwrap_or_else(|| {
            Err(Failure::Lost(format!("nothing moved for {} s", stalled.as_secs_f64())))
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
