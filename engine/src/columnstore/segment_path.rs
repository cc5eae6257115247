//! What the path of a segment file says: whose column it is, which partition, which segment.
//!
//! Source: the server's we/we_convertor.cpp, 852-897: `AAA.dir/BBB.dir/CCC.dir/DDD.dir/PPP.dir/
//! FILESSS.cdf`; AAA to DDD are the bytes of the object id, most significant first, each number at
//! least three decimal digits.

/// A segment file, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPath {
    /// The object id: one for each column, one more for each dictionary.
    pub oid: u32,
    /// The partition.
    pub partition: u32,
    /// The segment.
    pub segment: u32,
}

/// What kind of object an object id belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectClass {
    /// Below 1000: the version buffer.
    VersionBuffer,
    /// Below 3000: columns and dictionaries of the system catalog.
    SystemCatalog,
    /// Columns and dictionaries of tables that users made.
    User,
}

impl ObjectClass {
    /// Returns the class of an object id.
    pub fn of(oid: u32) -> Self {
        match oid {
            0..1000 => ObjectClass::VersionBuffer,
            1000..3000 => ObjectClass::SystemCatalog,
            _ => ObjectClass::User,
        }
    }

    /// Returns the words used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ObjectClass::VersionBuffer => "version-buffer",
            ObjectClass::SystemCatalog => "system-catalog",
            ObjectClass::User => "user",
        }
    }
}

impl SegmentPath {
    /// Reads the last six parts of a path; `None` when they are not those of a segment file.
    pub fn parse(path: &[u8]) -> Option<Self> {
        let mut parts = path.rsplit(|byte| *byte == b'/');
        let segment = number(parts.next()?.strip_prefix(b"FILE")?.strip_suffix(b".cdf")?)?;
        let mut directory = || number(parts.next()?.strip_suffix(b".dir")?);
        let partition = directory()?;
        let mut oid = 0;
        for place in 0..4 {
            let byte = u8::try_from(directory()?).ok()?;
            oid |= u32::from(byte) << (8 * place);
        }
        Some(SegmentPath { oid, partition, segment })
    }

    /// Returns the path below a DB Root.
    pub fn below_db_root(&self) -> String {
        let SegmentPath { oid, partition, segment } = self;
        format!("{}/{partition:03}.dir/FILE{segment:03}.cdf", Self::directory_of(*oid))
    }

    /// Returns the object id that a directory below a DB Root is that of; `None` for any other path.
    pub fn oid_of_directory(path: &[u8]) -> Option<u32> {
        Self::parse(&[path, b"/000.dir/FILE000.cdf"].concat())
            .map(|segment| segment.oid)
            .filter(|oid| Self::directory_of(*oid).as_bytes() == path)
    }

    /// Returns the directory of an object below a DB Root: all its segment files are in it.
    pub fn directory_of(oid: u32) -> String {
        oid.to_be_bytes().map(|byte| format!("{byte:03}.dir")).join("/")
    }
}

/// Reads a number of three decimal digits or more, none of them in vain.
fn number(digits: &[u8]) -> Option<u32> {
    let in_vain = digits.len() > 3 && digits[0] == b'0';
    if digits.len() < 3 || in_vain || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_segment_files_give_object_partition_and_segment() {
        let parse = |path: &str| {
            SegmentPath::parse(path.as_bytes()).map(|p| (p.oid, p.partition, p.segment))
        };
        let wide = "x/255.dir/001.dir/011.dir/184.dir/1000.dir/FILE012.cdf";
        for (path, expected) in [
            ("000.dir/000.dir/003.dir/233.dir/000.dir/FILE000.cdf", Some((1001, 0, 0))),
            (wide, Some((0xff01_0bb8, 1000, 12))),
            ("000.dir/000.dir/011.dir/184.dir/002.dir/FILE001.cdf", Some((3000, 2, 1))),
            ("000.dir/000.dir/011.dir/256.dir/002.dir/FILE001.cdf", None),
            ("000.dir/011.dir/184.dir/002.dir/FILE001.cdf", None),
            ("000.dir/000.dir/011.dir/184.dir/002.dir/FILE001.cdf.tmp", None),
            ("000.dir/000.dir/011.dir/84.dir/002.dir/FILE001.cdf", None),
            ("000.dir/000.dir/011.dir/0084.dir/002.dir/FILE001.cdf", None),
            ("000.dir/000.dir/011.dir/+84.dir/002.dir/FILE001.cdf", None),
            ("versionbuffer.cdf", None),
        ] {
            assert_eq!(parse(path), expected, "{path}");
            if let Some((oid, partition, segment)) = expected {
                let back = SegmentPath { oid, partition, segment }.below_db_root();
                assert!(path.ends_with(&back), "{back}");
                let directory = SegmentPath::directory_of(oid);
                assert_eq!(SegmentPath::oid_of_directory(directory.as_bytes()), Some(oid));
                assert_eq!(SegmentPath::oid_of_directory(&directory.as_bytes()[8..]), None);
            }
        }
        for (oid, name) in [
            (999, "version-buffer"),
            (1001, "system-catalog"),
            (2999, "system-catalog"),
            (3000, "user"),
        ] {
            assert_eq!(ObjectClass::of(oid).name(), name, "{oid}");
        }
    }
}
