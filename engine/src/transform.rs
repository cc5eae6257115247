//! Reorders the bytes of unpacked columns so that zstd finds more in them.
//!
//! A transform is named by one byte (FORMAT.md 4.4), keeps the number of bytes, and takes any bytes
//! either way: each is a bijection. A *shuffle* puts the first bytes of all values beside each other,
//! then the second bytes, and so on; a *delta* replaces each value by its difference to the one
//! before it first; *strings* takes the offsets out of a dictionary's blocks.
//!
//! A shuffle over values of 2, 4, 8 or 16 bytes is done as one, two, three or four passes that part
//! even and odd bytes, which any compiler turns into vector instructions; values go through them in
//! tiles that stay in the processor's first cache.

/// One way of reordering bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform(u8);

/// Where bytes of a kind lie after a transform, for whoever compresses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Ends of three parts, which have nothing in common; a part may be empty.
    pub ends: [usize; 3],
    /// Bytes of a kind that follow each other in a part, before others come.
    pub plane: usize,
}

/// Values that go through the passes together: 16 KiB at most, beside as much scratch.
const TILE: usize = 1024;
const WIDTH_MAX: usize = 16;
const TILE_BYTES: usize = TILE * WIDTH_MAX;

/// A block of a dictionary; what stands before the offsets in it; the mark behind them.
const BLOCK: usize = 8192;
const BLOCK_HEAD: usize = 10;
const OFFSETS_END: u16 = 0xffff;

const SHUFFLE: u8 = 0x10;
const DELTA: u8 = 0x20;
const STRINGS: u8 = 0x30;

impl Transform {
    /// Leaves bytes as they are.
    pub const NONE: Transform = Transform(0);

    /// Takes the offsets of strings out of the blocks of a dictionary.
    pub const STRINGS: Transform = Transform(STRINGS);

    /// Returns the transform that a stored byte names, if there is one.
    pub fn from_byte(byte: u8) -> Option<Transform> {
        let known = match (byte & 0xf0, byte & 0x0f) {
            (0 | STRINGS, 0) => true,
            (SHUFFLE, log) => (1..=4).contains(&log),
            (DELTA, log) => log <= 4,
            _ => false,
        };
        known.then_some(Transform(byte))
    }

    /// Returns the byte that names it: the high half is the kind, the low half the logarithm of the
    /// width.
    pub fn byte(self) -> u8 {
        self.0
    }

    /// Returns the shuffle over values of `width` bytes, if there is one: 2, 4, 8 or 16.
    pub fn shuffle(width: u64) -> Option<Transform> {
        Self::of(SHUFFLE, width)
    }

    /// Returns delta and shuffle over values of `width` bytes, if there is one: 1, 2, 4, 8 or 16.
    pub fn delta(width: u64) -> Option<Transform> {
        Self::of(DELTA, width)
    }

    fn of(kind: u8, width: u64) -> Option<Transform> {
        let log = (width.is_power_of_two() && width <= 16).then(|| width.ilog2() as u8)?;
        Self::from_byte(kind | log)
    }

    fn width(self) -> usize {
        1 << (self.0 & 0x0f)
    }

    fn is_delta(self) -> bool {
        self.0 & 0xf0 == DELTA
    }

    /// Fills `out` with the transformed bytes, as many as `raw` has, and says how they lie.
    pub fn apply(self, raw: &[u8], out: &mut Vec<u8>) -> Parts {
        out.clear();
        let whole = |plane| Parts { ends: [raw.len(); 3], plane };
        if self == Self::NONE {
            out.extend_from_slice(raw);
            return whole(raw.len());
        }
        out.resize(raw.len(), 0);
        if self == Self::STRINGS {
            return take_offsets(raw, out);
        }
        match self.width() {
            1 => apply::<1>(raw, out, self.is_delta()),
            2 => apply::<2>(raw, out, self.is_delta()),
            4 => apply::<4>(raw, out, self.is_delta()),
            8 => apply::<8>(raw, out, self.is_delta()),
            _ => apply::<16>(raw, out, self.is_delta()),
        }
        whole(raw.len() / self.width())
    }

