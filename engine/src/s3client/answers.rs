//! Answers that are no objects: how long they may be, and whether they came whole.
//!
//! The SDK gathers such an answer in memory whatever its length, and takes XML that ends early for the
//! whole of it. Where an answer ends with its connection, nothing else says that something is missing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextMut, BeforeDeserializationInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body::{Body, Frame};

use super::failure::http_date;

/// More than any page of a listing: a thousand keys of a kilobyte each, encoded to three times as much, twice.
const BYTES_MAX: u64 = 16 << 20;

/// What is kept of the end of an answer.
const END_BYTES: usize = 64;

/// Looks at every answer before it is read.
#[derive(Debug)]
pub(super) struct Watching;

impl Intercept for Watching {
    fn name(&self) -> &'static str {
        "Watching"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = settings.load::<Metadata>().map(|metadata| metadata.name());
        let operation = operation.unwrap_or_default();
        let answer = context.response_mut();
        let is_done = answer.status().is_success();
        if is_done && operation == "GetObject" {
            return Ok(());
        }
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        let is_listing = is_done && operation.starts_with("List");
        *answer.body_mut() = SdkBody::from_body_1_x(Watched::new(body, is_listing));
        Ok(())
    }
}

/// Takes the store's clock from an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Dating(Arc<Mutex<Option<SystemTime>>>);

impl Dating {
    /// Returns the time of the answer, where it said one.
    pub(super) fn date(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Dating {
    fn name(&self) -> &'static str {
        "Dating"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(http_date);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// A body that fails when it is too long, or ends too early.
struct Watched {
    body: SdkBody,
    is_listing: bool,
    bytes: u64,
    end: Vec<u8>,
    has_ended: bool,
}

impl Watched {
    fn new(body: SdkBody, is_listing: bool) -> Self {
        Watched { body, is_listing, bytes: 0, end: Vec::new(), has_ended: false }
    }

    fn note(&mut self, piece: &[u8]) -> Result<(), BoxError> {
        self.bytes += piece.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(
                format!("an answer of more than {BYTES_MAX} bytes, which is no object").into()
            );
        }
        self.end.extend_from_slice(&piece[piece.len().saturating_sub(END_BYTES)..]);
        let surplus = self.end.len().saturating_sub(END_BYTES);
        self.end.drain(..surplus);
        Ok(())
    }

    fn end(&mut self) -> Result<(), BoxError> {
        if self.is_listing && !is_end_of_listing(&self.end) {
            return Err(format!("a listing that ends early, after {} bytes", self.bytes).into());
        }
        Ok(())
    }
}

/// Whether these bytes end as every listing does: `</ListBucketResult>` and the like.
fn is_end_of_listing(end: &[u8]) -> bool {
    let Some(end) = end.trim_ascii_end().strip_suffix(b"Result>") else { return false };
    let start = end.iter().rposition(|byte| !byte.is_ascii_alphabetic() && *byte != b':');
    start.is_some_and(|slash| slash > 0 && end[slash - 1..=slash] == *b"</")
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let noted = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |piece| self.note(piece)),
            Some(Err(_)) => Ok(()),
            None => self.end(),
        };
        self.has_ended = noted.is_err() || !matches!(frame, Some(Ok(_)));
        match noted {
            Ok(()) => Poll::Ready(frame),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_end_with_their_root() {
        for whole in
            ["<ListBucketResult></ListBucketResult>", "x</ListVersionsResult>\n", "</s:ListResult>"]
        {
            assert!(is_end_of_listing(whole.as_bytes()), "{whole}");
        }
        for cut in [
            "",
            "</",
            "Result>",
            "<ListBucketResult>",
            "</Contents>",
            "</ListBucketResult",
            "/Result>",
        ] {
            assert!(!is_end_of_listing(cut.as_bytes()), "{cut}");
        }
    }

    #[test]
    fn the_end_is_found_across_pieces_and_what_is_too_long_is_not_gathered() {
        let mut watched = Watched::new(SdkBody::empty(), true);
        assert!(watched.end().is_err());
        for piece in ["<a>", "</ListBucket", "", "Result", ">"] {
            watched.note(piece.as_bytes()).unwrap();
        }
        watched.end().unwrap();
        let piece = vec![b'>'; 1 << 20];
        for _ in 0..15 {
            watched.note(&piece).unwrap();
        }
        assert_eq!(watched.end.len(), END_BYTES);
        assert!(watched.note(&piece).is_err());
        assert!(Watched::new(SdkBody::empty(), false).end().is_ok());
    }
}
