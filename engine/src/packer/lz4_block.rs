//! LZ4: one block without a frame. It does not say how much it unpacks to.

use std::cell::RefCell;

use lz4::block::{compress_bound, compress_to_buffer, decompress_to_buffer};

use super::{UNPACKED_BYTES_MAX, resize};

thread_local! {
    /// Room for the worst case, as for Snappy.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Makes `out` the payload of `unpacked`; returns whether it could.
pub(super) fn pack(unpacked: &[u8], out: &mut Vec<u8>) -> bool {
    ROOM.with_borrow_mut(|room| {
        out.clear();
        let Ok(most) = compress_bound(unpacked.len()) else { return false };
        if room.len() < most {
            room.resize(most, 0);
        }
        // No mode is `LZ4_compress_default`, which servers call.
        let packed = compress_to_buffer(unpacked, None, false, &mut room[..most]);
        packed.is_ok_and(|length| {
            out.extend_from_slice(&room[..length]);
            true
        })
    })
}

/// Unpacks into the beginning of `out` and returns how many bytes.
pub(super) fn unpack(payload: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
    resize(out, UNPACKED_BYTES_MAX);
    decompress_to_buffer(payload, Some(UNPACKED_BYTES_MAX as i32), out).map_err(|_| {
        format!("LZ4: a block of at most {UNPACKED_BYTES_MAX} unpacked bytes expected, found none")
    })
}