    /// Fills `raw` with the bytes that were transformed; false when there are not as many as in
    /// `stored`. Any bytes can be undone.
    pub fn undo(self, stored: &[u8], raw: &mut [u8]) -> bool {
        if stored.len() != raw.len() {
            return false;
        }
        match (self, self.width()) {
            (Self::NONE, _) => raw.copy_from_slice(stored),
            (Self::STRINGS, _) => put_offsets(stored, raw),
            (_, 1) => undo::<1>(stored, raw, self.is_delta()),
            (_, 2) => undo::<2>(stored, raw, self.is_delta()),
            (_, 4) => undo::<4>(stored, raw, self.is_delta()),
            (_, 8) => undo::<8>(stored, raw, self.is_delta()),
            _ => undo::<16>(stored, raw, self.is_delta()),
        }
        true
    }
}

/// Places of a slot that are looked at, how many of them are tried, and the bytes of each: of a
/// dictionary one block, so that offsets are among them. Measured: benches/results.
const PLACES: usize = 32;
const SAMPLES: usize = 4;
const DICTIONARY_SAMPLES: usize = 1;
const SAMPLE_BYTES: usize = 2048;

/// Chooses a transform for the blocks of an unpacked slot: of those that suit a column of this width
/// (0 is a dictionary), the one after which `packed_length` finds a few pieces of the slot smallest.
///
/// Pieces that repeat one value say nothing and are passed over: most of a slot is empty until it has
/// been filled.
pub fn choose(
    slot: &[u8],
    width: u64,
    packed_length: &mut dyn FnMut(&[u8], Parts) -> usize,
) -> Transform {
    let candidates = match width {
        0 => [Some(Transform::STRINGS), None],
        _ => [Transform::shuffle(width), Transform::delta(width)],
    };
    if candidates == [None, None] {
        return Transform::NONE;
    }
    let (samples, piece_bytes) =
        if width == 0 { (DICTIONARY_SAMPLES, BLOCK) } else { (SAMPLES, SAMPLE_BYTES) };
    let (pieces, rest) = slot.split_at(slot.len() / piece_bytes * piece_bytes);
    let pieces: Vec<&[u8]> = pieces.chunks(piece_bytes).collect();
    let places = PLACES.min(pieces.len());
    let telling: Vec<&[u8]> = (0..places)
        .map(|n| pieces[pieces.len() * n / places])
        .chain(pieces.is_empty().then_some(rest))
        .filter(|piece| !repeats(piece, width))
        .collect();
    let samples = samples.min(telling.len());
    let mut sample = Vec::new();
    for n in 0..samples {
        sample.extend_from_slice(telling[telling.len() * n / samples]);
    }
    let mut transformed = Vec::new();
    let mut measure = |transform: Transform| {
        let parts = transform.apply(&sample, &mut transformed);
        (packed_length(&transformed, parts), transform)
    };
    let all = [Some(Transform::NONE)].into_iter().chain(candidates).flatten();
    all.map(&mut measure).min_by_key(|(length, _)| *length).map_or(Transform::NONE, |best| best.1)
}

/// Returns whether a piece is one value again and again, or an empty block of a dictionary.
fn repeats(piece: &[u8], width: u64) -> bool {
    let from = if width == 0 { BLOCK_HEAD + 4 } else { 0 };
    let step = usize::try_from(width).map_or(1, |width| width.clamp(1, WIDTH_MAX));
    let tail = piece.get(from..).unwrap_or_default();
    tail.len() <= step || tail[step..] == tail[..tail.len() - step]
}

