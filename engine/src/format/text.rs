//! Bytes as text: how paths and names that need not be UTF-8 stand in JSON objects and in output.
//!
//! Source: FORMAT.md 1.3. UTF-8 stands as it is; a byte that is no part of valid UTF-8, a control
//! character and the percent sign stand as `%` and two upper-case hexadecimal digits.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Returns the text form of any bytes; [`decode`] gives them back.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            if character == '%' || character.is_control() {
                let mut buffer = [0; 4];
                character.encode_utf8(&mut buffer).bytes().for_each(|byte| push(&mut out, byte));
            } else {
                out.push(character);
            }
        }
        part.invalid().iter().for_each(|byte| push(&mut out, *byte));
    }
    out
}

fn push(out: &mut String, byte: u8) {
    out.push_str(&format!("%{byte:02X}"));
}

/// Returns the bytes of a text form; `None` when a percent sign is not followed by two digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_first_chunk::<2>()?;
        let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    Some(out)
}

/// Returns the text form of a path.
pub fn encode_path(path: &Path) -> String {
    encode(path.as_os_str().as_bytes())
}

/// Returns the path of a text form; a malformed one stands for itself.
pub fn decode_path(text: &str) -> PathBuf {
    let bytes = decode(text).unwrap_or_else(|| text.as_bytes().to_vec());
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in
            [&b"var/lib/mysql"[..], b"100%\n", "grüße/目录".as_bytes(), b"\xff\xfe/a", &all]
        {
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(encode(b"a\xff%\n"), "a%FF%25%0A");
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%+1"), None);
    }
}
