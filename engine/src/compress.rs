//! Raw bytes to stored bytes and back. The door to zstd.
//!
//! A stored chunk is one codec byte and its bytes (FORMAT.md 4.1). A chunk that compresses by less
//! than 3 % is stored raw: it would cost time at every restore and save nothing.

use zstd::zstd_safe::CParameter;

use crate::error::{Error, ErrorKind, Result};
use crate::transform::{self, Parts, Transform};

const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Followed by the byte of a transform, the codec of the transformed bytes (raw or zstd), and these.
const TYPED: u8 = 3;

/// Bytes of a block of zstd, at least and at most.
const ZSTD_BLOCK_MIN: usize = 1 << 10;
const ZSTD_BLOCK_MAX: usize = 128 << 10;

/// The zstd level for new chunks. Measured: docs/ARCHITECTURE.md, "Compression".
pub const ZSTD_LEVEL: i32 = 1;

/// How much work new chunks are worth: the choice of a repository's users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// A fifth faster on columns, a third more bytes.
    Fast,
    /// [`ZSTD_LEVEL`].
    #[default]
    Default,
    /// A sixteenth fewer bytes at a thirtieth of the speed: for what is kept long and written once.
    Max,
}

impl Compression {
    /// Returns the level of zstd. Measured: docs/ARCHITECTURE.md, "Transforms".
    pub fn level(self) -> i32 {
        match self {
            Compression::Fast => -5,
            Compression::Default => ZSTD_LEVEL,
            Compression::Max => 15,
        }
    }

    /// Returns its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Fast => "fast",
            Compression::Default => "default",
            Compression::Max => "max",
        }
    }
}

/// Compresses chunks; one for each thread, since it keeps its working memory.
pub struct Compressor {
    context: zstd::bulk::Compressor<'static>,
    transformed: Vec<u8>,
    sample: Vec<u8>,
}

impl Compressor {
    /// Makes one at [`ZSTD_LEVEL`].
    pub fn new() -> Self {
        Self::with_level(ZSTD_LEVEL)
    }

    /// Makes one at a level of zstd.
    ///
    /// Panics when zstd does not know the level.
    pub fn with_level(level: i32) -> Self {
        let range = zstd::compression_level_range();
        assert!(range.contains(&level), "{level} is no level of zstd");
        let context = zstd::bulk::Compressor::new(level).expect("zstd gives a context");
        Compressor { context, transformed: Vec::new(), sample: Vec::new() }
    }

    /// Appends the stored form of `raw` to `out` and returns its length: codec byte included, at
    /// most `raw.len() + 1`.
    pub fn store(&mut self, raw: &[u8], out: &mut Vec<u8>) -> usize {
        self.store_typed(raw, Transform::NONE, out)
    }

    /// Appends the stored form of `raw` to `out` as [`Compressor::store`] does, with the
    /// transformed bytes compressed.
    pub fn store_typed(&mut self, raw: &[u8], transform: Transform, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let worth = if transform == Transform::NONE {
            let whole = Parts { ends: [raw.len(); 3], plane: raw.len() };
            compress(&mut self.context, raw, whole, &[ZSTD], out)
        } else {
            let parts = transform.apply(raw, &mut self.transformed);
            let head = [TYPED, transform.byte(), ZSTD];
            compress(&mut self.context, &self.transformed, parts, &head, out)
        };
        if !worth {
            out.push(RAW);
            out.extend_from_slice(raw);
        }
        out.len() - start
    }

    /// Chooses how the blocks of an unpacked slot are transformed, from a small sample of it.
    ///
    /// `width` is that of the segment file's header, 0 for a dictionary. The same slot and level
    /// give the same transform. Cost: docs/ARCHITECTURE.md, "Transforms".
    pub fn choose(&mut self, slot: &[u8], width: u64) -> Transform {
        transform::choose(slot, width, &mut |sample, parts| {
            self.sample.clear();
            match compress(&mut self.context, sample, parts, &[], &mut self.sample) {
                true => self.sample.len(),
                false => sample.len(),
            }
        })
    }
}

