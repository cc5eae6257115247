//! The small encodings all binary objects are made of. Source: FORMAT.md 1.2.

use std::fmt;

use crate::error::Error;

/// Bytes that are not what the format demands, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Byte offset in the decoded slice.
    pub at: usize,
    /// What the format wants there.
    pub expected: &'static str,
}

impl Malformed {
    /// Turns it into an error about the named object.
    pub fn in_object(self, object: impl Into<String>) -> Error {
        Error::corrupt(object, self.to_string())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed at byte {}: {} expected", self.at, self.expected)
    }
}

/// What decoders return.
pub type Decoded<T> = Result<T, Malformed>;

/// Reads a slice from front to back; never panics, never reads past the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, length: bytes.len() }
    }

    /// Returns how many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Makes the error for the present position.
    pub fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.length - self.rest.len(), expected }
    }

    /// Takes `count` bytes.
    pub fn bytes(&mut self, count: usize, expected: &'static str) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.malformed(expected))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes an array.
    pub fn array<const N: usize>(&mut self, expected: &'static str) -> Decoded<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed(expected))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    pub fn u8(&mut self, expected: &'static str) -> Decoded<u8> {
        Ok(u8::from_le_bytes(self.array(expected)?))
    }

    /// Takes a little-endian 16-bit number.
    pub fn u16(&mut self, expected: &'static str) -> Decoded<u16> {
        Ok(u16::from_le_bytes(self.array(expected)?))
    }

    /// Takes a little-endian 32-bit number.
    pub fn u32(&mut self, expected: &'static str) -> Decoded<u32> {
        Ok(u32::from_le_bytes(self.array(expected)?))
    }

    /// Takes a little-endian 64-bit number.
    pub fn u64(&mut self, expected: &'static str) -> Decoded<u64> {
        Ok(u64::from_le_bytes(self.array(expected)?))
    }

    /// Takes a variable-length number: seven bits a byte, lowest first, in the shortest form.
    pub fn varint(&mut self, expected: &'static str) -> Decoded<u64> {
        let start = self.clone();
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(expected)?;
            let bits = u64::from(byte & 0x7f);
            let overflows = shift == 63 && bits > 1;
            let padded = shift > 0 && byte == 0;
            if overflows || padded {
                return Err(start.malformed(expected));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(start.malformed(expected))
    }

    /// Takes a signed variable-length number in zigzag form.
    pub fn signed(&mut self, expected: &'static str) -> Decoded<i64> {
        let value = self.varint(expected)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Takes a variable-length number that must fit 32 bits.
    pub fn varint_u32(&mut self, expected: &'static str) -> Decoded<u32> {
        let start = self.clone();
        u32::try_from(self.varint(expected)?).map_err(|_| start.malformed(expected))
    }

    /// Takes a length and that many bytes.
    pub fn string(&mut self, expected: &'static str) -> Decoded<&'a [u8]> {
        let start = self.clone();
        let length =
            usize::try_from(self.varint(expected)?).map_err(|_| start.malformed(expected))?;
        self.bytes(length, expected)
    }

    /// Takes a count of things that each need at least `bytes_each`; so it can be trusted as a
    /// capacity.
    pub fn count(&mut self, bytes_each: usize, expected: &'static str) -> Decoded<usize> {
        let start = self.clone();
        let count =
            usize::try_from(self.varint(expected)?).map_err(|_| start.malformed(expected))?;
        if count > self.rest.len() / bytes_each.max(1) {
            return Err(start.malformed(expected));
        }
        Ok(count)
    }

    /// Succeeds at the end only.
    pub fn end(&self, expected: &'static str) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed(expected)) }
    }
}

/// Appends a variable-length number.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed variable-length number in zigzag form.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a length and the bytes.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_at_every_length() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX - (1 << shift)] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                put_signed(&mut bytes, value.cast_signed());
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.varint("n"), Ok(value));
                assert_eq!(reader.signed("n"), Ok(value.cast_signed()));
                assert_eq!(reader.end("end"), Ok(()));
            }
        }
    }

    #[test]
    fn a_number_has_one_form_only() {
        assert_eq!(Reader::new(&[0x80, 0]).varint("n"), Err(Malformed { at: 0, expected: "n" }));
        assert!(Reader::new(&[0xff; 9]).varint("n").is_err());
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert!(Reader::new(&too_large).varint("n").is_err());
    }

    #[test]
    fn a_count_that_cannot_be_there_is_refused_before_anything_is_allocated() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 1 << 40);
        bytes.extend([0; 64]);
        assert!(Reader::new(&bytes).count(32, "ids").is_err());
    }
}
