//! What a backup needs from storagemanager.cnf.
//!
//! The daemon reads the file with boost's ini parser: line by line, a comment starts at the start
//! of a line only, and quotes, backslashes and `#` are ordinary characters of a value. rust-ini
//! knows more than that, so it is given lines on which it cannot differ.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use ini::{Ini, ParseOption};

use crate::error::{Error, ErrorKind, Result};

/// Bytes outside ASCII pass through rust-ini's text as private characters from here on.
const PRIVATE: u32 = 0xe000;

/// The sections of a file of `[section]` and `key = value` lines.
struct Sections(Ini);

/// The parts of storagemanager.cnf that say where data is and what a restore must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StorageManagerCnf {
    /// `LocalStorage` if not set.
    pub(super) service: String,
    pub(super) object_size_bytes: Option<u64>,
    pub(super) common_prefix_depth: Option<String>,
    pub(super) metadata_path: Option<PathBuf>,
    pub(super) journal_path: Option<PathBuf>,
    pub(super) cache_path: Option<PathBuf>,
    pub(super) fake_cloud_path: Option<PathBuf>,
    pub(super) bucket: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    /// Whether the file itself holds the secret key, not only a reference to the environment.
    pub(super) has_secret_key: bool,
    pub(super) notes: Vec<String>,
}

impl StorageManagerCnf {
    /// Whether the objects are in a bucket.
    pub(super) fn is_s3(&self) -> bool {
        self.service.eq_ignore_ascii_case("s3")
    }
}

/// Reads storagemanager.cnf; `object` names it in errors, `environment` is that of the daemon.
///
/// Errors: [`ErrorKind::Invalid`] for a line that is neither comment, section nor `key = value`.
/// A size that is none is noted.
pub(super) fn read(
    bytes: &[u8],
    object: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<StorageManagerCnf> {
    let sections = Sections::read(bytes, object)?;
    let mut notes = Vec::new();
    let mut value = |section: &str, key: &str| -> Option<Vec<u8>> {
        let raw = sections.get(section, key)?;
        let (expanded, unset) = expand(&raw, environment);
        notes.extend(unset.into_iter().map(|name| {
            format!("storagemanager.cnf: {key} names ${{{name}}}, which is not set: taken as empty")
        }));
        Some(expanded).filter(|expanded| !expanded.is_empty())
    };
    let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();

    let object_size = value("ObjectStorage", "object_size");
    let object_size_bytes = object_size.as_deref().and_then(size_bytes);
    let cnf = StorageManagerCnf {
        service: value("ObjectStorage", "service").map_or_else(|| "LocalStorage".into(), text),
        object_size_bytes,
        common_prefix_depth: value("ObjectStorage", "common_prefix_depth").map(text),
        metadata_path: value("ObjectStorage", "metadata_path").map(path),
        journal_path: value("ObjectStorage", "journal_path").map(path),
        cache_path: value("Cache", "path").map(path),
        fake_cloud_path: value("LocalStorage", "path").map(path),
        bucket: value("S3", "bucket").map(text),
        prefix: value("S3", "prefix").map(text),
        endpoint: value("S3", "endpoint").map(text),
        region: value("S3", "region").map(text),
        has_secret_key: sections
            .get("S3", "aws_secret_access_key")
            .is_some_and(|key| !key.is_empty() && !key.starts_with(b"${")),
        notes: Vec::new(),
    };
    if let (Some(found), None) = (&object_size, object_size_bytes) {
        let found = String::from_utf8_lossy(found);
        notes.push(format!("storagemanager.cnf: object_size is {found}, which is no size"));
    }
    Ok(StorageManagerCnf { notes, ..cnf })
}

impl Sections {
    /// Reads the sections of a file; `object` names it in errors.
    ///
    /// Errors: [`ErrorKind::Invalid`] for a line that is neither comment, section nor key.
    fn read(bytes: &[u8], object: &str) -> Result<Sections> {
        let invalid = |problem: String| Error::new(ErrorKind::Invalid, object, problem);
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut lines = String::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n' || byte == b'\r').enumerate() {
            let line = line.trim_ascii();
            let is_section = line.starts_with(b"[") && line.ends_with(b"]");
            match line.first() {
                None | Some(b'#' | b';') => {}
                Some(&first) if is_section || (first != b'[' && line.contains(&b'=')) => {
                    lines.extend(line.iter().map(|&byte| to_char(byte)));
                    // The blank keeps a backslash at the end from joining two lines.
                    lines.push_str(" \n");
                }
                Some(_) => {
                    let problem = "expected a section or key = value, found another text in line";
                    return Err(invalid(format!("{problem} {}", index + 1)));
                }
            }
        }
        let options = ParseOption {
            enabled_quote: false,
            enabled_escape: false,
            enabled_indented_mutiline_value: false,
            enabled_preserve_key_leading_whitespace: false,
        };
        Ini::load_from_str_opt(&lines, options)
            .map(Sections)
            .map_err(|error| invalid("expected sections of keys".into()).caused_by(error))
    }

    /// Returns the value of `key` in `section`, as it stands; the last one if there are several.
    fn get(&self, section: &str, key: &str) -> Option<Vec<u8>> {
        let values = self.0.section_all(Some(section)).flat_map(|section| section.get_all(key));
        Some(values.last()?.chars().map(to_byte).collect())
    }
}