/// Appends `head` and a zstd frame for each part to `out`, or nothing and returns false when that
/// saves less than 3 %.
///
/// A block of a frame has one table of literals: so it ends where a plane ends.
fn compress(
    context: &mut zstd::bulk::Compressor<'_>,
    raw: &[u8],
    parts: Parts,
    head: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    // Room for the result that is worth having; zstd says when it does not fit.
    let room = (raw.len() - raw.len() / 32).saturating_sub(head.len().max(1));
    if room == 0 {
        return false;
    }
    out.extend_from_slice(head);
    out.resize(start + head.len() + room, 0);
    let frames = &mut out[start + head.len()..];
    let plane = parts.plane.clamp(ZSTD_BLOCK_MIN, ZSTD_BLOCK_MAX) as u32;
    context.set_parameter(CParameter::MaxBlockSize(plane)).expect("a size zstd knows");
    let (mut from, mut length) = (0, Some(0));
    for end in parts.ends {
        let part = &raw[std::mem::replace(&mut from, end)..end];
        if !part.is_empty() {
            length = length.and_then(|length| {
                Some(length + context.compress_to_buffer(part, &mut frames[length..]).ok()?)
            });
        }
    }
    out.truncate(length.map_or(start, |length| start + head.len() + length));
    length.is_some()
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

/// Decompresses chunks; one for each thread.
pub struct Decompressor {
    context: zstd::bulk::Decompressor<'static>,
    buffer: Vec<u8>,
    transformed: Vec<u8>,
}

impl Decompressor {
    /// Makes one.
    pub fn new() -> Self {
        let context = zstd::bulk::Decompressor::new().expect("zstd gives a context");
        Decompressor { context, buffer: Vec::new(), transformed: Vec::new() }
    }

    /// Returns the raw bytes of a stored chunk that must have `raw_length` of them.
    ///
    /// Fails with `Corrupt` when they are not there, with `Unsupported` on an unknown codec. The
    /// caller verifies the hash.
    pub fn open<'a>(
        &'a mut self,
        stored: &'a [u8],
        raw_length: u32,
        object: &str,
    ) -> Result<&'a [u8]> {
        if let Some((&RAW, raw)) = stored.split_first() {
            return same_length(raw.len(), raw_length as usize, object).map(|()| raw);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(raw_length as usize, 0);
        let opened = self.open_into(stored, &mut buffer, object);
        self.buffer = buffer;
        opened.map(|()| &self.buffer[..])
    }

    /// Fills `raw` with the raw bytes of a stored chunk that must have exactly as many.
    ///
    /// Fails as [`Decompressor::open`]; what `raw` holds then is of no meaning.
    pub fn open_into(&mut self, stored: &[u8], raw: &mut [u8], object: &str) -> Result<()> {
        let (&codec, bytes) = stored
            .split_first()
            .ok_or_else(|| Error::corrupt(object, "codec byte expected, found nothing"))?;
        match codec {
            TYPED => self.open_typed(bytes, raw, object),
            _ => open_plain(&mut self.context, codec, bytes, raw, object),
        }
    }

    fn open_typed(&mut self, bytes: &[u8], raw: &mut [u8], object: &str) -> Result<()> {
        let Some((&[transform, codec], bytes)) = bytes.split_first_chunk() else {
            return Err(Error::corrupt(object, "transform and codec expected, found the end"));
        };
        let transform = Transform::from_byte(transform).ok_or_else(|| {
            let found = format!("a known transform expected, found {transform:#04x}");
            Error::new(ErrorKind::Unsupported, object, found)
        })?;
        self.transformed.resize(raw.len(), 0);
        open_plain(&mut self.context, codec, bytes, &mut self.transformed, object)?;
        assert!(transform.undo(&self.transformed, raw), "both have the length of the raw bytes");
        Ok(())
    }
}

fn open_plain(
    context: &mut zstd::bulk::Decompressor<'_>,
    codec: u8,
    bytes: &[u8],
    raw: &mut [u8],
    object: &str,
) -> Result<()> {
    match codec {
        RAW => {
            same_length(bytes.len(), raw.len(), object)?;
            raw.copy_from_slice(bytes);
            Ok(())
        }
        ZSTD => {
            let length = context.decompress_to_buffer(bytes, raw).map_err(|error| {
                Error::corrupt(object, "zstd cannot decompress it").caused_by(error)
            })?;
            same_length(length, raw.len(), object)
        }
        other => Err(Error::new(
            ErrorKind::Unsupported,
            object,
            format!("codec 0 (raw), 1 (zstd) or 3 (typed) expected, found {other}"),
        )),
    }
}

