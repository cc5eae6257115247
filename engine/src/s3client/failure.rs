//! What came of a request that failed, whatever it was, and whether to send it again.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The store answered that it will not.
    Answer(Box<Answer>),
    /// No whole answer came: whether the store did it is not known.
    Lost(String),
    /// The store cannot be reached by a connection that is trusted.
    Untrusted(String),
    /// There are no credentials to ask with.
    Credentials {
        /// What was tried.
        problem: String,
        /// Whether trying again may help.
        passing: bool,
    },
    /// The request could not be made.
    Local(String),
}

/// An answer that says no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status of HTTP.
    pub(super) status: u16,
    /// The store's code; empty where it gave none, as for HEAD.
    pub(super) code: String,
    /// The store's words.
    pub(super) message: String,
    /// What the store's owner finds the request by.
    pub(super) request_id: Option<String>,
    /// When the store wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// The store's clock.
    pub(super) date: Option<SystemTime>,
    /// The region the bucket is in, where the request went to another.
    pub(super) region: Option<String>,
}

/// Whether and how to send a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Never.
    Final,
    /// After a wait.
    Again,
    /// After a longer wait: the store has too much to do.
    Slow,
    /// Once, with credentials that were asked for anew.
    Refresh,
    /// Few times: the clock is corrected by the answer.
    Clock,
}

/// Codes of stores that have too much to do.
const SLOW: [&str; 7] = [
    "SlowDown",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
];

/// Codes of failures that pass.
const PASSING: [&str; 9] = [
    "InternalError",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
    "XMinioServerNotInitialized",
];

/// Stores allow for 15 minutes; this is surely not what is left of a correction.
const SKEW: Duration = Duration::from_secs(600);

/// Codes of credentials that were good.
const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

/// Said where a proxy does not know who asks, or knows better.
pub(super) const PROXY_ASKS: &str = "the proxy wants a name and a password, or others: http://USER:PASSWORD@HOST:PORT in HTTPS_PROXY or HTTP_PROXY";

impl Failure {
    /// Reads what the SDK makes of a request.
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match &error {
            SdkError::ConstructionFailure(_) => Failure::Local(chain(&error)),
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                Failure::Local(chain(&error))
            }
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => Failure::unreached(&error),
            SdkError::ResponseError(answer) => match answer.raw().status().as_u16() {
                // An answer that promised success and could not be read.
                200..300 => Failure::Lost(chain(&error)),
                _ => Failure::Answer(Box::new(Answer::read(answer.raw(), None, None))),
            },
            SdkError::ServiceError(answer) => {
                let said = answer.err();
                Failure::Answer(Box::new(Answer::read(answer.raw(), said.code(), said.message())))
            }
            _ => Failure::Lost(chain(&error)),
        }
    }

    /// A connection that could not be made, or broke.
    pub(super) fn unreached(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(cause) = cause.downcast_ref::<CredentialsError>() {
                return Failure::of_credentials(cause);
            }
            next = cause.source();
        }
        let text = chain(error);
        if text.contains("invalid peer certificate") {
            return Failure::Untrusted(text);
        }
        if text.contains("proxy authorization required") {
            return Failure::Local(PROXY_ASKS.to_owned());
        }
        Failure::Lost(text)
    }

    /// Nobody to ask as.
    pub(super) fn of_credentials(error: &CredentialsError) -> Self {
        let passing = match error {
            CredentialsError::CredentialsNotLoaded(_)
            | CredentialsError::InvalidConfiguration(_) => false,
            _ => !chain(error).contains("AccessDenied"),
        };
        Failure::Credentials { problem: chain(error), passing }
    }

    /// Adds how often the request was sent, where that is not to be expected.
    pub(super) fn after(mut self, attempts: u32) -> Self {
        let told = match &mut self {
            Failure::Lost(problem) => problem,
            Failure::Answer(answer) => &mut answer.message,
            _ => return self,
        };
        if attempts > 1 {
            let separator = if told.is_empty() { "" } else { ", " };
            told.push_str(&format!("{separator}tried {attempts} times"));
        }
        self
    }

    /// Returns the answer, if there was one.
    pub(super) fn answer(&self) -> Option<&Answer> {
        match self {
            Failure::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// Whether the store said this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.answer().is_some_and(|answer| answer.code == code)
    }

    /// Whether the store answered with this status.
    pub(super) fn has_status(&self, status: u16) -> bool {
        self.answer().is_some_and(|answer| answer.status == status)
    }

    /// Whether the store may have done what was asked all the same.
    pub(super) fn is_uncertain(&self) -> bool {
        match self {
            Failure::Answer(answer) => answer.status >= 500 || answer.code == "RequestTimeout",
            Failure::Lost(_) => true,
            Failure::Untrusted(_) | Failure::Credentials { .. } | Failure::Local(_) => false,
        }
    }

    /// Decides whether the request is sent again.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Failure::Lost(_) => Verdict::Again,
            Failure::Credentials { passing: true, .. } => Verdict::Again,
            Failure::Untrusted(_) | Failure::Credentials { .. } | Failure::Local(_) => {
                Verdict::Final
            }
            Failure::Answer(answer) => answer.verdict(),
        }
    }
}

