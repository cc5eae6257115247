//! Reading packs: trailers, and which chunks are read at once.
//!
//! Packs are written by [`crate::pipeline`]; source of the layout: FORMAT.md 4.1.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::backend::{Backend, Key};
use crate::error::{Error, Result};
use crate::format::index::IndexedPack;
use crate::format::pack::{FOOTER_LEN, decode_footer, decode_trailer};
use crate::format::{ChunkKind, HEADER_LEN, Header, ObjectKind, expect_header};
use crate::id::{PackId, RepositoryId};
use crate::index::Location;

/// One read takes at most this many bytes of a pack...
const READ_BYTES_MAX: u64 = 4 << 20;
/// ...that are at most this many raw bytes, unless one chunk alone is more...
const RAW_BYTES_MAX: u64 = 8 << 20;
/// ...and reads over gaps up to this long rather than asking twice.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Bytes at the end of a pack that are read first.
const TAIL_BYTES: u64 = 64 << 10;

/// Reads what a pack of `bytes` stored bytes says of itself: its kind and its chunks.
///
/// Reads header, footer and trailer, never the chunks. Fails with `NotFound`, `Unsupported`, or
/// `Corrupt` when header or trailer are not those of a pack of this repository.
pub fn read_trailer(
    backend: &dyn Backend,
    id: PackId,
    bytes: u64,
    repository: RepositoryId,
) -> Result<IndexedPack> {
    let key = Key::Pack(id);
    let read = &mut |offset, length| backend.get_range(&key, offset, length).map(Cow::Owned);
    trailer(read, id, bytes, repository)
}

/// Returns what a pack says of itself, all of whose bytes are there. Fails as [`read_trailer`].
pub fn trailer_of(pack: &[u8], id: PackId, repository: RepositoryId) -> Result<IndexedPack> {
    let read = &mut |offset: u64, length| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = pack.get(from..).and_then(|rest| rest.get(..length));
        let problem = "a pack as long as its trailer says expected";
        bytes.map(Cow::Borrowed).ok_or_else(|| Error::corrupt(Key::Pack(id).to_string(), problem))
    };
    trailer(read, id, pack.len() as u64, repository)
}

fn trailer<'p>(
    read: &mut dyn FnMut(u64, usize) -> Result<Cow<'p, [u8]>>,
    id: PackId,
    bytes: u64,
    repository: RepositoryId,
) -> Result<IndexedPack> {
    let key = Key::Pack(id);
    let object = key.to_string();
    let too_small = || {
        Error::corrupt(
            object.clone(),
            format!("header, trailer and footer expected in {bytes} bytes"),
        )
    };
    let least = (HEADER_LEN + FOOTER_LEN) as u64;
    if bytes < least {
        return Err(too_small());
    }
    let header = Header::decode(&read(0, HEADER_LEN)?, &object)?;
    let kind = match header.kind {
        ObjectKind::MetaPack => ChunkKind::Meta,
        _ => ChunkKind::Data,
    };
    expect_header(&header, &object, kind.pack(), Some(repository))?;
    // Most trailers come with their footer at once.
    let tail_at = bytes.saturating_sub(TAIL_BYTES).max(HEADER_LEN as u64);
    let footer_at = bytes - FOOTER_LEN as u64;
    let tail = read(tail_at, (bytes - tail_at) as usize)?;
    let footer = &tail[(footer_at - tail_at) as usize..];
    let (length, checksum) =
        decode_footer(footer).map_err(|error| error.in_object(object.clone()))?;
    if u64::from(length) > bytes - least {
        return Err(too_small());
    }
    let trailer_at = footer_at - u64::from(length);
    let trailer = match trailer_at.checked_sub(tail_at) {
        Some(from) => Cow::Borrowed(&tail[from as usize..][..length as usize]),
        None => read(trailer_at, length as usize)?,
    };
    let places =
        decode_trailer(&trailer, checksum, bytes).map_err(|error| error.in_object(object))?;
    Ok(IndexedPack { id, kind, places })
}

/// Returns how many bytes [`read_trailer`] reads of a pack with so many chunks.
pub fn trailer_bytes(chunks: usize) -> u64 {
    (HEADER_LEN + FOOTER_LEN + chunks * crate::format::pack::PLACE_LEN) as u64
}