fn same_length(found: usize, expected: usize, object: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::corrupt(object, format!("{expected} raw bytes expected, found {found}")))
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn compressible_and_random_bytes_come_back() {
        let random: Vec<u8> = (0..4000u32)
            .flat_map(|n| crate::id::hash_stored(&[&n.to_le_bytes()])[..8].to_vec())
            .collect();
        let mut compressor = Compressor::new();
        for (raw, codec) in [(vec![7; 100_000], ZSTD), (random, RAW), (vec![1], RAW)] {
            let mut out = b"before".to_vec();
            let length = compressor.store(&raw, &mut out);
            let stored = &out[6..];
            assert_eq!((length, stored[0]), (stored.len(), codec));
            let mut decompressor = Decompressor::new();
            let raw_length = u32::try_from(raw.len()).unwrap();
            assert_eq!(decompressor.open(stored, raw_length, "c").unwrap(), raw);
            assert!(decompressor.open(stored, raw_length + 1, "c").is_err());
            assert!(decompressor.open(&stored[..stored.len() / 2], raw_length, "c").is_err());
        }
    }

    /// Catches a typed chunk that does not come back, one that grows, and bytes that are no chunk
    /// and make the reader panic.
    #[test]
    fn typed_chunks_come_back() {
        let numbers: Vec<u8> = (0..20_000u64).flat_map(|n| (n * 37).to_le_bytes()).collect();
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        for transform in (0..=255).filter_map(Transform::from_byte) {
            for length in [160_000, 159_997, 5, 1] {
                let raw = &numbers[..length];
                let mut stored = Vec::new();
                let written = compressor.store_typed(raw, transform, &mut stored);
                assert!(written == stored.len() && written <= length + 1);
                let length = length as u32;
                assert_eq!(decompressor.open(&stored, length, "c").unwrap(), raw, "{transform:?}");
                assert!(decompressor.open(&stored, length + 1, "c").is_err());
                for cut in 0..stored.len().min(40) {
                    assert!(decompressor.open(&stored[..cut], length, "c").is_err());
                }
            }
        }
        let best = Transform::delta(8).unwrap();
        let mut stored = Vec::new();
        assert!(compressor.store_typed(&numbers, best, &mut stored) < numbers.len() / 1000);
        assert_eq!(stored[..3], [TYPED, best.byte(), ZSTD]);
        let plain = [TYPED, 0x11, RAW, 1, 3, 2, 4];
        assert_eq!(decompressor.open(&plain, 4, "c").unwrap(), [1, 2, 3, 4]);
        for (chunk, kind) in [
            (&[TYPED][..], ErrorKind::Corrupt),
            (&[TYPED, 0x13], ErrorKind::Corrupt),
            (&[TYPED, 0x15, RAW, 1], ErrorKind::Unsupported),
            (&[TYPED, 0x13, TYPED, 1], ErrorKind::Unsupported),
            (&[TYPED, 0x13, RAW, 1, 2], ErrorKind::Corrupt),
            (&[TYPED, 0x13, ZSTD, 1, 2], ErrorKind::Corrupt),
        ] {
            assert_eq!(decompressor.open(chunk, 1, "c").unwrap_err().kind(), kind, "{chunk:?}");
        }
    }

    #[test]
    fn an_unknown_codec_is_unsupported_not_damaged() {
        let error = Decompressor::new().open(&[9, 1, 2], 2, "chunk x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    /// Bytes of a few kinds that take different ways through the codecs: noise, runs, numbers that
    /// rise, blocks of a dictionary with true and with mad offsets.
    fn contents() -> impl Strategy<Value = Vec<u8>> {
        let noise = proptest::collection::vec(any::<u8>(), 0..20_000);
        let runs = proptest::collection::vec((any::<u8>(), 1..3000usize), 0..20)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, n)| vec![byte; n]).collect());
        let rising = (any::<u64>(), any::<u16>(), 0..9000usize).prop_map(|(from, by, length)| {
            let value = |n: u64| from.wrapping_add(n * u64::from(by)).to_le_bytes();
            (0..1200).flat_map(value).take(length).collect()
        });
        let words =
            proptest::collection::vec(prop_oneof![Just(0xffffu16), Just(0), any::<u16>()], 0..4200);
        let dictionary = (words, 1..4usize, 0..100usize).prop_map(|(words, blocks, rest)| {
            let mut block = vec![7; 10];
            block.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            block.resize(8192, 0x61);
            [block.repeat(blocks), vec![1; rest]].concat()
        });
        prop_oneof![noise, runs, rising, dictionary]
    }

    proptest! {
        /// Catches bytes of any kind and length that do not come back through some transform, a
        /// stored form that is longer than raw, and memory that one chunk leaves for the next.
        #[test]
        fn any_bytes_come_back(all in proptest::collection::vec((contents(), any::<u8>()), 1..4)) {
            let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
            let transforms: Vec<_> = (0..=255).filter_map(Transform::from_byte).collect();
            for (raw, pick) in all {
                let transform = transforms[usize::from(pick) % transforms.len()];
                let mut stored = vec![1, 2, 3];
                let length = compressor.store_typed(&raw, transform, &mut stored);
                prop_assert!(length == stored.len() - 3 && length <= raw.len() + 1);
                let opened = decompressor.open(&stored[3..], raw.len() as u32, "c");
                prop_assert_eq!(opened.unwrap(), &raw[..]);
            }
        }

        /// Catches stored bytes, of any transform and codec, that make a reader panic or give other
        /// than the length that was asked for.
        #[test]
        fn hostile_chunks_are_refused(
            head in (0..5u8, any::<u8>(), 0..3u8),
            raw in contents(),
            flips in proptest::collection::vec((any::<u32>(), any::<u8>()), 0..6),
            length in 0..20_000u32,
        ) {
            let mut stored = vec![head.0, head.1, head.2];
            let mut frame = Vec::new();
            Compressor::new().store(&raw, &mut frame);
            stored.extend(&frame[1..]);
            for (at, byte) in flips {
                let at = at as usize % stored.len();
                stored[at] = byte;
            }
            for length in [length, raw.len() as u32] {
                if let Ok(opened) = Decompressor::new().open(&stored, length, "c") {
                    prop_assert_eq!(opened.len(), length as usize);
                }
            }
        }
    }
}
