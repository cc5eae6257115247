//! Reorders the bytes of unpacked columns so that zstd finds more in them.
//!
//! A transform is named by one byte (FORMAT.md 4.1), keeps the number of bytes, and takes any bytes:
//! what does not fill a whole value stays as it is at the end. A *shuffle* puts the first bytes of all
//! values beside each other, then the second bytes, and so on; a *delta* replaces each value by its
//! difference to the one before it first.
//!
//! A shuffle over values of 2, 4, 8 or 16 bytes is done as one, two, three or four passes that part
//! even and odd bytes, which any compiler turns into vector instructions; values go through them in
//! tiles that stay in the processor's first cache.

/// One way of reordering bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform(u8);

/// Values that go through the passes together: 16 KiB at most, beside as much scratch.
const TILE: usize = 1024;
const WIDTH_MAX: usize = 16;
const TILE_BYTES: usize = TILE * WIDTH_MAX;

const SHUFFLE: u8 = 0x10;
const DELTA: u8 = 0x20;

impl Transform {
    /// Leaves bytes as they are.
    pub const NONE: Transform = Transform(0);

    /// Returns the transform that a stored byte names, if there is one.
    pub fn from_byte(byte: u8) -> Option<Transform> {
        let known = match (byte & 0xf0, byte & 0x0f) {
            (0, 0) => true,
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

    /// Fills `out` with the transformed bytes, as many as `raw` has.
    pub fn apply(self, raw: &[u8], out: &mut Vec<u8>) {
        out.clear();
        if self == Self::NONE {
            return out.extend_from_slice(raw);
        }
        out.resize(raw.len(), 0);
        match self.width() {
            1 => apply::<1>(raw, out, self.is_delta()),
            2 => apply::<2>(raw, out, self.is_delta()),
            4 => apply::<4>(raw, out, self.is_delta()),
            8 => apply::<8>(raw, out, self.is_delta()),
            _ => apply::<16>(raw, out, self.is_delta()),
        }
    }

    /// Fills `raw` with the bytes that were transformed; false when there are not as many as in
    /// `stored`. Any bytes can be undone.
    pub fn undo(self, stored: &[u8], raw: &mut [u8]) -> bool {
        if stored.len() != raw.len() {
            return false;
        }
        if self == Self::NONE {
            raw.copy_from_slice(stored);
            return true;
        }
        match self.width() {
            1 => undo::<1>(stored, raw, self.is_delta()),
            2 => undo::<2>(stored, raw, self.is_delta()),
            4 => undo::<4>(stored, raw, self.is_delta()),
            8 => undo::<8>(stored, raw, self.is_delta()),
            _ => undo::<16>(stored, raw, self.is_delta()),
        }
        true
    }
}

/// Pieces of a slot that are tried, and the bytes of each.
const SAMPLES: usize = 4;
const SAMPLE_BYTES: usize = 4096;

/// Chooses a transform for the blocks of an unpacked slot: of those that suit a column of this width
/// and type, the one after which `packed_length` finds a few pieces of the slot smallest.
pub fn choose(
    slot: &[u8],
    width: u64,
    _data_type: u32,
    packed_length: &mut dyn FnMut(&[u8]) -> usize,
) -> Transform {
    let typed = [Transform::shuffle(width), Transform::delta(width)].into_iter().flatten();
    let candidates: Vec<Transform> = std::iter::once(Transform::NONE).chain(typed).collect();
    if candidates.len() == 1 {
        return Transform::NONE;
    }
    let mut sample = Vec::new();
    let step = slot.len() / SAMPLES;
    for n in 0..SAMPLES {
        let start = (n * step).next_multiple_of(WIDTH_MAX).min(slot.len());
        sample.extend_from_slice(&slot[start..][..SAMPLE_BYTES.min(slot.len() - start)]);
    }
    let mut transformed = Vec::new();
    let measured = candidates.into_iter().map(|transform| {
        transform.apply(&sample, &mut transformed);
        (packed_length(&transformed), transform)
    });
    measured.min_by_key(|(length, _)| *length).map_or(Transform::NONE, |(_, best)| best)
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
            let value = |bytes: &[u8; $bytes]| <$int>::from_le_bytes(*bytes);
            let (values, _) = values.as_chunks::<$bytes>();
            let (out, _) = out.as_chunks_mut::<$bytes>();
            let (Some(first), Some(target)) = (values.first(), out.first_mut()) else { return };
            let before = before.first_chunk::<$bytes>().map_or(0, value);
            *target = value(first).wrapping_sub(before).to_le_bytes();
            for (pair, target) in values.windows(2).zip(&mut out[1..]) {
                *target = value(&pair[1]).wrapping_sub(value(&pair[0])).to_le_bytes();
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
                sum = sum.wrapping_add(<$int>::from_le_bytes(*value));
                *value = sum.to_le_bytes();
            }
            last.copy_from_slice(&sum.to_le_bytes());
        }};
    }
    by_width!(W, add);
    last
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

    /// Catches a carry that is lost between bytes, and a tile that begins from nothing.
    #[test]
    fn a_delta_of_a_ramp_is_constant() {
        for width in [1, 2, 4, 8, 16] {
            let count = 3 * TILE + 7;
            let value = |n: usize| (n as u128 * 259).to_le_bytes();
            let raw: Vec<u8> = (0..count).flat_map(|n| value(n)[..width].to_vec()).collect();
            let step = &259u128.to_le_bytes()[..width];
            let mut differences = vec![0; width];
            differences.extend(step.repeat(count - 1));
            let mut out = Vec::new();
            Transform::delta(width as u64).unwrap().apply(&raw, &mut out);
            assert_eq!(out, shuffled(width, &differences), "{width}");
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

    /// Catches a byte that names two transforms, or none.
    #[test]
    fn bytes_name_transforms() {
        let named: Vec<u8> = all().map(Transform::byte).collect();
        assert_eq!(named, [0, 0x11, 0x12, 0x13, 0x14, 0x20, 0x21, 0x22, 0x23, 0x24]);
        assert_eq!(Transform::shuffle(8).map(Transform::byte), Some(0x13));
        assert_eq!(Transform::delta(16).map(Transform::byte), Some(0x24));
        for width in [0, 1, 3, 32, u64::MAX] {
            assert_eq!(Transform::shuffle(width), None);
        }
    }
}
