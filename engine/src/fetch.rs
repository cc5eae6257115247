//! Long reads of packs where each read waits for a store: one request brings several stretches, several
//! are under way at once, and what has come and is not used yet is bounded.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::backend::{Backend, is_unanswered};
use crate::error::Error;
use crate::pack::{PackBytes, PackRange};

/// One request brings at most this many bytes, unless one stretch alone is more...
const FETCH_BYTES_MAX: u64 = 36 << 20;
/// ...and reads over gaps up to this long: less than comes while a store thinks of its answer.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// Bytes that are on their way, or have come and are not used yet.
const HELD_BYTES_MAX: u64 = 160 << 20;

/// Something that is read from one pack at once.
pub trait Stretch {
    /// Returns where it lies; nowhere, where it is empty.
    fn place(&self) -> Option<PackRange>;
}

/// Bytes of a pack, held until the last stretch in them is done with.
pub struct Fetched {
    bytes: PackBytes,
    _share: Share,
}

impl Fetched {
    /// Returns the bytes.
    pub fn bytes(&self) -> &PackBytes {
        &self.bytes
    }
}

/// What came of a stretch.
pub enum Arrival {
    /// Nothing was asked for: the backend is near, and whoever uses the stretch reads it.
    Near,
    /// Its bytes.
    Came(Arc<Fetched>),
    /// The object is not there or not as long; or it is not wanted any more.
    Unreadable,
    /// The store gave no answer.
    Unanswered(Error),
}

/// Takes stretches to read.
pub struct Fetcher<'f, S> {
    take: &'f (dyn Fn(S, Arrival) + Sync),
    requests: Option<Sender<Request<S>>>,
}

/// One request, and what it is for.
struct Request<S> {
    place: PackRange,
    stretches: Vec<S>,
}

/// Calls `body` with a fetcher; for every stretch it is given, `take` is called once with what came of
/// it: at a near backend at once and on the same thread, else on a thread that reads, several at once
/// and in no order. What is not `wanted` any more is not asked for. Returns when all were taken.
pub fn fetching<S: Stretch + Send, R>(
    backend: &dyn Backend,
    wanted: &(dyn Fn() -> bool + Sync),
    take: &(dyn Fn(S, Arrival) + Sync),
    body: impl FnOnce(Fetcher<'_, S>) -> R,
) -> R {
    let Some(at_once) = backend.reads_at_once() else {
        return body(Fetcher { take, requests: None });
    };
    let (give, requests) = channel();
    let requests = Mutex::new(requests);
    let held = Arc::new(Held::default());
    std::thread::scope(|threads| {
        for _ in 0..at_once.max(1) {
            threads.spawn(|| {
                while let Some((request, share)) = next(&requests, &held) {
                    answer(backend, wanted, take, request, share);
                }
            });
        }
        body(Fetcher { take, requests: Some(give) })
    })
}

impl<S: Stretch> Fetcher<'_, S> {
    /// Has stretches read, sorted by pack and offset.
    pub fn fetch(&self, stretches: impl IntoIterator<Item = S>) {
        let Some(give) = &self.requests else {
            stretches.into_iter().for_each(|stretch| (self.take)(stretch, Arrival::Near));
            return;
        };
        for request in requests(stretches) {
            // Those who read end after this fetcher, not before.
            let _ = give.send(request);
        }
    }
}

/// Puts stretches that lie close together into one request.
fn requests<S: Stretch>(stretches: impl IntoIterator<Item = S>) -> Vec<Request<S>> {
    let mut requests: Vec<Request<S>> = Vec::new();
    for stretch in stretches {
        let Some(place) = stretch.place() else { continue };
        let fits = |Request { place: so_far, .. }: &&mut Request<S>| {
            so_far.pack == place.pack
                && (so_far.offset..=so_far.end + GAP_BYTES_MAX).contains(&place.offset)
                && place.end - so_far.offset <= FETCH_BYTES_MAX
        };
        match requests.last_mut().filter(fits) {
            Some(request) => {
                request.place.end = request.place.end.max(place.end);
                request.stretches.push(stretch);
            }
            None => requests.push(Request { place, stretches: vec![stretch] }),
        }
    }
    requests
}

/// Takes the next request, and its share of the memory: whoever came first, gets it first.
fn next<S>(
    requests: &Mutex<Receiver<Request<S>>>,
    held: &Arc<Held>,
) -> Option<(Request<S>, Share)> {
    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    let request = requests.recv().ok()?;
    let share = Held::share(held, request.place.end - request.place.offset);
    Some((request, share))
}

