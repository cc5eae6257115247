//! Each rule of the proof against one real deployment that is damaged in just that way.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::snapshot::Verdict;
use colvault_engine::proof::Rule;

use crate::support::deployment::DBROOT;
use crate::support::proof::{
    CATALOG, COLUMN, DBRM, Live, in_data1, proof, repeated, segment, set_modified,
};

/// A dictionary of the sample.
const DICTIONARY: u32 = 3017;

type Damage = Box<dyn Fn(&Live)>;

/// A damage, the only finding it yields, where, and the rule that does not hold.
struct Case {
    what: &'static str,
    damage: Damage,
    kind: FindingKind,
    /// The end of the object's name, and a part of the detail.
    object: String,
    detail: &'static str,
    rule: Rule,
}

fn case(
    what: &'static str,
    kind: FindingKind,
    rule: Rule,
    object: impl Into<String>,
    detail: &'static str,
    damage: impl Fn(&Live) + 'static,
) -> Case {
    let damage = Box::new(damage);
    Case { what, damage, kind, object: object.into(), detail, rule }
}

fn cases() -> Vec<Case> {
    use FindingKind::*;
    let column = || segment(COLUMN);
    let mut cases = vec![
        case(
            "a file is gone",
            MissingSegment,
            Rule::ExtentHasSegment,
            column(),
            "1 extent of OID 3002",
            |live| {
                fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
            },
        ),
        case(
            "a file out of service is gone",
            MissingSegment,
            Rule::ExtentHasSegment,
            column(),
            "out of service",
            |live| {
                live.patch_extents(COLUMN, |extent| extent[38] = 2);
                fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
            },
        ),
        case(
            "a directory where a file was",
            MissingSegment,
            Rule::ExtentHasSegment,
            column(),
            "it is not there",
            |live| {
                fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
                fs::create_dir(live.path(&in_data1(COLUMN))).unwrap();
            },
        ),
        case(
            "extents of another DB Root",
            MisplacedSegment,
            Rule::ExtentHasSegment,
            column(),
            "DB Root 7 expected, as its 1 extent say, found on DB Root 1",
            |live| {
                live.patch_extents(COLUMN, |extent| extent[34] = 7);
            },
        ),
        case(
            "extents of a DB Root that is not there",
            MissingDbRoot,
            Rule::DbRootsComplete,
            "dbroot/7",
            "1 extent is on it",
            |live| {
                live.patch_extents(COLUMN, |extent| extent[34] = 7);
                fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
            },
        ),
        case(
            "a high-water mark behind the slots",
            ShortSegment,
            Rule::SegmentLongEnough,
            column(),
            "block 66000, the high-water mark",
            |live| {
                live.patch_extents(COLUMN, |extent| {
                    extent[24..28].copy_from_slice(&66_000u32.to_le_bytes())
                });
            },
        ),
        case(
            "a high-water mark behind the slots alone",
            ShortSegment,
            Rule::SegmentLongEnough,
            column(),
            "block 512, the high-water mark, expected in it, found 1 slots of 512 blocks",
            |live| {
                live.patch_extents(COLUMN, |extent| {
                    extent[24..28].copy_from_slice(&512u32.to_le_bytes())
                });
                live.patch(&in_data1(COLUMN), |bytes| {
                    bytes[32..40].copy_from_slice(&4096u64.to_le_bytes())
                });
            },
        ),
        case(
            "a high-water mark behind the blocks",
            ShortSegment,
            Rule::SegmentLongEnough,
            column(),
            "its header counts 100 blocks",
            |live| {
                live.patch_extents(COLUMN, |extent| {
                    extent[24..28].copy_from_slice(&100u32.to_le_bytes())
                });
                live.patch(&in_data1(COLUMN), |bytes| {
                    bytes[32..40].copy_from_slice(&100u64.to_le_bytes())
                });
            },
        ),
        case(
            "an uncompressed file cut off",
            ShortSegment,
            Rule::SegmentLongEnough,
            segment(CATALOG),
            "at least 73728 bytes expected",
            |live| {
                live.patch_extents(CATALOG, |extent| extent[24] = 8);
                live.patch(&in_data1(CATALOG), |bytes| bytes.truncate(8 * 8192));
            },
        ),
        case(
            "an uncompressed file cut inside a block",
            ShortSegment,
            Rule::SegmentLongEnough,
            segment(CATALOG),
            "found 98303 bytes",
            |live| {
                live.patch(&in_data1(CATALOG), |bytes| bytes.truncate(12 * 8192 - 1));
            },
        ),
        case(
            "zeros over a header",
            MissingHeader,
            Rule::CompressedHasHeader,
            column(),
            "that dw.lineitem.l_partkey is compressed, found none",
            |live| live.patch(&in_data1(COLUMN), |bytes| bytes[..8192].fill(0)),
        ),
        case(
            "other bytes over a whole file",
            MissingHeader,
            Rule::CompressedHasHeader,
            column(),
            "was overwritten",
            |live| {
                live.patch(&in_data1(COLUMN), |bytes| {
                    *bytes = colvault_engine::testing::trees::mixed_bytes(5, bytes.len());
                });
            },
        ),
        case(
            "nothing in a file that is compressed",
            MissingHeader,
            Rule::CompressedHasHeader,
            column(),
            "was overwritten",
            |live| live.patch(&in_data1(COLUMN), |bytes| bytes.clear()),
        ),
        case(
            "zeros over the header of a dictionary",
            MissingHeader,
            Rule::CompressedHasHeader,
            segment(DICTIONARY),
            "that dw.lineitem.l_shipinstruct is compressed",
            |live| live.patch(&in_data1(DICTIONARY), |bytes| bytes[..16384].fill(0)),
        ),
        case(
            "another width in the header",
            HeaderDisagrees,
            Rule::HeaderAgrees,
            column(),
            "its header says",
            |live| {
                live.patch(&in_data1(COLUMN), |bytes| bytes[40] = 8);
            },
        ),
        case(
            "another width in the extent map",
            HeaderDisagrees,
            Rule::HeaderAgrees,
            column(),
            "column width 2 expected",
            |live| {
                live.patch_extents(COLUMN, |extent| extent[36] = 2);
            },
        ),
        case(
            "another LBID in the header",
            HeaderDisagrees,
            Rule::HeaderAgrees,
            column(),
            "which its extents begin with, in their order, its header says [",
            |live| {
                live.patch(&in_data1(COLUMN), |bytes| bytes[65] ^= 4);
            },
        ),
        case(
            "one LBID too many",
            HeaderDisagrees,
            Rule::HeaderAgrees,
            column(),
            "which its extents begin with, in their order, its header says [",
            |live| {
                live.patch(&in_data1(COLUMN), |bytes| {
                    bytes[56] = 2;
                    bytes.copy_within(64..72, 72);
                });
            },
        ),
        case(
            "a file of an interrupted load",
            SegmentWithoutExtent,
            Rule::SegmentHasExtent,
            "FILE001.cdf",
            "left over from an interrupted load",
            |live| {
                let file = live.path(&in_data1(COLUMN));
                fs::copy(&file, file.with_file_name("FILE001.cdf")).unwrap();
            },
        ),
        case(
            "a file of a dropped partition",
            SegmentWithoutExtent,
            Rule::SegmentHasExtent,
            "001.dir/FILE000.cdf",
            "OID 3002 has no partition 1",
            |live| {
                let other = live.path(&in_data1(COLUMN).replace("000.dir/FILE", "001.dir/FILE"));
                fs::create_dir(other.parent().unwrap()).unwrap();
                fs::copy(live.path(&in_data1(COLUMN)), other).unwrap();
            },
        ),
        case(
            "a file of a dropped table",
            SegmentWithoutExtent,
            Rule::SegmentHasExtent,
            segment(99_999),
            "as OID 99999 is free",
            |live| {
                let other = live.path(&in_data1(99_999));
                fs::create_dir_all(other.parent().unwrap()).unwrap();
                fs::copy(live.path(&in_data1(COLUMN)), other).unwrap();
            },
        ),
        case(
            "an OID that is free",
            OidNotTaken,
            Rule::OidTaken,
            "oidbitmap",
            "found free: 3002",
            |live| {
                live.patch(&format!("{DBRM}/oidbitmap"), |bytes| {
                    bytes[2048 + 3002 / 8] &= !(0x80 >> (3002 % 8))
                });
            },
        ),
        case(
            "no OID is taken",
            OidNotTaken,
            Rule::OidTaken,
            "oidbitmap",
            "1001, 1002, 1003, 1004, 1005 and 123 more",
            |live| {
                live.patch(&format!("{DBRM}/oidbitmap"), |bytes| {
                    bytes[2048..2048 + (1 << 21)].fill(0)
                });
            },
        ),
        case(
            "a table lock",
            TableLocked,
            Rule::NoTableLock,
            "tablelocks",
            "the table with OID 3001, held by cpimport (process 77)",
            |live| {
                // One lock: its number, table, process, state, session, transaction, time, owner, DB Roots.
                let mut lock = vec![1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
                for field in [3001u32, 77, 0, 0, 0] {
                    lock.extend(field.to_le_bytes());
                }
                lock.extend(1_700_000_000i64.to_le_bytes());
                lock.extend(b"\x08\0cpimport\x01\0\x01\0\0\0");
                live.patch(&format!("{DBRM}/tablelocks"), |bytes| *bytes = lock);
            },
        ),
        case(
            "locked versions",
            LockedVersion,
            Rule::NoLockedVersion,
            "BRM_saves_vss",
            "found 2 of 98",
            |live| {
                live.patch(&format!("{DBRM}/BRM_saves_vss"), |bytes| {
                    bytes[8 + 24 + 13] = 1;
                    bytes[8 + 240 + 13] = 1;
                });
            },
        ),
        case(
            "versions of the future",
            UnknownVersion,
            Rule::VersionsKnown,
            "BRM_saves_vss",
            "versions up to 9",
            |live| {
                live.patch(&format!("{DBRM}/SMTxnID"), |bytes| bytes[0] = 9);
            },
        ),
        case(
            "blocks of the future in the version buffer",
            UnknownVersion,
            Rule::VersionsKnown,
            "BRM_saves_vbbm",
            "found 2147483647",
            |live| {
                // The first block, behind the only file: its LBID, its version.
                live.patch(&format!("{DBRM}/BRM_saves_vbbm"), |bytes| {
                    bytes[44..48].copy_from_slice(&i32::MAX.to_le_bytes());
                });
            },
        ),
        case(
            "a chunk that is being written",
            InterruptedWrite,
            Rule::NoRollbackFile,
            "FILE000.cdf.chk",
            "earlier content",
            |live| {
                fs::write(live.path(&format!("{}.chk", in_data1(COLUMN))), b"earlier").unwrap();
            },
        ),
        case(
            "a load that was not finished",
            InterruptedWrite,
            Rule::NoRollbackFile,
            "bulkRollback/3000",
            "bulk load",
            |live| {
                fs::create_dir_all(live.path(&format!("{DBROOT}/bulkRollback"))).unwrap();
                fs::write(live.path(&format!("{DBROOT}/bulkRollback/3000")), b"# VERSION: 4\n")
                    .unwrap();
            },
        ),
        case(
            "a statement that was not finished",
            InterruptedWrite,
            Rule::NoRollbackFile,
            "dbrm/DMLLog_12_1",
            "statement",
            |live| {
                fs::write(live.path(&format!("{DBRM}/DMLLog_12_1")), b"chk").unwrap();
            },
        ),
        case(
            "a link in place of a file",
            LinkLeavesComponent,
            Rule::SegmentReadWhole,
            column(),
            "/srv/elsewhere",
            |live| {
                fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
                symlink("/srv/elsewhere", live.path(&in_data1(COLUMN))).unwrap();
            },
        ),
        case(
            "a link to another file",
            MissingSegment,
            Rule::ExtentHasSegment,
            column(),
            "found a symbolic link",
            |live| {
                fs::remove_file(live.path(&in_data1(COLUMN))).unwrap();
                symlink("FILE001.cdf.old", live.path(&in_data1(COLUMN))).unwrap();
            },
        ),
        case(
            "a header that makes no sense",
            DamagedHeader,
            Rule::SlotsHold,
            column(),
            "8192",
            |live| {
                live.patch(&in_data1(COLUMN), |bytes| bytes[4096] ^= 1);
            },
        ),
        case(
            "a compressed file cut off",
            DamagedHeader,
            Rule::SlotsHold,
            column(),
            "which ends before its slots do",
            |live| live.patch(&in_data1(COLUMN), |bytes| bytes.truncate(bytes.len() - 8192)),
        ),
        case(
            "a slot whose bytes are others",
            DamagedSlot,
            Rule::SlotsHold,
            column(),
            "slot 0 at byte 8192: checksum",
            |live| live.patch(&in_data1(COLUMN), |bytes| bytes[8192 + 1000] ^= 1),
        ),
        case(
            "a journal of an earlier set",
            JournalOfAnotherSet,
            Rule::JournalCurrent,
            "BRM_saves_journal",
            "that was written before it",
            |live| {
                let journal = live.path(&format!("{DBRM}/BRM_saves_journal"));
                // A high-water mark is set: one record of the command's number and something.
                fs::write(&journal, b"\x05\0\0\0\x1d\x01\x02\x03\x04").unwrap();
                set_modified(&journal, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
            },
        ),
        case(
            "an older set is named",
            JournalOfAnotherSet,
            Rule::JournalCurrent,
            "BRM_saves_journal",
            "_current is of another time",
            |live| {
                // The map of the set has one extent: all other files would be too many.
                let path = |name: &str| live.path(&format!("{DBRM}/{name}"));
                for suffix in ["em", "vss", "vbbm"] {
                    let old = path(&format!("BRM_savesA_{suffix}"));
                    fs::copy(path(&format!("BRM_saves_{suffix}")), &old).unwrap();
                    set_modified(&old, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
                }
                let mut map = fs::read(path("BRM_savesA_em")).unwrap();
                map.truncate(12 + 96);
                map[4..12].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
                fs::write(path("BRM_savesA_em"), map).unwrap();
                let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
                set_modified(&path("BRM_savesA_em"), old);
                fs::write(path("BRM_saves_current"), "BRM_savesA\n").unwrap();
            },
        ),
        case(
            "a save that was interrupted",
            JournalOfAnotherSet,
            Rule::JournalCurrent,
            "BRM_saves_journal",
            "saving it was interrupted",
            |live| {
                let path = |name: &str| live.path(&format!("{DBRM}/{name}"));
                for suffix in ["em", "vss", "vbbm"] {
                    fs::copy(
                        path(&format!("BRM_saves_{suffix}")),
                        path(&format!("BRM_savesA_{suffix}")),
                    )
                    .unwrap();
                }
                fs::write(path("BRM_saves_current"), "BRM_savesA\n").unwrap();
                let hour = Duration::from_secs(3600);
                set_modified(&path("BRM_saves_em"), SystemTime::now() + hour);
            },
        ),
    ];
    // One bit each: what every field can be read of, and what cannot be.
    for (name, at, bit, detail) in [
        ("BRM_saves_em", 20, 3, "extent 0 (OID 1001), LBIDs: at least 1024 expected, found none"),
        ("BRM_saves_em", 32, 6, "block 0 of its file expected for the first of its own"),
        ("BRM_saves_em", 48, 4, "column width: 0, 1, 2, 4, 8 or 16 expected, found 24"),
        ("BRM_saves_em", 50, 2, "status: 0 to 2 expected, found 4"),
        ("BRM_saves_em", 64, 7, "worth of smallest and largest value: 0 to 2 expected, found 129"),
        ("BRM_saves_em", 109, 5, "LBIDs from 8192 on expected, found 0: extent 0 (OID 1001) has"),
        ("BRM_saves_vss", 19, 7, "version 0, transaction: none below zero expected"),
        ("BRM_saves_vbbm", 34, 0, "file 0: a next place within its 1073741824 bytes expected"),
        ("BRM_saves_vbbm", 48, 0, "block 0: one of the files listed expected, found 1"),
        ("oidbitmap", 2673, 7, "OIDs 3094 to 16777215: none in use expected, found 5000"),
        ("SMTxnID", 3, 7, "last transaction: none below zero expected"),
        ("SMTxnID", 7, 7, "version of the system catalog: none below zero expected"),
    ] {
        cases.push(case(
            "a file of the BRM says what cannot be",
            UnreadableBrm,
            Rule::BrmReadable,
            name,
            detail,
            move |live| live.patch(&format!("{DBRM}/{name}"), |bytes| bytes[at] ^= 1 << bit),
        ));
    }
    cases.push(case(
        "much in a file of the BRM cannot be",
        UnreadableBrm,
        Rule::BrmReadable,
        "BRM_saves_em",
        "found none; and 7 more that cannot be",
        |live| {
            for oid in (1001..1005).chain(2001..2002) {
                live.patch_extents(oid, |extent| extent[50 - 12] = 4);
            }
            live.patch_extents(1001, |extent| {
                extent[8..12].fill(0);
                extent[52] = 9;
                extent[20] = 64;
            });
        },
    ));
    for (name, content) in [
        ("BRM_saves_current", &b"BRM_saves_old\n"[..]),
        ("BRM_saves_em", b"extents"),
        ("BRM_saves_vss", b""),
        ("BRM_saves_vbbm", b""),
        ("BRM_saves_journal", b"\0\0\0\0"),
        ("SMTxnID", b"\x01"),
        ("tablelocks", b"\x07\0\0\0"),
        ("oidbitmap", b"taken"),
    ] {
        let path = format!("{DBRM}/{name}");
        let (malformed, gone) = (path.clone(), path);
        cases.push(case(
            "a file of the BRM makes no sense",
            UnreadableBrm,
            Rule::BrmReadable,
            name,
            "malformed at byte",
            move |live| fs::write(live.path(&malformed), content).unwrap(),
        ));
        // Without table locks a server starts.
        if name == "tablelocks" {
            continue;
        }
        cases.push(case(
            "a file of the BRM is gone",
            UnreadableBrm,
            Rule::BrmReadable,
            name,
            "it is not there",
            move |live| fs::remove_file(live.path(&gone)).unwrap(),
        ));
    }
    cases
}

/// Catches a rule that is not checked, a damage that is found twice or as something else, one that
/// makes another rule fail as well, and a proof that comes out otherwise when it is repeated.
#[test]
fn each_damage_yields_its_own_finding_once() {
    let live = Live::sample();
    let mut rules: Vec<Rule> = Vec::new();
    let mut wrong = String::new();
    for case in cases() {
        (case.damage)(&live);
        let snapshot = live.backup().snapshot;
        let again = repeated(&live.store);
        let listed = &snapshot.findings.listed;
        let is_it = |finding: &Finding| {
            finding.kind == case.kind
                && finding.object.ends_with(&case.object)
                && finding.detail.contains(case.detail)
        };
        let proof = proof(&snapshot);
        let failed = proof.rules.iter().filter(|(_, times)| times.failed > 0);
        let failed: Vec<&str> = failed.map(|(name, _)| name.as_str()).collect();
        let repeated = [again.findings.listed, again.repeated.listed].concat();
        let holds = listed.len() == 1
            && is_it(&listed[0])
            && proof.verdict == Verdict::Refuted
            && failed == [case.rule.name()]
            && again.proof == *proof
            && repeated == *listed;
        if !holds {
            let (what, object, again) = (case.what, case.object, again.proof);
            let _ = writeln!(wrong, "{what}, {object}: {listed:#?} {proof:#?} {again:#?}");
        }
        rules.push(case.rule);
        live.mend();
    }
    assert!(wrong.is_empty(), "{wrong}");
    let untried: Vec<_> = Rule::ALL.iter().filter(|rule| !rules.contains(rule)).collect();
    assert_eq!(untried, Vec::<&Rule>::new(), "every rule has a damage of its own");
    let snapshot = live.backup().snapshot;
    assert_eq!(proof(&snapshot).verdict, Verdict::Proved, "mended");
}
