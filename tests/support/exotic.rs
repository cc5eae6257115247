//! A tree with everything a file system can hold that a backup could lose.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use colvault_engine::testing::trees::{Random, mixed_bytes};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    lsetxattr, makedev, mknodat, utimensat,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes around every border there is: blocks, chunk sizes, the window, the window with what is
/// read ahead. Those around the span have a test of their own.
pub const SIZES: [u64; 22] = [
    0,
    1,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    16 * KIB - 1,
    16 * KIB,
    16 * KIB + 1,
    64 * KIB,
    256 * KIB - 1,
    256 * KIB,
    256 * KIB + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    MIB + 256 * KIB - 1,
    MIB + 256 * KIB,
    MIB + 256 * KIB + 1,
    3 * MIB + 17,
];

/// Writes all of it below `root`.
pub fn write(root: &Path, seed: u64) {
    sizes(&root.join("sizes"), seed);
    zeros(&root.join("zeros"), seed);
    holes(&root.join("holes"), seed);
    names(&root.join("names"));
    links_and_devices(&root.join("links"));
    attributes(&root.join("attributes"));
    // The root itself has attributes too.
    set_mode(root, 0o2751);
    set_mtime(root, 1_234_567_890, 987_654_321);
}

fn make(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory can be made");
}

fn sizes(directory: &Path, seed: u64) {
    make(directory);
    for (number, size) in SIZES.into_iter().enumerate() {
        let bytes = mixed_bytes(seed + number as u64, usize::try_from(size).expect("small"));
        fs::write(directory.join(format!("{size}")), bytes).expect("a file can be written");
        // The same size of bytes that never repeat, and never are zero for long.
        let bytes = Random::new(seed ^ size).bytes(usize::try_from(size).expect("small"));
        fs::write(directory.join(format!("{size}.random")), bytes).expect("a file can be written");
    }
}

/// Runs of zeros, allocated, at the start, in the middle and at the end, of every length class.
fn zeros(directory: &Path, seed: u64) {
    make(directory);
    let mut random = Random::new(seed ^ 0xa5a5);
    let lengths = [1, 512, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 300 * KIB, MIB + 1, 3 * MIB];
    for run in lengths {
        for (place, before, after) in
            [("start", 0, 70_001), ("middle", 70_001, 70_001), ("end", 70_001, 0), ("all", 0, 0)]
        {
            let mut bytes = random.bytes(before);
            bytes.resize(bytes.len() + usize::try_from(run).expect("small"), 0);
            bytes.extend(random.bytes(after));
            fs::write(directory.join(format!("{run}.{place}")), bytes).expect("written");
        }
    }
}

/// Holes at the start, in the middle and at the end, nothing but a hole, and a hole beside zeros.
fn holes(directory: &Path, seed: u64) {
    make(directory);
    let data = Random::new(seed ^ 0x5a5a).bytes(300_000);
    let zeros = vec![0; 512 << 10];
    let sparse = |name: &str, size: u64, parts: &[(u64, &[u8])]| {
        let file = File::create(directory.join(name)).expect("a file can be made");
        file.set_len(size).expect("a file can be extended");
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).expect("a file can be written");
        }
    };
    sparse("start", 2 * MIB, &[(2 * MIB - 300_000, &data)]);
    sparse("middle", 3 * MIB, &[(0, &data), (3 * MIB - 300_000, &data)]);
    sparse("end", 2 * MIB + 5, &[(0, &data)]);
    sparse("all", 5 * MIB + 1, &[]);
    sparse("one", 1, &[]);
    sparse("beside-zeros", 4 * MIB, &[(MIB, &zeros), (2 * MIB, &data)]);
    let many: Vec<(u64, &[u8])> = (0..40).map(|n| (n * 256 * KIB, &data[..4096])).collect();
    sparse("many", 40 * 256 * KIB, &many);
    sparse("over-a-span", 70 * MIB, &[(0, &data), (64 * MIB - 100_000, &data)]);
}

fn names(directory: &Path) {
    make(directory);
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let long = [b'x'; 255];
    let names: [&[u8]; 16] = [
        b"a",
        b"a.b",
        b"a-b",
        b"new\nline",
        b" ",
        b"\xff\xfe not UTF-8",
        "gr\u{fc}\u{df}e".as_bytes(),
        b"100%",
        b"%41",
        b"*",
        b"back\\slash",
        b"\"quoted\"",
        b"...",
        b"-rf",
        &all[..200],
        &long,
    ];
    for name in names {
        let path = directory.join(OsStr::from_bytes(name));
        make(&path);
        fs::write(path.join(OsStr::from_bytes(name)), name).expect("a file can be written");
    }
    make(&directory.join("empty"));
    // `a/x` comes before `a.b` in a manifest, and after it in plain byte order.
    fs::write(directory.join("a/x"), "x").expect("a file can be written");
    let mut deep = directory.join("deep");
    for level in 0..60 {
        deep.push(format!("level{level}"));
    }
    make(&deep);
    fs::write(deep.join("bottom"), "bottom").expect("a file can be written");
}

