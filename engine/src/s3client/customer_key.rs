//! A key that the store encrypts objects with and does not keep (SSE-C).

use std::fmt;
use std::path::Path;

use aws_smithy_types::base64;
use md5::{Digest, Md5};

use crate::error::{Error, ErrorKind, Result};

const KEY_BYTES: usize = 32;

/// The key as requests carry it.
#[derive(Clone)]
pub(super) struct CustomerKey {
    /// In base64.
    pub(super) key: String,
    /// Its MD5 in base64.
    pub(super) md5: String,
}

/// The algorithm S3 has for it.
pub(super) const ALGORITHM: &str = "AES256";

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomerKey(md5 {})", self.md5)
    }
}

impl CustomerKey {
    /// Reads a file of 32 bytes, or of 64 hexadecimal digits.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        let key = parse(&bytes).ok_or_else(|| {
            let found = bytes.len();
            let problem =
                format!("a key of 32 bytes or 64 hexadecimal digits expected, found {found} bytes");
            Error::new(ErrorKind::Invalid, path.display().to_string(), problem)
        })?;
        Ok(CustomerKey { key: base64::encode(key), md5: base64::encode(Md5::digest(key)) })
    }
}

fn parse(bytes: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if let Ok(key) = bytes.try_into() {
        return Some(key);
    }
    let digits = bytes.trim_ascii();
    let mut key = [0; KEY_BYTES];
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_32_bytes_or_64_digits() {
        assert_eq!(parse(&[7; 32]), Some([7; 32]));
        let digits = "0Aff".repeat(16);
        let expected: [u8; 32] = std::array::from_fn(|n| [0x0a, 0xff][n % 2]);
        assert_eq!(parse(digits.as_bytes()), Some(expected));
        assert_eq!(parse(format!("{digits}\n").as_bytes()), Some(expected));
        for bad in ["", "x", &digits[1..], &format!("{digits}00"), &"zz".repeat(32)] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_sent_in_base64_with_its_md5_and_never_shown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        std::fs::write(&path, [0u8; 32]).unwrap();
        let key = CustomerKey::read(&path).unwrap();
        assert_eq!(key.key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        // printf '\0%.0s' {1..32} | openssl md5 -binary | base64
        assert_eq!(key.md5, "cLyPS3KoaSFGi/joRB3OUQ==");
        assert!(!format!("{key:?}").contains(&key.key));
        std::fs::write(&path, "short").unwrap();
        assert_eq!(CustomerKey::read(&path).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
