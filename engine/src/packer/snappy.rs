//! Snappy: a length, then literals and copies.

use std::cell::RefCell;

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{UNPACKED_BYTES_MAX, resize};

thread_local! {
    /// The encoder with its table, and room for the worst case: filling it with zeros for every slot
    /// would cost more than the copy out of it.
    static STATE: RefCell<(Encoder, Vec<u8>)> = RefCell::new((Encoder::new(), Vec::new()));
}

/// Makes `out` the payload of `unpacked`; returns whether it could.
pub(super) fn pack(unpacked: &[u8], out: &mut Vec<u8>) -> bool {
    STATE.with_borrow_mut(|(encoder, room)| {
        let most = max_compress_len(unpacked.len());
        if room.len() < most {
            room.resize(most, 0);
        }
        let packed = encoder.compress(unpacked, &mut room[..most]);
        out.clear();
        packed.is_ok_and(|length| {
            out.extend_from_slice(&room[..length]);
            true
        })
    })
}

/// Unpacks into the beginning of `out` and returns how many bytes.
pub(super) fn unpack(payload: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
    let declared = decompress_len(payload).map_err(|error| format!("Snappy: {error}"))?;
    if declared > UNPACKED_BYTES_MAX {
        return Err(format!(
            "Snappy: at most {UNPACKED_BYTES_MAX} unpacked bytes expected, found {declared} declared"
        ));
    }
    resize(out, declared);
    Decoder::new().decompress(payload, out).map_err(|error| format!("Snappy: {error}"))
}
