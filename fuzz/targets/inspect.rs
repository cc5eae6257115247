//! Any bytes under any name that is known: never a panic, and no error but that they are not one.
#![no_main]
use colvault_engine::error::{ErrorKind, Result};
use colvault_engine::inspect::{FileBytes, InspectOptions, inspect};
use colvault_engine::progress::NullObserver;
use libfuzzer_sys::fuzz_target;

struct Bytes(Vec<u8>);

impl FileBytes for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&mut self, start: u64, length: u64) -> Result<Vec<u8>> {
        let start = (start as usize).min(self.0.len());
        let end = start.saturating_add(length as usize).min(self.0.len());
        Ok(self.0[start..end].to_vec())
    }

    fn shown(&self) -> &str {
        "file"
    }
}

const NAMES: [&str; 11] = [
    "unknown",
    "000.dir/000.dir/011.dir/184.dir/000.dir/FILE000.cdf",
    "versionbuffer.cdf",
    "BRM_saves_em",
    "BRM_savesA_vss",
    "BRM_savesB_vbbm",
    "BRM_saves_journal",
    "BRM_saves_current",
    "oidbitmap",
    "SMTxnID",
    "tablelocks",
];

fuzz_target!(|input: (u8, Option<u64>, Option<u32>, Vec<u8>)| {
    let (name, slot, oid, bytes) = input;
    let options = InspectOptions { slot, oid, ..InspectOptions::default() };
    let name = NAMES[usize::from(name) % NAMES.len()];
    match inspect(&mut Bytes(bytes), name.as_bytes(), &options, &NullObserver) {
        Ok(report) => assert!(report.contents.is_some() || !report.findings.is_empty()),
        Err(error) => {
            assert!(
                [ErrorKind::Unsupported, ErrorKind::Invalid].contains(&error.kind()),
                "{error}"
            );
        }
    }
});
