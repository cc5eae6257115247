//! Reading objects: whole, in part, their length.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::ByteStream;
use tokio::task::{JoinError, JoinHandle};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;

use super::action::Action;
use super::customer_key;
use super::failure::{Failure, chain};
use super::limit::pace;
use super::pulse::Pulse;
use super::put::with_customer_key;
use super::request::{Asker, Line, failed};
use crate::error::{Error, ErrorKind, Result};

/// An answer that is not what was asked for, and will not be another time.
pub(super) enum Read<T> {
    /// What was asked for.
    Done(T),
    /// The object has another length than it must have.
    Length(u64),
}

impl Asker {
    /// Returns all bytes of an object, or its length where that is more than `bytes_max`.
    pub(super) async fn get(&self, name: &str, bytes_max: u64) -> Result<Read<Vec<u8>>> {
        self.get_whole(Action::Get, name, None, bytes_max).await
    }

    /// As [`Asker::get`], of one version, or of the latest.
    pub(super) async fn get_whole(
        &self,
        action: Action,
        name: &str,
        version: Option<&str>,
        bytes_max: u64,
    ) -> Result<Read<Vec<u8>>> {
        let key = self.key(name);
        let outcome = self.ask(action, async |pulse| {
            let request = self.s3.get_object().bucket(&self.options.bucket).key(&key);
            let request = request.set_version_id(version.map(str::to_owned));
            let request = with_customer_key!(request, self);
            let answer = Box::pin(request.send()).await.map_err(not_given)?;
            let announced = announced(answer.content_length)?;
            if announced > bytes_max {
                return Ok(Read::Length(announced));
            }
            Ok(Read::Done(self.receive(answer.body, announced, pulse).await?))
        });
        outcome.await.result.map_err(|failure| self.error(action, name, &failure))
    }

    /// Returns `length` bytes from `offset`, or the object's length where it ends before; unless
    /// `exact`, what there is of them.
    pub(super) async fn get_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
        exact: bool,
    ) -> Result<Read<Vec<u8>>> {
        let wanted = length as u64;
        let end = offset.checked_add(wanted).filter(|_| length > 0);
        let Some(end) = end else { return self.beyond(name, offset, wanted).await };
        let key = self.key(name);
        let outcome = self.ask(Action::Get, async |pulse| {
            let request = self.s3.get_object().bucket(&self.options.bucket).key(&key);
            let request = request.range(format!("bytes={offset}-{}", end - 1));
            let request = with_customer_key!(request, self);
            let answer = Box::pin(request.send()).await.map_err(not_given)?;
            let announced = announced(answer.content_length)?;
            match answer.content_range.as_deref().and_then(parse_range) {
                Some((_, total)) if total < end && exact => return Ok(Read::Length(total)),
                Some((from, total)) if from == offset && from + announced == end.min(total) => {}
                found => return Err(other_range(found, answer.content_range.as_deref())),
            }
            Ok(Read::Done(self.receive(answer.body, announced, pulse).await?))
        });
        match outcome.await.result {
            Ok(read) => Ok(read),
            Err(failure) if failure.has_status(416) => self.beyond(name, offset, wanted).await,
            Err(failure) => Err(self.error(Action::Get, name, &failure)),
        }
    }

    /// What a range means that no request can be made for, or that the object does not have.
    async fn beyond(&self, name: &str, offset: u64, wanted: u64) -> Result<Read<Vec<u8>>> {
        let found = self.length(name).await?;
        match offset.checked_add(wanted) {
            Some(end) if end <= found && wanted == 0 => Ok(Read::Done(Vec::new())),
            _ => Ok(Read::Length(found)),
        }
    }

    /// Returns an object's length.
    pub(super) async fn length(&self, name: &str) -> Result<u64> {
        let outcome = self.head(name).await;
        outcome.map_err(|failure| self.error(Action::Head, name, &failure))
    }

    /// Returns an object's length, if there is such an object.
    pub(super) async fn find(&self, name: &str) -> Result<Option<u64>> {
        match self.head(name).await {
            Ok(length) => Ok(Some(length)),
            Err(failure) => {
                let error = self.error(Action::Head, name, &failure);
                if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn head(&self, name: &str) -> Result<u64, Failure> {
        let key = self.key(name);
        let outcome = self.ask(Action::Head, async |_| {
            let request = self.s3.head_object().bucket(&self.options.bucket).key(&key);
            let request = with_customer_key!(request, self);
            let answer = Box::pin(request.send()).await.map_err(failed)?;
            announced(answer.content_length)
        });
        outcome.await.result
    }

    /// Whether an object consists of these bytes.
    pub(super) async fn holds(&self, name: &str, parts: &[&[u8]]) -> Result<bool> {
        let wanted = super::body::length(parts);
        if self.find(name).await? != Some(wanted) {
            return Ok(false);
        }
        let key = self.key(name);
        let outcome = self.ask(Action::Get, async |pulse| {
            let request = self.s3.get_object().bucket(&self.options.bucket).key(&key);
            let request = with_customer_key!(request, self);
            let answer = Box::pin(request.send()).await.map_err(failed)?;
            let mut place = 0;
            let mut same = true;
            let compare = |piece: &[u8]| {
                let end = place + piece.len() as u64;
                let mut rest = piece;
                for part in super::body::between(parts, place, end) {
                    let (head, tail) = rest.split_at(part.len().min(rest.len()));
                    same &= head == part;
                    rest = tail;
                }
                same &= rest.is_empty();
                place = end;
            };
            each_piece(&self.line, answer.body, wanted, pulse, compare).await?;
            Ok(same)
        });
        outcome.await.result.map_err(|failure| self.error(Action::Get, name, &failure))
    }

    /// Reads a body of `bytes` into memory.
    pub(super) async fn receive(
        &self,
        body: ByteStream,
        bytes: u64,
        pulse: &Arc<Pulse>,
    ) -> Result<Vec<u8>, Failure> {
        let waiting = self.permits.memory(bytes);
        // Who waits for others to be read is not stuck; a store may lose patience and is asked again.
        let _memory = keep_beating(pulse, waiting).await;
        let (line, pulse) = (Arc::clone(&self.line), Arc::clone(pulse));
        // By a thread of the runtime: to wake this one for every few kilobytes costs more than the
        // reading.
        let reading = tokio::spawn(async move {
            let mut all = Vec::with_capacity(bytes as usize);
            each_piece(&line, body, bytes, &pulse, |piece| all.extend_from_slice(piece)).await?;
            Ok(all)
        });
        let lost = |error| Failure::Lost(format!("the reading ended: {error}"));
        Ended(reading).await.unwrap_or_else(|error| Err(lost(error)))
    }
}

/// Work that ends when nobody waits for it any more.
struct Ended<T>(JoinHandle<T>);

impl<T> Future for Ended<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads a body that must have `bytes`, not faster than the limit.
async fn each_piece(
    line: &Line,
    mut body: ByteStream,
    bytes: u64,
    pulse: &Pulse,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Failure> {
    let mut received = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            Failure::Lost(format!("{received} of {bytes} bytes came: {}", chain(&error)))
        })?;
        let length = piece.len() as u64;
        pulse.receive(length);
        received += length;
        if received > bytes {
            break;
        }
        line.meter.count_bytes(0, length);
        each(&piece);
        pace(line.download.as_ref(), length, pulse).await;
    }
    match received == bytes {
        true => Ok(()),
        false => Err(Failure::Lost(format!("{bytes} bytes were announced, {received} came"))),
    }
}

