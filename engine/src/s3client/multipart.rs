//! Objects that go up in parts, and what unfinished uploads leave behind.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, StorageClass};

use super::action::Action;
use super::answers::Dating;
use super::body::{between, length};
use super::customer_key;
use super::explain::Place;
use super::failure::{Answer, Failure, Verdict};
use super::list::{Cursor, check_whole};
use super::put::{Creation, checksum, encryption, lock_mode, with_customer_key, with_settings};
use super::request::{Asker, Outcome, failed};
use crate::error::{Error, ErrorKind, Result};

/// The least a part has, but the last.
const PART_BYTES: u64 = 16 << 20;
/// Stores take no more parts.
const PARTS_MAX: u64 = 10_000;
/// Parts of one object under way at once.
const PARTS_AT_ONCE: usize = 4;
/// How often an upload is begun anew because another one got between.
const UPLOADS_MAX: u32 = 3;
/// An unfinished upload that is older was left behind: no living one takes a week.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

impl Asker {
    /// Creates an object from parts that go up at the same time.
    pub(super) async fn put_in_parts(
        &self,
        name: &str,
        parts: &[&[u8]],
        creation: &Creation<'_>,
    ) -> Result<()> {
        for number in 1.. {
            let upload = self.begin_upload(name, creation).await?;
            let finished = match self.send_parts(name, &upload, parts).await {
                Ok(sent) => self.finish_upload(name, &upload, sent, creation).await,
                Err(failure) => {
                    self.give_up(name, &upload).await;
                    return Err(self.error(Action::UploadPart, name, &failure));
                }
            };
            let Err(failure) = &finished.result else { return Ok(()) };
            let is_gone = failure.is("NoSuchUpload");
            if !is_gone {
                self.give_up(name, &upload).await;
            }
            // Of an upload that is done stores say that it is gone, or that nobody may finish it.
            let may_be_done = is_gone || failure.is("AccessDenied");
            if may_be_done && finished.uncertain && self.holds(name, parts).await? {
                return Ok(());
            }
            // A create of the same name got between: then the store wants all parts once more.
            let conflict = is_gone || failure.is("ConditionalRequestConflict");
            if !conflict || number == UPLOADS_MAX {
                return self.conclude(Action::CompleteUpload, name, parts, finished).await;
            }
        }
        unreachable!("the last upload returns")
    }