fn apply<const W: usize>(raw: &[u8], out: &mut [u8], delta: bool) {
    let count = raw.len() / W;
    let (values, rest) = raw.split_at(count * W);
    let mut one = [0; TILE_BYTES];
    let mut two = [0; TILE_BYTES];
    let mut before = [0; W];
    for (tile, values) in values.chunks(TILE * W).enumerate() {
        let (from, to) = (&mut one[..values.len()], &mut two[..values.len()]);
        if delta {
            differences::<W>(values, before, from);
            before.copy_from_slice(&values[values.len() - W..]);
        } else {
            from.copy_from_slice(values);
        }
        let planes = part::<W>(from, to);
        let length = values.len() / W;
        for (n, plane) in planes.chunks_exact(length).enumerate() {
            let start = n * count + tile * TILE;
            out[start..start + length].copy_from_slice(plane);
        }
    }
    out[count * W..].copy_from_slice(rest);
}

fn undo<const W: usize>(stored: &[u8], raw: &mut [u8], delta: bool) {
    let count = raw.len() / W;
    let mut one = [0; TILE_BYTES];
    let mut two = [0; TILE_BYTES];
    let mut before = [0; W];
    let (values, rest) = raw.split_at_mut(count * W);
    for (tile, values) in values.chunks_mut(TILE * W).enumerate() {
        let (from, to) = (&mut one[..values.len()], &mut two[..values.len()]);
        let length = values.len() / W;
        for (n, plane) in from.chunks_exact_mut(length).enumerate() {
            let start = n * count + tile * TILE;
            plane.copy_from_slice(&stored[start..start + length]);
        }
        values.copy_from_slice(join::<W>(from, to));
        if delta {
            before = sums::<W>(values, before);
        }
    }
    rest.copy_from_slice(&stored[count * W..]);
}

/// Returns the bytes of values plane by plane, in one of the two buffers.
fn part<'a, const W: usize>(mut from: &'a mut [u8], mut to: &'a mut [u8]) -> &'a [u8] {
    // Group g holds the bytes whose place in a value is g modulo the number of groups. Parted in two,
    // the even ones are group g among twice as many, the odd ones group g + groups.
    let mut groups = 1;
    while groups < W {
        let length = from.len() / groups;
        for group in 0..groups {
            let source = &from[group * length..][..length];
            let (low, high) = to.split_at_mut(groups * length / 2);
            let low = &mut low[group * length / 2..][..length / 2];
            let high = &mut high[group * length / 2..][..length / 2];
            for ((pair, low), high) in source.as_chunks::<2>().0.iter().zip(low).zip(high) {
                let both = u16::from_le_bytes(*pair);
                *low = both as u8;
                *high = (both >> 8) as u8;
            }
        }
        std::mem::swap(&mut from, &mut to);
        groups *= 2;
    }
    from
}

