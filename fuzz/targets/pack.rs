//! Pack trailers: never a panic, and what is read is written the same.
#![no_main]
use colvault_engine::format::pack::{FOOTER_LEN, decode_footer, decode_trailer, encode_trailer, pack_length_of};
use colvault_engine::id::hash_stored;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_footer(bytes);
    if let Some((trailer, footer)) = bytes.split_last_chunk::<FOOTER_LEN>()
        && let Ok((_, checksum)) = decode_footer(footer)
    {
        let _ = decode_trailer(trailer, checksum, bytes.len() as u64);
    }
    // Behind the checksum: any bytes as a trailer that fits.
    let length = bytes.len() / 40 * 40;
    let trailer = &bytes[..length];
    for pack_length in [0, bytes.len() as u64, u64::MAX] {
        let _ = decode_trailer(trailer, hash_stored(&[trailer]), pack_length);
    }
    let stored: u64 = trailer
        .chunks_exact(40)
        .map(|place| u64::from(u32::from_le_bytes(place[32..36].try_into().unwrap())))
        .sum();
    let pack_length = 80 + stored + trailer.len() as u64 + FOOTER_LEN as u64;
    if let Ok(places) = decode_trailer(trailer, hash_stored(&[trailer]), pack_length) {
        assert_eq!(pack_length_of(&places), pack_length);
        assert_eq!(&encode_trailer(&places)[..length], trailer);
    }
});