impl Answer {
    fn read(raw: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Self {
        let header = |name: &str| raw.headers().get(name).map(str::to_owned);
        let date = |text: &String| {
            let date = DateTime::from_str(text, DateTimeFormat::HttpDate).ok()?;
            SystemTime::try_from(date).ok()
        };
        let now = SystemTime::now();
        let retry_after = header("retry-after").and_then(|text| match text.trim().parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => date(&text)?.duration_since(now).ok(),
        });
        Answer {
            status: raw.status().as_u16(),
            code: code.unwrap_or_default().to_owned(),
            message: message.unwrap_or_default().to_owned(),
            request_id: header("x-amz-request-id"),
            retry_after,
            date: header("date").as_ref().and_then(date),
            region: header("x-amz-bucket-region"),
        }
    }

    /// Whether the store's clock is so far from this one that requests are refused.
    pub(super) fn clocks_differ(&self) -> bool {
        let apart = |there: SystemTime| {
            let now = SystemTime::now();
            there.duration_since(now).or(now.duration_since(there)).unwrap_or_default()
        };
        self.date.is_some_and(|there| apart(there) > SKEW)
    }

    pub(super) fn verdict(&self) -> Verdict {
        let code = self.code.as_str();
        if EXPIRED.contains(&code) {
            return Verdict::Refresh;
        }
        if code == "RequestTimeTooSkewed" {
            return Verdict::Clock;
        }
        if SLOW.contains(&code) || code.contains("Throttl") {
            return Verdict::Slow;
        }
        if PASSING.contains(&code) {
            return Verdict::Again;
        }
        // The key service says by itself what passes.
        if code.starts_with("KMS.") {
            return Verdict::Final;
        }
        match self.status {
            // HEAD has no body for a code. 400 is said to old tokens, and to what no try helps.
            400 if code.is_empty() => Verdict::Refresh,
            403 if code.is_empty() && self.clocks_differ() => Verdict::Clock,
            503 | 429 => Verdict::Slow,
            500 | 502 | 504 | 408 => Verdict::Again,
            _ => Verdict::Final,
        }
    }
}

/// Returns an error and what caused it in one line, each said once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let line = |error: &dyn std::error::Error| {
        let text = error.to_string();
        text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
    };
    let mut text = line(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let more = line(cause);
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Failure {
        Failure::Answer(Box::new(Answer { status, code: code.to_owned(), ..Answer::default() }))
    }

    #[test]
    fn what_passes_is_sent_again_and_what_does_not_never() {
        use Verdict::{Again, Clock, Final, Refresh, Slow};
        for (status, code, verdict) in [
            (503, "SlowDown", Slow),
            (503, "", Slow),
            (429, "", Slow),
            (400, "ThrottlingException", Slow),
            (400, "KMS.ThrottlingException", Slow),
            (500, "InternalError", Again),
            (200, "InternalError", Again),
            (502, "", Again),
            (504, "GatewayTimeout", Again),
            (400, "RequestTimeout", Again),
            (400, "BadDigest", Again),
            (409, "ConditionalRequestConflict", Again),
            (409, "OperationAborted", Again),
            (403, "RequestTimeTooSkewed", Clock),
            (400, "ExpiredToken", Refresh),
            (412, "PreconditionFailed", Final),
            (403, "AccessDenied", Final),
            (403, "", Final),
            (403, "InvalidAccessKeyId", Final),
            (403, "SignatureDoesNotMatch", Final),
            (403, "InvalidObjectState", Final),
            (404, "NoSuchBucket", Final),
            (301, "PermanentRedirect", Final),
            (400, "KMS.DisabledException", Final),
            (501, "NotImplemented", Final),
            (507, "XMinioStorageFull", Final),
        ] {
            assert_eq!(answer(status, code).verdict(), verdict, "{status} {code}");
        }
        assert_eq!(Failure::Lost(String::new()).verdict(), Again);
        assert_eq!(Failure::Untrusted(String::new()).verdict(), Final);
    }

    #[test]
    fn answers_without_a_body_tell_by_status_and_clock() {
        let head =
            |status, date| Answer { status, date: Some(date), ..Answer::default() }.verdict();
        let now = SystemTime::now();
        assert_eq!(head(400, now), Verdict::Refresh);
        assert_eq!(head(403, now), Verdict::Final);
        assert_eq!(head(403, now - Duration::from_secs(3600)), Verdict::Clock);
        assert_eq!(head(403, now + Duration::from_secs(3600)), Verdict::Clock);
        assert_eq!(head(404, now - Duration::from_secs(3600)), Verdict::Final);
    }

    #[test]
    fn only_what_may_have_been_done_is_uncertain() {
        assert!(Failure::Lost(String::new()).is_uncertain());
        assert!(answer(500, "InternalError").is_uncertain());
        assert!(!answer(403, "AccessDenied").is_uncertain());
        assert!(!answer(409, "ConditionalRequestConflict").is_uncertain());
        assert!(!Failure::Credentials { problem: String::new(), passing: true }.is_uncertain());
    }
}