fn answer<S>(
    backend: &dyn Backend,
    wanted: &(dyn Fn() -> bool + Sync),
    take: &(dyn Fn(S, Arrival) + Sync),
    request: Request<S>,
    share: Share,
) {
    let Request { place, stretches } = request;
    let fetched = match wanted().then(|| PackBytes::read(backend, &place)) {
        Some(Ok(bytes)) => Ok(Arc::new(Fetched { bytes, _share: share })),
        Some(Err(error)) => Err(is_unanswered(backend, &error).then_some(error)),
        None => Err(None),
    };
    for stretch in stretches {
        let arrival = match &fetched {
            Ok(fetched) => Arrival::Came(Arc::clone(fetched)),
            Err(None) => Arrival::Unreadable,
            Err(Some(error)) => Arrival::Unanswered(error.repeat()),
        };
        take(stretch, arrival);
    }
}

/// Bytes that are held at once.
#[derive(Default)]
struct Held {
    bytes: Mutex<u64>,
    less: Condvar,
}

/// A part of them, until it is dropped.
struct Share {
    of: Arc<Held>,
    bytes: u64,
}

impl Held {
    /// Waits until there is room. A request that is more than there is of it waits to be the only one.
    fn share(held: &Arc<Held>, bytes: u64) -> Share {
        let now = held.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let too_many = |now: &mut u64| *now > 0 && *now + bytes > HELD_BYTES_MAX;
        *held.less.wait_while(now, too_many).unwrap_or_else(PoisonError::into_inner) += bytes;
        Share { of: Arc::clone(held), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *self.of.bytes.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.of.less.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::backend::{Key, Listed, Space};
    use crate::error::{ErrorKind, Result};
    use crate::id::PackId;
    use crate::index::Location;

    /// A stretch, and its number.
    struct Piece {
        number: usize,
        place: PackRange,
    }

    impl Stretch for Piece {
        fn place(&self) -> Option<PackRange> {
            Some(self.place)
        }
    }

    fn piece(number: usize, pack: u8, offset: u64, length: u64) -> Piece {
        let place = PackRange { pack: PackId([pack; 32]), offset, end: offset + length };
        Piece { number, place }
    }

    /// A store in which each byte of a pack is its number; packs 200 and up are not there.
    #[derive(Default)]
    struct Far {
        near: bool,
        down: AtomicBool,
        asked: AtomicU64,
    }

    impl Backend for Far {
        fn location(&self) -> String {
            "far".to_owned()
        }
        fn put_new(&self, _: &Key, _: &[&[u8]]) -> Result<()> {
            unreachable!("nothing is written")
        }
        fn get(&self, _: &Key, _: u64) -> Result<Vec<u8>> {
            unreachable!("packs are read by ranges")
        }
        fn get_range(&self, key: &Key, _: u64, length: usize) -> Result<Vec<u8>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match key {
                Key::Pack(id) if id.0[0] < 200 && !self.down.load(Ordering::SeqCst) => {
                    Ok(vec![id.0[0]; length])
                }
                _ if self.down.load(Ordering::SeqCst) => {
                    Err(Error::new(ErrorKind::Io, key.to_string(), "no line"))
                }
                _ => Err(Error::new(ErrorKind::NotFound, key.to_string(), "not there")),
            }
        }
        fn list(&self, _: Space, _: &mut dyn FnMut(Listed)) -> Result<()> {
            unreachable!("nothing is listed")
        }
        fn length(&self, _: &Key) -> Result<u64> {
            unreachable!("nothing is asked for its length")
        }
        fn delete(&self, _: &Key) -> Result<()> {
            unreachable!("nothing is deleted")
        }
        fn reads_at_once(&self) -> Option<usize> {
            (!self.near).then_some(5)
        }
    }

    /// What came of each piece: its first byte, or a word.
    fn fetch(
        far: &Far,
        wanted: &(dyn Fn() -> bool + Sync),
        pieces: Vec<Piece>,
    ) -> BTreeMap<usize, String> {
        let came = Mutex::new(BTreeMap::new());
        let take = |piece: Piece, arrival| {
            let PackRange { pack, offset, end } = piece.place;
            let location = Location {
                pack,
                offset: offset as u32,
                stored_length: (end - offset) as u32,
                raw_length: 1,
            };
            let what = match &arrival {
                Arrival::Near => "near".to_owned(),
                Arrival::Came(fetched) => {
                    let bytes = fetched.bytes().get(&location).expect("all of it came");
                    assert_eq!(bytes.len() as u64, end - offset);
                    let other = Location { pack: PackId([0; 32]), ..location };
                    assert!(fetched.bytes().get(&other).is_none(), "of another pack");
                    bytes[0].to_string()
                }
                Arrival::Unreadable => "unreadable".to_owned(),
                Arrival::Unanswered(error) => error.problem().to_owned(),
            };
            assert!(came.lock().unwrap().insert(piece.number, what).is_none(), "taken twice");
        };
        fetching(far, wanted, &take, |fetcher| fetcher.fetch(pieces));
        came.into_inner().unwrap()
    }

    /// Catches requests for stretches that lie far apart or in several packs, longer than they may be, and
    /// many short ones where one would do.
    #[test]
    fn neighbours_come_with_one_request() {
        let gap = GAP_BYTES_MAX;
        let pieces = [
            piece(0, 1, 100, 1000),
            piece(1, 1, 1100 + gap, 1000),
            piece(2, 1, 2101 + 2 * gap, 1000),
            piece(3, 2, 3101 + 2 * gap, 1000),
            piece(4, 2, 4101 + 2 * gap, FETCH_BYTES_MAX - 1000),
            piece(5, 2, 3101 + 2 * gap + FETCH_BYTES_MAX, 1),
            piece(6, 3, 0, 2 * FETCH_BYTES_MAX),
            piece(7, 1, 50, 10),
        ];
        let asked: Vec<(u64, u64, usize)> = requests(pieces)
            .iter()
            .map(|Request { place, stretches }| {
                (place.offset, place.end - place.offset, stretches.len())
            })
            .collect();
        let far = 2101 + 2 * gap;
        assert_eq!(
            asked,
            [
                (100, 2000 + gap, 2),
                (far, 1000, 1),
                (far + 1000, FETCH_BYTES_MAX, 2),
                (far + 1000 + FETCH_BYTES_MAX, 1, 1),
                (0, 2 * FETCH_BYTES_MAX, 1),
                (50, 10, 1),
            ]
        );
    }

    /// Catches a stretch that is lost or taken twice, an object that is gone taken for a store that gives no
    /// answer, and the other way round.
    #[test]
    fn every_stretch_is_taken_once_with_what_came_of_it() {
        let pieces =
            || (0..60).map(|n| piece(n, 190 + n as u8 / 3, 1000 * n as u64, 500)).collect();
        let always = || true;
        let came = fetch(&Far::default(), &always, pieces());
        assert_eq!(came.len(), 60);
        for (n, what) in &came {
            let pack = 190 + n / 3;
            assert_eq!(*what, if pack < 200 { pack.to_string() } else { "unreadable".to_owned() });
        }
        let down = Far { down: true.into(), ..Far::default() };
        let came = fetch(&down, &always, pieces());
        assert!(came.len() == 60 && came.values().all(|what| what == "no line"), "{came:?}");
        let near = Far { near: true, ..Far::default() };
        let came = fetch(&near, &always, pieces());
        assert!(came.len() == 60 && came.values().all(|what| what == "near"), "{came:?}");
        assert_eq!(near.asked.into_inner(), 0, "whoever uses it reads it");
        let unwanted = Far::default();
        let came = fetch(&unwanted, &|| false, pieces());
        assert!(came.len() == 60 && came.values().all(|what| what == "unreadable"), "{came:?}");
        assert_eq!(unwanted.asked.into_inner(), 0, "nobody wants it any more");
    }

    /// Catches memory that grows with what is to be read, and a reader that waits for ever.
    #[test]
    fn what_is_held_is_bounded() {
        let held = Arc::new(Held::default());
        let first = Held::share(&held, HELD_BYTES_MAX - 10);
        let fits = Held::share(&held, 10);
        let waits = std::thread::spawn({
            let held = Arc::clone(&held);
            move || {
                let share = Held::share(&held, 3 * HELD_BYTES_MAX);
                assert_eq!(share.bytes, *held.bytes.lock().unwrap(), "it is the only one");
            }
        });
        assert_eq!(*held.bytes.lock().unwrap(), HELD_BYTES_MAX);
        drop(first);
        assert!(!waits.is_finished(), "more than there is has to wait for all");
        drop(fits);
        waits.join().unwrap();
        assert_eq!(*held.bytes.lock().unwrap(), 0);
    }
}