/// Undoes [`part`].
fn join<'a, const W: usize>(mut from: &'a mut [u8], mut to: &'a mut [u8]) -> &'a [u8] {
    let mut groups = W;
    while groups > 1 {
        groups /= 2;
        let length = from.len() / groups;
        let (lows, highs) = from.split_at(from.len() / 2);
        for group in 0..groups {
            let low = &lows[group * length / 2..][..length / 2];
            let high = &highs[group * length / 2..][..length / 2];
            let target = &mut to[group * length..][..length];
            for ((pair, low), high) in target.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
                *pair = (u16::from(*low) | u16::from(*high) << 8).to_le_bytes();
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
    from
}

/// Unsigned integers of each width, which differ and add up modulo their size.
macro_rules! by_width {
    ($width:expr, $with:ident) => {
        match $width {
            1 => $with!(u8, 1),
            2 => $with!(u16, 2),
            4 => $with!(u32, 4),
            8 => $with!(u64, 8),
            _ => $with!(u128, 16),
        }
    };
}

/// Fills `out` with the difference of each value to the one before it, the first to `before`.
fn differences<const W: usize>(values: &[u8], before: [u8; W], out: &mut [u8]) {
    macro_rules! differ {
        ($int:ty, $bytes:literal) => {{
            // The sign goes to the lowest bit, so that small differences of either sign are small.
            let zigzag = |n: $int| n << 1 ^ (n >> (<$int>::BITS - 1)).wrapping_neg();
            let value = |bytes: &[u8; $bytes]| <$int>::from_le_bytes(*bytes);
            let (values, _) = values.as_chunks::<$bytes>();
            let (out, _) = out.as_chunks_mut::<$bytes>();
            let (Some(first), Some(target)) = (values.first(), out.first_mut()) else { return };
            let before = before.first_chunk::<$bytes>().map_or(0, value);
            *target = zigzag(value(first).wrapping_sub(before)).to_le_bytes();
            for ((before, this), target) in values.iter().zip(&values[1..]).zip(&mut out[1..]) {
                *target = zigzag(value(this).wrapping_sub(value(before))).to_le_bytes();
            }
        }};
    }
    by_width!(W, differ)
}

/// Replaces differences by values, and returns the last one.
fn sums<const W: usize>(values: &mut [u8], before: [u8; W]) -> [u8; W] {
    let mut last = before;
    macro_rules! add {
        ($int:ty, $bytes:literal) => {{
            let mut sum = before.first_chunk().map_or(0, |bytes| <$int>::from_le_bytes(*bytes));
            for value in values.as_chunks_mut::<$bytes>().0 {
                let zigzag = <$int>::from_le_bytes(*value);
                sum = sum.wrapping_add(zigzag >> 1 ^ (zigzag & 1).wrapping_neg());
                *value = sum.to_le_bytes();
            }
            last.copy_from_slice(&sum.to_le_bytes());
        }};
    }
    by_width!(W, add);
    last
}

/// Returns the offsets of a dictionary's block, the mark included when there is one.
fn offsets(block: &[u8; BLOCK]) -> &[[u8; 2]] {
    let (words, _) = block[BLOCK_HEAD..].as_chunks();
    let mark = words.iter().position(|word| u16::from_le_bytes(*word) == OFFSETS_END);
    &words[..mark.map_or(words.len(), |mark| mark + 1)]
}

/// Exchanges the step that leads to the mark with 0, a step that strings do not make: so that the mark
/// is the same bytes in every block.
fn exchange(before: u16, step: u16) -> u16 {
    let to_mark = before.wrapping_sub(OFFSETS_END);
    match step {
        0 => to_mark,
        _ if step == to_mark => 0,
        _ => step,
    }
}

/// Writes the heads of blocks, the low bytes of steps between offsets, what is left of the blocks and
/// of the chunk, and the high bytes from the end backwards, so that all can be found again.
fn take_offsets(raw: &[u8], out: &mut [u8]) -> Parts {
    let (blocks, rest) = raw.as_chunks::<BLOCK>();
    let mut low = blocks.len() * BLOCK_HEAD;
    let mut high = out.len();
    for (n, block) in blocks.iter().enumerate() {
        out[n * BLOCK_HEAD..][..BLOCK_HEAD].copy_from_slice(&block[..BLOCK_HEAD]);
        let mut before = 0;
        for word in offsets(block) {
            let word = u16::from_le_bytes(*word);
            high -= 1;
            [out[low], out[high]] = exchange(before, before.wrapping_sub(word)).to_le_bytes();
            before = word;
            low += 1;
        }
    }
    let ends = [low, high, out.len()];
    for block in blocks {
        let body = &block[BLOCK_HEAD + 2 * offsets(block).len()..];
        out[low..low + body.len()].copy_from_slice(body);
        low += body.len();
    }
    out[low..high].copy_from_slice(rest);
    Parts { ends, plane: raw.len() }
}

/// Undoes [`take_offsets`].
fn put_offsets(stored: &[u8], raw: &mut [u8]) {
    let (blocks, rest) = raw.as_chunks_mut::<BLOCK>();
    let mut low = blocks.len() * BLOCK_HEAD;
    let mut high = stored.len();
    for (n, block) in blocks.iter_mut().enumerate() {
        block[..BLOCK_HEAD].copy_from_slice(&stored[n * BLOCK_HEAD..][..BLOCK_HEAD]);
        let (words, _) = block[BLOCK_HEAD..].as_chunks_mut();
        let mut before = 0;
        for target in words {
            high -= 1;
            let step = exchange(before, u16::from_le_bytes([stored[low], stored[high]]));
            let word = before.wrapping_sub(step);
            *target = word.to_le_bytes();
            before = word;
            low += 1;
            if word == OFFSETS_END {
                break;
            }
        }
    }
    for block in blocks {
        let start = BLOCK_HEAD + 2 * offsets(block).len();
        let body = &mut block[start..];
        body.copy_from_slice(&stored[low..low + body.len()]);
        low += body.len();
    }
    rest.copy_from_slice(&stored[low..high]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Transform> {
        (0..=255).filter_map(Transform::from_byte)
    }

    /// Made-up values: neither constant nor of one period.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// A shuffle as anyone would write it.
    fn shuffled(width: usize, raw: &[u8]) -> Vec<u8> {
        let whole = raw.len() / width * width;
        let plane = |n: usize| raw[..whole].iter().skip(n).step_by(width).copied();
        (0..width).flat_map(plane).chain(raw[whole..].iter().copied()).collect()
    }

    /// Catches a pass that puts bytes elsewhere than the format says, and a border between tiles.
    #[test]
    fn a_shuffle_is_the_plain_one() {
        for width in [2, 4, 8, 16] {
            for length in [0, 1, width, 17 * width + 3, TILE * width, 2 * TILE * width + 5 * width]
            {
                let raw = bytes(length);
                let mut out = vec![1; 3];
                Transform::shuffle(width as u64).unwrap().apply(&raw, &mut out);
                assert_eq!(out, shuffled(width, &raw), "{width} {length}");
            }
        }
    }

    /// Catches a carry that is lost between bytes, a tile that begins from nothing, and a sign that is
    /// not folded.
    #[test]
    fn a_delta_of_a_ramp_is_constant() {
        for width in [1, 2, 4, 8, 16] {
            let count = 3 * TILE + 7;
            // Twice the rise, and one less than twice the fall.
            for (rise, folded) in [(3u128, 6u8), (3u128.wrapping_neg(), 5)] {
                let value = |n: usize| (n as u128).wrapping_mul(rise).to_le_bytes();
                let raw: Vec<u8> = (0..count).flat_map(|n| value(n)[..width].to_vec()).collect();
                let mut step = vec![0; width];
                step[0] = folded;
                let mut differences = vec![0; width];
                differences.extend(step.repeat(count - 1));
                let mut out = Vec::new();
                Transform::delta(width as u64).unwrap().apply(&raw, &mut out);
                assert_eq!(out, shuffled(width, &differences), "{width}");
            }
        }
    }

    /// Catches a transform that loses bytes of some length.
    #[test]
    fn every_transform_is_undone() {
        for transform in all() {
            for length in (0..70).chain([TILE_BYTES - 1, TILE_BYTES, 3 * TILE_BYTES + 777]) {
                let raw = bytes(length);
                let (mut out, mut back) = (Vec::new(), vec![9; length]);
                transform.apply(&raw, &mut out);
                assert!(transform.undo(&out, &mut back));
                assert_eq!(back, raw, "{transform:?} {length}");
                assert!(!transform.undo(&out, &mut vec![0; length + 1]));
            }
        }
    }

    /// Catches offsets that are not taken out of their blocks, a mark that is not the same in all, and
    /// parts that end elsewhere than their bytes.
    #[test]
    fn strings_lose_their_offsets() {
        let block = |offsets: &[u16], fill: u8| {
            let mut block = vec![fill; BLOCK];
            block[..BLOCK_HEAD].copy_from_slice(&[fill + 1; BLOCK_HEAD]);
            for (n, offset) in offsets.iter().enumerate() {
                block[BLOCK_HEAD + 2 * n..][..2].copy_from_slice(&offset.to_le_bytes());
            }
            block
        };
        let mut raw = block(&[8192, 8187, 7000, 0xffff], 0x41);
        raw.extend(block(&[8192, 8180, 0xffff], 0x51));
        raw.extend(b"rest");
        let mut out = Vec::new();
        let parts = Transform::STRINGS.apply(&raw, &mut out);
        let mut expected = [[0x42; BLOCK_HEAD], [0x52; BLOCK_HEAD]].concat();
        expected.extend([0, 5, 0xa3, 0, 0, 12, 0]);
        assert_eq!(parts, Parts { ends: [27, raw.len() - 7, raw.len()], plane: raw.len() });
        expected.extend(vec![0x41; BLOCK - BLOCK_HEAD - 8]);
        expected.extend(vec![0x51; BLOCK - BLOCK_HEAD - 6]);
        expected.extend(b"rest");
        expected.extend([0, 0, 0xe0, 0, 4, 0, 0xe0]);
        assert_eq!(out, expected);
    }

    /// Catches a way of undoing that panics, or gives the same bytes for two.
    #[test]
    fn any_bytes_are_undone() {
        for transform in all() {
            for seed in 0..40 {
                let length = 3 * BLOCK + 100 - seed;
                let stored: Vec<u8> =
                    bytes(length).iter().map(|byte| byte % (seed as u8 + 1) * 255).collect();
                let (mut raw, mut again) = (vec![0; length], Vec::new());
                assert!(transform.undo(&stored, &mut raw));
                transform.apply(&raw, &mut again);
                assert_eq!(again, stored, "{transform:?}");
            }
        }
    }

    /// Catches a choice that is blind to what it sees, or that an empty slot leads astray.
    #[test]
    fn the_choice_follows_the_sample() {
        // Counts runs: as good a measure as any.
        let mut runs = |bytes: &[u8], _| bytes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let mut slot: Vec<u8> = (0..9000u64).flat_map(|n| (n * 7 + 3).to_le_bytes()).collect();
        assert_eq!(choose(&slot, 8, &mut runs), Transform::delta(8).unwrap());
        slot.resize(4 << 20, 0xfe);
        assert_eq!(choose(&slot, 8, &mut runs), Transform::delta(8).unwrap());
        assert_eq!(choose(&slot, 3, &mut runs), Transform::NONE);
        assert_eq!(choose(&bytes(100), 2, &mut |_, _| 7), Transform::NONE);
        assert_eq!(choose(&[], 4, &mut runs), Transform::NONE);
        let falling: Vec<u8> = (0..1000u16).flat_map(|n| (8192 - n * 8).to_le_bytes()).collect();
        let block = [&[9; BLOCK_HEAD][..], &falling, &[0xff; 300], &[7; BLOCK]].concat();
        assert_eq!(choose(&block[..BLOCK], 0, &mut runs), Transform::STRINGS);
    }

    /// Catches a byte that names two transforms, or none.
    #[test]
    fn bytes_name_transforms() {
        let named: Vec<u8> = all().map(Transform::byte).collect();
        assert_eq!(named, [0, 0x11, 0x12, 0x13, 0x14, 0x20, 0x21, 0x22, 0x23, 0x24, 0x30]);
        assert_eq!(Transform::shuffle(8).map(Transform::byte), Some(0x13));
        assert_eq!(Transform::delta(16).map(Transform::byte), Some(0x24));
        for width in [0, 1, 3, 32, u64::MAX] {
            assert_eq!(Transform::shuffle(width), None);
        }
    }
}
