//! Bodies of requests: bytes that the caller holds, handed to the connection piece by piece.
//!
//! The caller's slices do not live long enough for the connection, which runs on threads of its own.
//! So the thread that waits for the answer copies them in pieces as the connection takes them: a pack
//! on its way costs a few pieces of memory, not a second pack, and is sent again from the same slices.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::limit::{pace, piece_bytes};
use super::pulse::Pulse;
use super::request::Asker;

/// Pieces that wait for the connection.
const WAITING: usize = 3;

/// What the connection reads from.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        // Ends early only when the request was given up.
        let piece = ready!(self.pieces.poll_recv(context));
        if let Some(piece) = &piece {
            self.left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Returns the number of bytes in all parts.
pub(super) fn length(parts: &[&[u8]]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// Returns the parts between two places of the whole.
pub(super) fn between<'a>(parts: &[&'a [u8]], from: u64, to: u64) -> Vec<&'a [u8]> {
    let mut place = 0;
    let mut found = Vec::new();
    for part in parts {
        let length = part.len() as u64;
        let start = from.clamp(place, place + length) - place;
        let end = to.clamp(place, place + length) - place;
        if start < end {
            found.push(&part[start as usize..end as usize]);
        }
        place += length;
    }
    found
}

impl Asker {
    /// Runs `send` with a body of `parts`, feeding the body meanwhile.
    pub(super) async fn sending<T>(
        &self,
        parts: &[&[u8]],
        pulse: &Pulse,
        send: impl AsyncFnOnce(ByteStream) -> T,
    ) -> T {
        let bytes = length(parts);
        if bytes == 0 {
            return send(ByteStream::from_static(b"")).await;
        }
        let (feed, pieces) = mpsc::channel(WAITING);
        let body = SdkBody::from_body_1_x(Pieces { pieces, left: bytes });
        let mut fed = false;
        let mut feeding = std::pin::pin!(self.feed(parts, bytes, feed, pulse));
        let mut sending = std::pin::pin!(send(ByteStream::new(body)));
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = sending.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            fed = fed || feeding.as_mut().poll(context).is_ready();
            Poll::Pending
        })
        .await
    }

    async fn feed(&self, parts: &[&[u8]], bytes: u64, feed: mpsc::Sender<Bytes>, pulse: &Pulse) {
        let limit = self.upload.as_ref();
        let full = piece_bytes(limit);
        let mut left = bytes;
        let mut piece = BytesMut::new();
        for mut part in parts.iter().copied() {
            while !part.is_empty() {
                if piece.is_empty() {
                    piece = BytesMut::with_capacity(full.min(left as usize));
                }
                let (now, later) = part.split_at(part.len().min(full - piece.len()));
                piece.extend_from_slice(now);
                part = later;
                left -= now.len() as u64;
                if piece.len() < full && left > 0 {
                    continue;
                }
                let ready = std::mem::take(&mut piece).freeze();
                let length = ready.len() as u64;
                pace(limit, length, pulse).await;
                if feed.send(ready).await.is_err() {
                    return;
                }
                pulse.hand_over(length, left == 0);
                self.line.meter.count_bytes(length, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_across_parts() {
        let parts: [&[u8]; 4] = [b"abc", b"", b"de", b"fghi"];
        assert_eq!(length(&parts), 9);
        for from in 0..10 {
            for to in from..10 {
                let found = between(&parts, from, to).concat();
                assert_eq!(found, &b"abcdefghi"[from as usize..to as usize], "{from}..{to}");
            }
        }
    }
}
