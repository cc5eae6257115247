//! Repeatable random numbers: every piece of content has a stream of its own, named by what it
//! belongs to, so that nothing depends on the order or the thread it is made in.

/// A stream of random numbers (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    /// Returns the stream that belongs to these numbers.
    pub fn of(names: &[u64]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for name in names {
            state = mix(state ^ mix(name.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        }
        Random(state)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// Small numbers are more likely: below `limit`, half of them below a quarter of it.
    pub fn skewed(&mut self, limit: u64) -> u64 {
        let once = self.below(limit);
        self.below(once + 1)
    }

    /// True in `parts` of 2^32 cases.
    pub fn chance(&mut self, parts: u32) -> bool {
        ((self.next() >> 32) as u32) < parts
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Turns a share between 0 and 1 into parts of 2^32 for [`Random::chance`].
pub(super) fn parts(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}