/// Waits for something that is not the store's doing.
async fn keep_beating<T>(pulse: &Pulse, waiting: impl Future<Output = T>) -> T {
    let mut waiting = std::pin::pin!(waiting);
    let second = std::time::Duration::from_secs(1);
    loop {
        let got = tokio::time::timeout(second, waiting.as_mut()).await;
        pulse.beat();
        if let Ok(got) = got {
            return got;
        }
    }
}

/// As [`failed`], with the class of an object that lies in an archive.
fn not_given(error: SdkError<GetObjectError, HttpResponse>) -> Failure {
    let class = match error.as_service_error() {
        Some(GetObjectError::InvalidObjectState(state)) => state.storage_class().cloned(),
        _ => None,
    };
    let mut failure = failed(error);
    if let (Failure::Answer(answer), Some(class)) = (&mut failure, class) {
        answer.message = format!("storage class {}, {}", class.as_str(), answer.message);
    }
    failure
}

/// Returns the length that an answer announces: nothing is read without knowing how much it is.
pub(super) fn announced(length: Option<i64>) -> Result<u64, Failure> {
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Failure::Local("the store does not say how long the object is".to_owned()))
}

/// Reads `bytes 3-6/10` as where it begins and how long the object is.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()?))
}

fn other_range(found: Option<(u64, u64)>, said: Option<&str>) -> Failure {
    match (found, said) {
        (None, None) => Failure::Local("the store does not give ranges of objects".to_owned()),
        _ => Failure::Lost(format!("the store gave another range: {}", said.unwrap_or_default())),
    }
}

/// Makes the error for a store that contradicts itself.
pub(super) fn contradiction(location: &str, what: &str) -> Error {
    Error::new(ErrorKind::Io, location, format!("the store contradicts itself: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_store_writes_them() {
        assert_eq!(parse_range("bytes 3-6/10"), Some((3, 10)));
        for bad in ["", "bytes", "bytes 3-6/*", "bytes */10", "bytes x-6/10", "items 3-6/10"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
