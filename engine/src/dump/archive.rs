//! Entries as tar members: POSIX ustar headers, and pax records for what does not fit them. The
//! door to tar.
//!
//! Names are written as the bytes they are, UTF-8 or not. Extended attributes, access lists among
//! them, stand as `SCHILY.xattr.` records, which GNU tar restores with `--xattrs
//! --xattrs-include='*'`. Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended
//! Header"; GNU tar 1.35, src/xheader.c.

use tar::{EntryType, Header};

use crate::format::manifest::{Entry, Node, Time};

/// The unit of the format: headers and content are padded to multiples of it.
pub(super) const BLOCK_BYTES: u64 = 512;

/// Two blocks of zeros end an archive.
pub(super) const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// The largest numbers that fit the octal digits of a header: ids 7, sizes and times 11.
const ID_MAX: u64 = 0o777_7777;
const LONG_MAX: u64 = 0o777_7777_7777;

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// Names of owners are ended by a zero byte.
const OWNER_BYTES: usize = 31;

/// Returns the header of an entry under a name in the archive; with `link`, of a further name of
/// the file that was archived under that one. `None` for what an archive does not hold.
pub(super) fn header(name: &[u8], entry: &Entry, link: Option<&[u8]>) -> Option<Vec<u8>> {
    let (kind, target, device) = match (&entry.node, link) {
        (Node::File { .. }, Some(first)) => (EntryType::Link, first, None),
        (Node::File { .. }, None) => (EntryType::Regular, &[][..], None),
        (Node::Directory, _) => (EntryType::Directory, &[][..], None),
        (Node::Symlink { target }, _) => (EntryType::Symlink, target.as_slice(), None),
        (Node::Fifo, _) => (EntryType::Fifo, &[][..], None),
        (Node::CharDevice { major, minor }, _) => {
            (EntryType::Char, &[][..], Some((*major, *minor)))
        }
        (Node::BlockDevice { major, minor }, _) => {
            (EntryType::Block, &[][..], Some((*major, *minor)))
        }
        (Node::Socket | Node::Unreadable { .. }, _) => return None,
    };
    let mut records = Records::default();
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    let size = if kind == EntryType::Regular { entry.size() } else { 0 };
    header.set_size(records.number("size", size, LONG_MAX));
    header.set_uid(records.number("uid", entry.uid.into(), ID_MAX));
    header.set_gid(records.number("gid", entry.gid.into(), ID_MAX));
    header.set_mtime(records.time("mtime", entry.mtime));
    if let (Some((major, minor)), Some(ustar)) = (device, header.as_ustar_mut()) {
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    if let Some(ustar) = header.as_ustar_mut() {
        match split(name) {
            Some((prefix, rest)) => {
                put(&mut ustar.prefix, prefix);
                put(&mut ustar.name, rest);
            }
            None => {
                records.add(b"path", name);
                put(&mut ustar.name, name);
            }
        }
        if target.len() > NAME_BYTES {
            records.add(b"linkpath", target);
        }
        put(&mut ustar.linkname, target);
        for (key, field, owner) in
            [("uname", &mut ustar.uname, &entry.user), ("gname", &mut ustar.gname, &entry.group)]
        {
            if owner.len() > OWNER_BYTES {
                records.add(key.as_bytes(), owner);
            } else {
                put(field, owner);
            }
        }
    }
    if link.is_none() {
        for (name, value) in &entry.xattrs {
            records.add(&xattr_key(name), value);
        }
    }
    header.set_cksum();
    let mut out = records.finish(entry.name());
    out.extend_from_slice(header.as_bytes());
    Some(out)
}

/// Returns how many zeros follow content of this size.
pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES) - size
}

/// Fills a field from its beginning, as far as it goes.
fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Divides a name at a slash so that both parts fit; `None` when they cannot.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_BYTES {
        return Some((&[], name));
    }
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes
        .filter(|at| (1..=PREFIX_BYTES).contains(at))
        .map(|at| (&name[..at], &name[at + 1..]))
        .find(|(_, rest)| (1..=NAME_BYTES).contains(&rest.len()))
}

/// An equals sign would end the key; GNU tar writes it, and the percent sign, as URLs do.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            _ => key.push(*byte),
        }
    }
    key
}

/// Records of an extended header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let digits = |number: usize| number.to_string().len();
        let mut length = rest + digits(rest);
        if digits(length) > digits(rest) {
            length = rest + digits(length);
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Returns a number for the header; one that is too large stands here.
    fn number(&mut self, key: &str, number: u64, most: u64) -> u64 {
        if number <= most {
            return number;
        }
        self.add(key.as_bytes(), number.to_string().as_bytes());
        0
    }

    /// Returns whole seconds for the header; a time that is not some seconds stands here.
    fn time(&mut self, key: &str, time: Time) -> u64 {
        let whole = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= LONG_MAX);
        if let (Some(seconds), 0) = (whole, time.nanoseconds) {
            return seconds;
        }
        self.add(key.as_bytes(), decimal(time).as_bytes());
        whole.unwrap_or(0)
    }

    /// Returns the extended header, if there is something in it.
    fn finish(self, name: &[u8]) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_size(self.0.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if let Some(ustar) = header.as_ustar_mut() {
            let shown = [b"PaxHeaders/", name].concat();
            put(&mut ustar.name, &shown);
        }
        header.set_cksum();
        let mut out = header.as_bytes().to_vec();
        let padding = padding(self.0.len() as u64);
        out.extend_from_slice(&self.0);
        out.resize(out.len() + padding as usize, 0);
        out
    }
}

/// Returns a time as a decimal number of seconds.
fn decimal(time: Time) -> String {
    let mut seconds = i128::from(time.seconds);
    let mut nanoseconds = time.nanoseconds;
    let is_negative = seconds < 0;
    if is_negative && nanoseconds > 0 {
        seconds += 1;
        nanoseconds = 1_000_000_000 - nanoseconds;
    }
    let sign = if is_negative { "-" } else { "" };
    match nanoseconds {
        0 => format!("{sign}{}", seconds.unsigned_abs()),
        _ => format!("{sign}{}.{nanoseconds:09}", seconds.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for value_length in 0..1200 {
            let mut records = Records::default();
            records.add(b"path", &vec![b'x'; value_length]);
            let text = String::from_utf8(records.0).unwrap();
            let length: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, text.len(), "{value_length}");
        }
    }

    #[test]
    fn times_are_decimal_numbers() {
        for (seconds, nanoseconds, expected) in [
            (0, 0, "0"),
            (1, 5, "1.000000005"),
            (-1, 0, "-1"),
            (-1, 999_999_999, "-0.000000001"),
            (-2, 500_000_000, "-1.500000000"),
            (i64::MIN, 0, "-9223372036854775808"),
        ] {
            assert_eq!(decimal(Time { seconds, nanoseconds }), expected);
        }
    }

    #[test]
    fn long_names_are_divided_at_a_slash_or_not_at_all() {
        let name = |parts: &[usize]| {
            let parts: Vec<String> = parts.iter().map(|length| "n".repeat(*length)).collect();
            parts.join("/").into_bytes()
        };
        let lengths = |name: &[u8]| split(name).map(|(prefix, rest)| (prefix.len(), rest.len()));
        assert_eq!(lengths(&name(&[100])), Some((0, 100)));
        assert_eq!(lengths(&name(&[101])), None);
        assert_eq!(lengths(&name(&[155, 100])), Some((155, 100)));
        assert_eq!(lengths(&name(&[156, 99])), None);
        assert_eq!(lengths(&name(&[1, 60, 60])), Some((62, 60)));
    }
}