fn links_and_devices(directory: &Path) {
    make(&directory.join("below"));
    let path = |name: &str| directory.join(name);
    fs::write(path("one"), mixed_bytes(7, 200_000)).expect("a file can be written");
    fs::hard_link(path("one"), path("below/two")).expect("a link can be made");
    fs::hard_link(path("one"), path("three")).expect("a link can be made");
    fs::write(path("empty"), "").expect("a file can be written");
    fs::hard_link(path("empty"), path("empty too")).expect("a link can be made");
    for (target, name) in
        [("one", "symlink"), ("no/such", "dangling"), ("/etc/passwd", "absolute"), ("..", "up")]
    {
        symlink(target, path(name)).expect("a link can be made");
        set_mtime(&path(name), 1_000_000_000, 123_456_789);
    }
    chownat(CWD, path("dangling"), Some(Uid::from_raw(1)), None, AtFlags::SYMLINK_NOFOLLOW)
        .expect("a link can be given away");
    let node = |name: &str, kind, device| {
        mknodat(CWD, path(name), kind, Mode::from_raw_mode(0o640), device).expect("a node");
    };
    node("fifo", FileType::Fifo, 0);
    node("null", FileType::CharacterDevice, makedev(1, 3));
    node("disk", FileType::BlockDevice, makedev(7, 99));
}

fn attributes(directory: &Path) {
    make(directory);
    let file = |name: &str| -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, name).expect("a file can be written");
        path
    };
    for mode in [0o000, 0o400, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777] {
        let path = file(&format!("mode {mode:o}"));
        set_owner(&path, 1, 2);
        set_mode(&path, mode);
        let path = directory.join(format!("directory {mode:o}"));
        make(&path);
        set_mode(&path, mode);
    }
    for (uid, gid) in [(1, 1), (65_534, 65_534), (123_456, 654_321), (0, 4_000_000_000)] {
        set_owner(&file(&format!("owner {uid}")), uid, gid);
    }
    for (seconds, nanoseconds) in [
        (-1, 999_999_999),
        (-86_400 * 365, 1),
        (0, 0),
        (0, 1),
        (1_700_000_000, 123_456_789),
        (4_102_444_800, 5),
    ] {
        set_mtime(&file(&format!("mtime {seconds}.{nanoseconds}")), seconds, nanoseconds);
    }
    let path = file("xattrs");
    set_xattr(&path, "user.empty", b"");
    set_xattr(&path, "user.bytes", &(0..=255).collect::<Vec<u8>>());
    set_xattr(&path, "user.long", &[7; 900]);
    let path = directory.join("directory with xattrs");
    make(&path);
    set_xattr(&path, "user.name", b"value");
    set_xattr(&path, "system.posix_acl_default", &acl(0o7, 0o5, 33, 0o6, 0o7, 0o0));
    fs::write(path.join("inherits"), "an access list from its directory").expect("written");
    let path = file("access list");
    set_mode(&path, 0o640);
    set_xattr(&path, "system.posix_acl_access", &acl(0o6, 0o4, 33, 0o6, 0o6, 0o0));
    // Read-only in a directory that nobody may write.
    let sealed = directory.join("sealed");
    make(&sealed);
    fs::write(sealed.join("file"), "sealed").expect("written");
    set_mode(&sealed.join("file"), 0o400);
    set_mode(&sealed, 0o500);
    set_mtime(&sealed, 1_600_000_000, 1);
}

/// The bytes of a POSIX access list, as the kernel takes them: owner, one user, group, mask, other.
pub fn acl(owner: u16, group: u16, user: u32, user_may: u16, mask: u16, other: u16) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, may, id) in [
        (0x01u16, owner, none),
        (0x02, user_may, user),
        (0x04, group, none),
        (0x10, mask, none),
        (0x20, other, none),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&may.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

pub fn set_mode(path: &Path, mode: u32) {
    chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).expect("chmod");
}

pub fn set_owner(path: &Path, uid: u32, gid: u32) {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).expect("chown");
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
}

pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
}