fn to_char(byte: u8) -> char {
    if byte.is_ascii() {
        return char::from(byte);
    }
    char::from_u32(PRIVATE + u32::from(byte)).expect("a private character exists for each byte")
}

fn to_byte(character: char) -> u8 {
    u8::try_from(u32::from(character) % PRIVATE)
        .expect("only characters of to_char are in the text")
}

/// Replaces each `${NAME}` by its value in the environment; also returns the names not set.
fn expand(value: &[u8], environment: &dyn Fn(&str) -> Option<OsString>) -> (Vec<u8>, Vec<String>) {
    let mut expanded = Vec::new();
    let mut unset = Vec::new();
    let mut rest = value;
    while let Some((before, name, after)) = split_reference(rest) {
        expanded.extend_from_slice(before);
        match environment(name) {
            Some(found) => expanded.extend_from_slice(&found.into_vec()),
            None => unset.push(name.to_owned()),
        }
        rest = after;
    }
    expanded.extend_from_slice(rest);
    (expanded, unset)
}

/// Splits at the first `${NAME}`.
fn split_reference(value: &[u8]) -> Option<(&[u8], &str, &[u8])> {
    let start = value.windows(2).position(|pair| pair == b"${")?;
    let length = value[start + 2..].iter().position(|&byte| byte == b'}')?;
    let name = std::str::from_utf8(&value[start + 2..start + 2 + length]).ok()?;
    Some((&value[..start], name, &value[start + 3 + length..]))
}

