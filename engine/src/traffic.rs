//! What was asked of a store and what it cost: requests and bytes, by class.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests as stores price them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// PUT, POST, COPY and the parts of multipart uploads.
    pub puts: u64,
    /// Pages of listings.
    pub lists: u64,
    /// GET of objects and of ranges.
    pub gets: u64,
    /// HEAD.
    pub heads: u64,
    /// DELETE, which is free.
    pub deletes: u64,
    /// Of all these, those that were sent again.
    pub retries: u64,
    /// Bytes of objects that were sent.
    pub sent: u64,
    /// Bytes of objects that were received.
    pub received: u64,
}

impl Traffic {
    /// Returns all requests.
    pub fn requests(&self) -> u64 {
        self.puts + self.lists + self.gets + self.heads + self.deletes
    }
}

/// Counts traffic from many threads.
#[derive(Debug, Default)]
pub struct Meter {
    puts: AtomicU64,
    lists: AtomicU64,
    gets: AtomicU64,
    heads: AtomicU64,
    deletes: AtomicU64,
    retries: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// The class of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// PUT, POST, COPY.
    Put,
    /// A page of a listing.
    List,
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// DELETE.
    Delete,
}

impl Meter {
    /// Counts a request; one that was sent again counts twice.
    pub fn count(&self, request: Request, is_retry: bool) {
        let counter = match request {
            Request::Put => &self.puts,
            Request::List => &self.lists,
            Request::Get => &self.gets,
            Request::Head => &self.heads,
            Request::Delete => &self.deletes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.retries.fetch_add(u64::from(is_retry), Ordering::Relaxed);
    }

    /// Counts bytes of objects that went out and came in.
    pub fn count_bytes(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    /// Returns what was counted.
    pub fn traffic(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            puts: get(&self.puts),
            lists: get(&self.lists),
            gets: get(&self.gets),
            heads: get(&self.heads),
            deletes: get(&self.deletes),
            retries: get(&self.retries),
            sent: get(&self.sent),
            received: get(&self.received),
        }
    }
}