    async fn begin_upload(&self, name: &str, creation: &Creation<'_>) -> Result<String> {
        let key = self.key(name);
        let outcome = self.ask(Action::CreateUpload, async |_| {
            let request = self.s3.create_multipart_upload().bucket(&self.options.bucket).key(&key);
            let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32C);
            let request = with_settings!(request, self, creation);
            Box::pin(request.send()).await.map_err(failed)
        });
        let begun =
            outcome.await.result.map_err(|error| self.error(Action::CreateUpload, name, &error))?;
        begun.upload_id.ok_or_else(|| strange(&self.place, name, "an upload without an id"))
    }

    async fn send_parts(
        &self,
        name: &str,
        upload: &str,
        parts: &[&[u8]],
    ) -> Result<Vec<CompletedPart>, Failure> {
        let bytes = length(parts);
        let part_bytes = PART_BYTES.max(bytes.div_ceil(PARTS_MAX));
        let count = bytes.div_ceil(part_bytes);
        let next = Cell::new(0);
        let sent = RefCell::new(Vec::new());
        let work = async || {
            while next.get() < count {
                let number = next.replace(next.get() + 1);
                let from = number * part_bytes;
                let part = between(parts, from, (from + part_bytes).min(bytes));
                let part = self.send_part(name, upload, number as i32 + 1, &part).await;
                let part = part.inspect_err(|_| next.set(count))?;
                sent.borrow_mut().push(part);
            }
            Ok(())
        };
        let workers = PARTS_AT_ONCE.min(count as usize);
        all((0..workers).map(|_| work()).collect()).await?;
        let mut sent = sent.into_inner();
        sent.sort_by_key(|part| part.part_number);
        Ok(sent)
    }

    async fn send_part(
        &self,
        name: &str,
        upload: &str,
        number: i32,
        part: &[&[u8]],
    ) -> Result<CompletedPart, Failure> {
        let (key, crc, bytes) = (self.key(name), checksum(part), length(part));
        let outcome = self.ask(Action::UploadPart, async |pulse| {
            let request = self.s3.upload_part().bucket(&self.options.bucket).key(&key);
            let request = request
                .upload_id(upload)
                .part_number(number)
                .content_length(bytes as i64)
                .checksum_crc32_c(&crc)
                .checksum_algorithm(ChecksumAlgorithm::Crc32C);
            let request = with_customer_key!(request, self);
            let answer = self.sending(part, pulse, async |body| {
                Box::pin(request.body(body).customize().disable_payload_signing().send()).await
            });
            answer.await.map_err(failed)
        });
        let answer = outcome.await.result?;
        let done = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag);
        Ok(done.set_checksum_crc32_c(answer.checksum_crc32_c).build())
    }

    async fn finish_upload(
        &self,
        name: &str,
        upload: &str,
        sent: Vec<CompletedPart>,
        creation: &Creation<'_>,
    ) -> Outcome<()> {
        let key = self.key(name);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(sent)).build();
        self.ask(Action::CompleteUpload, async |_| {
            let request =
                self.s3.complete_multipart_upload().bucket(&self.options.bucket).key(&key);
            let request = request
                .upload_id(upload)
                .multipart_upload(parts.clone())
                .set_if_none_match(creation.if_none_match());
            let request = with_customer_key!(request, self);
            Box::pin(request.send()).await.map(drop).map_err(failed)
        })
        .await
    }

    /// Removes the parts of an upload that came to nothing. What fails is left for a clean-up.
    async fn give_up(&self, name: &str, upload: &str) {
        let key = self.key(name);
        let _ = self.abort(&key, upload).await;
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<(), Failure> {
        let outcome = self.ask(Action::AbortUpload, async |_| {
            let request = self.s3.abort_multipart_upload().bucket(&self.options.bucket).key(key);
            Box::pin(request.upload_id(upload).send()).await.map(drop).map_err(failed)
        });
        outcome.await.result
    }

    /// Aborts uploads below the prefix that were left behind, of names that are ours; returns how many. A
    /// store that does not list them, or does not let this program do so, has its own ways.
    pub(super) async fn abort_abandoned(&self, is_ours: impl Fn(&str) -> bool) -> Result<u64> {
        let mut aborted = 0;
        let mut cursor = Cursor::default();
        loop {
            let outcome = self.ask(Action::ListUploads, async |_| {
                let request = self.s3.list_multipart_uploads().bucket(&self.options.bucket);
                let request = request
                    .prefix(&self.options.prefix)
                    .set_key_marker(cursor.key.clone())
                    .set_upload_id_marker(cursor.version.clone());
                let dating = Dating::default();
                let request = request.customize().interceptor(dating.clone());
                let page = Box::pin(request.send()).await.map_err(failed)?;
                check_whole(page.is_truncated, None, 0)?;
                // Both times are of one clock: this host's may be wrong by weeks.
                Ok((page, dating.date().unwrap_or_else(SystemTime::now)))
            });
            let (page, now) = match outcome.await.result {
                Ok(found) => found,
                Err(Failure::Answer(answer)) if is_not_for_us(&answer) => return Ok(aborted),
                Err(failure) => return Err(self.error(Action::ListUploads, "", &failure)),
            };
            for upload in page.uploads() {
                let begun = upload.initiated().and_then(|time| SystemTime::try_from(*time).ok());
                let age = begun.and_then(|begun| now.duration_since(begun).ok());
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                // A prefix, or a bucket without one, may be shared with other programs.
                let name = key.strip_prefix(&self.options.prefix);
                if name.is_some_and(&is_ours) && age.is_some_and(|age| age > ABANDONED) {
                    aborted += u64::from(self.abort(key, id).await.is_ok());
                }
            }
            let first = page.uploads().first().and_then(|upload| upload.upload_id());
            let first = first.map(str::to_owned);
            let next = Cursor {
                key: page.next_key_marker,
                version: page.next_upload_id_marker,
                ..Cursor::default()
            };
            if page.is_truncated != Some(true) {
                return Ok(aborted);
            }
            cursor = cursor.advance(next, first, &self.place)?;
        }
    }
}

fn is_not_for_us(answer: &Answer) -> bool {
    answer.verdict() == Verdict::Final && answer.code != "NoSuchBucket"
}

fn strange(place: &Place, name: &str, found: &str) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("{}/{name}", place.location),
        format!("the store gave {found}"),
    )
}

/// Runs all to their end, or to the first failure.
async fn all<F: Future<Output = Result<(), Failure>>>(work: Vec<F>) -> Result<(), Failure> {
    use std::task::Poll;
    let mut work: Vec<_> = work.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        let mut failed = None;
        work.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                failed = failed.take().or(result.err());
                false
            }
        });
        match failed {
            Some(failure) => Poll::Ready(Err(failure)),
            None if work.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}