/// A number with an optional suffix k, m or g of either case.
fn size_bytes(size: &[u8]) -> Option<u64> {
    let (digits, shift) = match size.last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (&size[..size.len() - 1], 10),
        Some(b'm') => (&size[..size.len() - 1], 20),
        Some(b'g') => (&size[..size.len() - 1], 30),
        _ => (size, 0),
    };
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.trim().parse().ok());
    number.and_then(|number: u64| number.checked_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    const CNF: &str = "\
# This is the configuration file for StorageManager (SM)
[ObjectStorage]
  # 'service' is the module that SM will use
service = LocalStorage
object_size=5M
metadata_path = ${SM_HOME}/metadata
journal_path = /var/lib/columnstore/storagemanager/journal
 
common_prefix_depth = 3
[S3]
bucket = some#bucket
; endpoint = storage.googleapis.com
prefix = \"cs/\"
aws_access_key_id = ab'c\\
aws_secret_access_key = x\"y\\n:=z\\
region = here
[Cache]
cache_size = 2g
path = /var/cache/sm
";

    fn read_with(text: &[u8]) -> Result<StorageManagerCnf> {
        read(text, "storagemanager.cnf", &|name| (name == "SM_HOME").then(|| "/srv/sm".into()))
    }

    #[test]
    fn the_usual_file_is_read() {
        let cnf = read_with(CNF.as_bytes()).unwrap();
        assert_eq!(cnf.service, "LocalStorage");
        assert!(!cnf.is_s3());
        assert_eq!(cnf.object_size_bytes, Some(5 * 1024 * 1024));
        assert_eq!(cnf.common_prefix_depth.as_deref(), Some("3"));
        assert_eq!(cnf.metadata_path, Some("/srv/sm/metadata".into()));
        assert_eq!(cnf.cache_path, Some("/var/cache/sm".into()));
        assert_eq!(cnf.endpoint, None);
        assert_eq!(cnf.notes, [] as [String; 0]);
    }

    #[test]
    fn quotes_backslashes_and_hashes_are_ordinary_characters() {
        let sections = Sections::read(CNF.as_bytes(), "x").unwrap();
        assert_eq!(sections.get("S3", "bucket").unwrap(), b"some#bucket");
        assert_eq!(sections.get("S3", "prefix").unwrap(), b"\"cs/\"");
        assert_eq!(sections.get("S3", "aws_access_key_id").unwrap(), b"ab'c\\");
        assert_eq!(sections.get("S3", "aws_secret_access_key").unwrap(), b"x\"y\\n:=z\\");
        assert_eq!(sections.get("S3", "region").unwrap(), b"here");
    }

    #[test]
    fn s3_is_recognised_in_either_case() {
        for service in ["S3", "s3"] {
            let cnf = CNF.replace("LocalStorage", service);
            assert!(read_with(cnf.as_bytes()).unwrap().is_s3());
        }
        assert_eq!(read_with(b"").unwrap().service, "LocalStorage");
    }

    #[test]
    fn sizes_have_suffixes_of_either_case() {
        for (size, bytes) in
            [("8192", 8192), ("5k", 5120), ("5K", 5120), ("2m", 2 << 20), ("1g", 1 << 30)]
        {
            let text = format!("[ObjectStorage]\nobject_size = {size}\n");
            assert_eq!(read_with(text.as_bytes()).unwrap().object_size_bytes, Some(bytes));
        }
        for size in ["M", "five", "-1", "99999999999G", "5MB"] {
            let text = format!("[ObjectStorage]\nobject_size = {size}\n");
            let cnf = read_with(text.as_bytes()).unwrap();
            assert_eq!(cnf.object_size_bytes, None);
            assert!(cnf.notes[0].contains(&format!("is {size},")), "{:?}", cnf.notes);
        }
    }

    #[test]
    fn an_unset_variable_is_empty_and_noted() {
        let text = b"[Cache]\npath = /a/${NO_SUCH}b${SM_HOME}${open\n";
        let cnf = read_with(text).unwrap();
        assert_eq!(cnf.cache_path, Some("/a/b/srv/sm${open".into()));
        assert_eq!(cnf.notes.len(), 1);
        assert!(cnf.notes[0].contains("${NO_SUCH}"), "{:?}", cnf.notes);
    }

    #[test]
    fn a_secret_counts_only_if_it_stands_in_the_file() {
        assert!(read_with(CNF.as_bytes()).unwrap().has_secret_key);
        for value in ["", "${AWS_SECRET}"] {
            let text = format!("[S3]\naws_secret_access_key = {value}\n");
            assert!(!read_with(text.as_bytes()).unwrap().has_secret_key, "{value}");
        }
        assert!(!format!("{:?}", read_with(CNF.as_bytes()).unwrap()).contains("x\\\"y"));
    }

    #[test]
    fn the_last_of_several_values_counts() {
        let text = b"[S3]\nbucket=a\nbucket=b\n[Cache]\npath=/c\n[S3]\nregion=r\n";
        let cnf = read_with(text).unwrap();
        assert_eq!(cnf.bucket.as_deref(), Some("b"));
        assert_eq!(cnf.region.as_deref(), Some("r"));
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        let cnf = read_with(b"[Cache]\npath = /daten/\xfcbung\xa0\xc3\xa0\n").unwrap();
        assert_eq!(cnf.cache_path.unwrap().as_os_str().as_bytes(), b"/daten/\xfcbung\xa0\xc3\xa0");
    }

    #[test]
    fn lines_of_another_kind_are_errors() {
        for text in ["[S3\nbucket = a\n", "bucket\n", "[S3] bucket = a\n", "= a\n", "\0\n"] {
            let error = read_with(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for first in 0..=255u8 {
            for second in [b'\n', b'=', b'[', b']', b':', b'\\', b' ', 0xa0, 0xff] {
                let _ = read_with(&[first, second]);
                let _ = read_with(&[b'a', b'=', first, second, first]);
                let _ = read_with(&[b'[', first, second, b']', b'\n', first, b'=']);
            }
        }
    }
}