/// Bytes of a pack from an offset on.
pub struct PackBytes {
    pack: PackId,
    offset: u64,
    bytes: Vec<u8>,
}

impl PackBytes {
    /// Takes over bytes of a pack that begin at `offset`.
    pub fn new(pack: PackId, offset: u64, bytes: Vec<u8>) -> Self {
        PackBytes { pack, offset, bytes }
    }

    /// Reads the bytes of a place. Fails as [`Backend::get_range`].
    pub fn read(backend: &dyn Backend, place: &PackRange) -> Result<Self> {
        let length = usize::try_from(place.end - place.offset).unwrap_or(usize::MAX);
        let bytes = backend.get_range(&Key::Pack(place.pack), place.offset, length)?;
        Ok(PackBytes::new(place.pack, place.offset, bytes))
    }

    /// Returns the stored bytes of a chunk, if they are among these.
    pub fn get(&self, location: &Location) -> Option<&[u8]> {
        let from = u64::from(location.offset).checked_sub(self.offset)?;
        let from = usize::try_from(from).ok().filter(|_| location.pack == self.pack)?;
        self.bytes.get(from..from.checked_add(location.stored_length as usize)?)
    }
}

/// A part of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRange {
    /// The pack.
    pub pack: PackId,
    /// Where it begins.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
}

impl PackRange {
    /// Returns where a stretch lies, from its first chunk to its last; an empty one lies nowhere.
    pub fn of<T>(stretch: &[T], location: impl Fn(&T) -> &Location) -> Option<Self> {
        let (first, last) = (location(stretch.first()?), location(stretch.last()?));
        Some(PackRange { pack: first.pack, offset: first.offset.into(), end: last.end() })
    }
}

/// Returns the pack in which most stored bytes of some chunks lie.
pub fn home(chunks: impl IntoIterator<Item = Location>) -> Option<PackId> {
    let mut stored: BTreeMap<PackId, u64> = BTreeMap::new();
    for location in chunks {
        *stored.entry(location.pack).or_default() += u64::from(location.stored_length);
    }
    stored.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(pack, _)| pack)
}

/// Groups what is to be read, sorted by pack and offset, into stretches that are read at once: in
/// the order given, none of them empty.
pub fn stretches<T>(wanted: Vec<T>, place: impl Fn(&T) -> &Location) -> Vec<Vec<T>> {
    let mut stretches: Vec<Vec<T>> = Vec::new();
    let mut raw_bytes = 0;
    for next in wanted {
        let at = place(&next);
        let raw = u64::from(at.raw_length);
        let fits = |stretch: &&mut Vec<T>| {
            stretch.first().zip(stretch.last()).is_some_and(|(first, last)| {
                let (first, last) = (place(first), place(last));
                first.pack == at.pack
                    && u64::from(at.offset) <= last.end() + GAP_BYTES_MAX
                    && at.end() - u64::from(first.offset) <= READ_BYTES_MAX
                    && raw_bytes + raw <= RAW_BYTES_MAX
            })
        };
        match stretches.last_mut().filter(fits) {
            Some(stretch) => {
                raw_bytes += raw;
                stretch.push(next);
            }
            None => {
                raw_bytes = raw;
                stretches.push(vec![next]);
            }
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_at_once_and_far_or_large_ones_are_not() {
        let location = |pack: u8, offset: u32, stored_length: u32, raw_length: u32| Location {
            pack: PackId([pack; 32]),
            offset,
            stored_length,
            raw_length,
        };
        let gap = u32::try_from(GAP_BYTES_MAX).unwrap();
        let wanted = vec![
            location(1, 80, 1000, 2000),
            // A gap that is read over, and one that is not.
            location(1, 1080 + gap, 1000, 2000),
            location(1, 2080 + 2 * gap + 1, 1000, 2000),
            // Another pack.
            location(2, 2080 + 2 * gap + 1, 3 << 20, 3 << 20),
            // Too long to be read with it, and then too many raw bytes.
            location(2, 2080 + 2 * gap + 1 + (3 << 20), 2 << 20, 2 << 20),
            location(2, 2080 + 2 * gap + 1 + (5 << 20), 1000, 7 << 20),
        ];
        let lengths: Vec<usize> =
            stretches(wanted, |location| location).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1, 1]);
    }
}
