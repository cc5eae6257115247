//! Reading packs: trailers, and whole packs.
//!
//! Packs are written by [`crate::pipeline`]; source of the layout: FORMAT.md 4.1.

use crate::backend::{Backend, Key};
use crate::error::{Error, Result};
use crate::format::index::IndexedPack;
use crate::format::pack::{FOOTER_LEN, decode_footer, decode_trailer};
use crate::format::{ChunkKind, HEADER_LEN, Header, ObjectKind, expect_header};
use crate::id::{PackId, RepositoryId};

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
    let header = Header::decode(&backend.get_range(&key, 0, HEADER_LEN)?, &object)?;
    let kind = match header.kind {
        ObjectKind::MetaPack => ChunkKind::Meta,
        _ => ChunkKind::Data,
    };
    expect_header(&header, &object, kind.pack(), Some(repository))?;
    let footer_at = bytes - FOOTER_LEN as u64;
    let footer = backend.get_range(&key, footer_at, FOOTER_LEN)?;
    let (length, checksum) =
        decode_footer(&footer).map_err(|error| error.in_object(object.clone()))?;
    if u64::from(length) > bytes - least {
        return Err(too_small());
    }
    let trailer = backend.get_range(&key, footer_at - u64::from(length), length as usize)?;
    let places =
        decode_trailer(&trailer, checksum, bytes).map_err(|error| error.in_object(object))?;
    Ok(IndexedPack { id, kind, places })
}

/// Returns how many bytes [`read_trailer`] reads of a pack with so many chunks.
pub fn trailer_bytes(chunks: usize) -> u64 {
    (HEADER_LEN + FOOTER_LEN + chunks * crate::format::pack::PLACE_LEN) as u64
}
