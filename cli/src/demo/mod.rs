//! The demonstration: a small real deployment on four nights is backed up, restored and compared.
//!
//! Every night is laid over a live directory as a night's work changes a host, and backed up by
//! running this program. Afterwards every night is restored and compared, by code that shares
//! nothing with the engine, with the archive unpacked once more.

pub mod compare;
pub mod message;
mod overlay;
mod program;
mod sample;
mod tree;
mod workspace;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use colvault_engine::backend::LocalBackend;
use colvault_engine::backup::RACY_SECONDS;
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::snapshot::Snapshot;
use colvault_engine::format::text::decode_path;
use colvault_engine::id::SessionId;
use colvault_engine::index::CachePlace;
use colvault_engine::repository::Repository;
use colvault_engine::snapshot;
use serde::Deserialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use compare::{Comparison, LeftOut, Place, Sides, compare};
use message::{BackupFigures, Check, Message, Night, Restored, Started, Summary};
use program::{Done, Program};
use sample::{NIGHTS, unpack};
use tree::{Kind, Listing, list};
use workspace::{Workspace, bytes_in, copy_plainly, remove};

/// Runs the demonstration; `keep` leaves its directory behind.
///
/// Fails with `Full` if the directory for temporary files has not enough space.
pub fn run(keep: bool, context: &Context<'_>) -> Result<Exit, Failure> {
    let workspace = Workspace::create(&std::env::temp_dir(), keep)?;
    let program = Program::new(workspace.path(), context.settings.threads, context.cancel)?;
    let demo = Demo { keep, context, workspace, program };
    demo.begin()?;
    let nights: Vec<BackedUpNight> =
        (0..NIGHTS.len()).map(|night| demo.back_up(night)).collect::<Result<_, _>>()?;
    let restored: Vec<Restored> =
        nights.iter().map(|night| demo.restore(night)).collect::<Result<_, _>>()?;
    let check = demo.check()?;
    let summary = demo.summary(&nights, &restored, &check)?;
    let exit = summary.exit();
    context.output.demo(&Message::Summary(summary));
    demo.workspace.close()?;
    Ok(exit)
}

struct Demo<'a> {
    keep: bool,
    context: &'a Context<'a>,
    workspace: Workspace,
    program: Program<'a>,
}

/// A night that was backed up, and what was known of it then.
struct BackedUpNight {
    message: Night,
    /// The live deployment when it was backed up.
    listing: Listing,
}

/// What is of interest in the message of `init`.
#[derive(Deserialize)]
struct Initialized {}

/// What is of interest in the message of `restore`.
#[derive(Deserialize)]
struct RestoreSummary {
    components: Vec<RestoredComponent>,
}

#[derive(Deserialize)]
struct RestoredComponent {
    name: String,
    target: String,
}

impl Demo<'_> {
    fn begin(&self) -> Result<(), Failure> {
        let _: Done<Initialized> = self.program.run("init", "initialized", &["init".as_ref()])?;
        let live = self.workspace.at("live");
        std::fs::create_dir(&live).map_err(|error| Error::io(&live, "create", error))?;
        let space = self.workspace.space;
        self.context.output.demo(&Message::Started(Started {
            directory: self.workspace.path().display().to_string(),
            is_kept: self.keep,
            bytes_needed: space.needed,
            bytes_free: space.free,
            is_root: sample::is_root(),
            has_owner: sample::has_owner(),
        }));
        Ok(())
    }

    /// Lays a night over the live deployment, copies it plainly for comparison, and backs it up.
    fn back_up(&self, night: usize) -> Result<BackedUpNight, Failure> {
        let cancel = self.context.cancel;
        let [unpacked, live, copy] = ["night", "live", "copy"].map(|name| self.workspace.at(name));
        unpack(night, &unpacked, cancel)?;
        let changes = overlay::lay(&unpacked, &live, cancel)?;
        let changed = Instant::now();
        remove(&unpacked)?;
        let listing = list(&live)?;
        let copying = Instant::now();
        copy_plainly(&live, &copy, cancel)?;
        let plain_copy_seconds = copying.elapsed().as_secs_f64();
        remove(&copy)?;
        if night + 1 < NIGHTS.len() {
            self.wait_for_age(changed)?;
        }
        let name = format!("backup-night{night}");
        let arguments = ["backup".as_ref(), "--root".as_ref(), live.as_os_str()];
        let done: Done<BackupFigures> = self.program.run(&name, "summary", &arguments)?;
        if list(&live)? != listing {
            let problem = "the backup was to read it only, and changed it";
            return Err(Failure::new(ErrorKind::Invalid, live.display().to_string(), problem));
        }
        let files = listing.values().filter(|record| record.kind == Kind::File);
        let message = Night {
            night,
            what: NIGHTS[night],
            entries: listing.len() as u64,
            files: files.clone().count() as u64,
            bytes: files.map(|record| record.size).sum(),
            changes,
            plain_copy_seconds,
            backup_seconds: done.elapsed.as_secs_f64(),
            backup: done.result,
            complaints: done.complaints,
        };
        self.context.output.demo(&Message::Night(message.clone()));
        Ok(BackedUpNight { message, listing })
    }

    /// Waits until files are old enough for the next backup to trust their times, as they are on
    /// a host where nights are a day apart.
    fn wait_for_age(&self, changed: Instant) -> Result<(), Error> {
        let age = Duration::from_secs(RACY_SECONDS.unsigned_abs()) + Duration::from_millis(100);
        while changed.elapsed() < age {
            self.context.cancel.check()?;
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Restores a night and compares it with what it was.
    fn restore(&self, night: &BackedUpNight) -> Result<Restored, Failure> {
        let cancel = self.context.cancel;
        let number = night.message.night;
        let target = self.workspace.at(&format!("restored-night{number}"));
        let id = night.message.backup.snapshot_id.to_string();
        let arguments: [&OsStr; 4] =
            ["restore".as_ref(), id.as_ref(), "--target".as_ref(), target.as_os_str()];
        let done: Done<RestoreSummary> =
            self.program.run(&format!("restore-night{number}"), "summary", &arguments)?;
        let snapshot = self.snapshot(night.message.backup.snapshot_id)?;
        let unpacked = self.workspace.at("night");
        unpack(number, &unpacked, cancel)?;
        let comparing = Instant::now();
        let sides = Sides {
            night: &unpacked,
            live: &night.listing,
            places: &places(&snapshot, &done.result.components)?,
            left_out: &left_out(&snapshot),
        };
        let comparison: Comparison = compare(sides, cancel)?;
        let restored = Restored {
            night: number,
            restore_seconds: done.elapsed.as_secs_f64(),
            compare_seconds: comparing.elapsed().as_secs_f64(),
            comparison,
            complaints: done.complaints,
        };
        remove(&unpacked)?;
        if !self.keep {
            remove(&target)?;
        }
        self.context.output.demo(&Message::Restored(restored.clone()));
        Ok(restored)
    }

    /// Returns what a snapshot says of itself.
    fn snapshot(&self, id: SessionId) -> Result<Snapshot, Error> {
        let backend = Arc::new(LocalBackend::open(self.program.repository()));
        let repository = Repository::open(backend, |_| CachePlace::Memory)?;
        snapshot::load(&repository, id)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("snapshot {}", id.short()), "it was revoked")
        })
    }

    fn check(&self) -> Result<Check, Failure> {
        let arguments = ["check".as_ref(), "--read-data".as_ref()];
        let done: Done<Check> = self.program.run("check", "summary", &arguments)?;
        let check = Check { complaints: done.complaints, ..done.result };
        self.context.output.demo(&Message::Check(check.clone()));
        Ok(check)
    }

    fn summary(
        &self,
        nights: &[BackedUpNight],
        restored: &[Restored],
        check: &Check,
    ) -> Result<Summary, Failure> {
        let mut left_out: Vec<LeftOut> = Vec::new();
        for one in restored.iter().flat_map(|restored| &restored.comparison.left_out) {
            if !left_out.contains(one) {
                left_out.push(one.clone());
            }
        }
        let complaints = nights.iter().map(|night| night.message.complaints.len());
        let complaints = complaints.chain(restored.iter().map(|night| night.complaints.len()));
        Ok(Summary {
            nights: nights.iter().map(|night| night.message.clone()).collect(),
            repository_bytes: bytes_in(&self.program.repository())?,
            left_out,
            differences_total: restored.iter().map(|one| one.comparison.differences_total).sum(),
            complaints_total: (complaints.sum::<usize>() + check.complaints.len()) as u64,
            is_root: sample::is_root(),
            kept: self.keep.then(|| self.workspace.path().display().to_string()),
        })
    }
}

/// Returns where each component was in the live deployment and where it is now.
fn places(snapshot: &Snapshot, restored: &[RestoredComponent]) -> Result<Vec<Place>, Error> {
    let place = |component: &RestoredComponent| {
        let recorded = snapshot.components.iter().find(|one| one.name == component.name);
        let recorded = recorded.ok_or_else(|| {
            let problem = format!("the snapshot's components expected, found {}", component.name);
            Error::new(ErrorKind::Invalid, "colvault (restore)", problem)
        })?;
        let restored = decode_path(&component.target);
        Ok(Place { live: below_root(&recorded.path), restored })
    };
    restored.iter().map(place).collect()
}

fn left_out(snapshot: &Snapshot) -> Vec<LeftOut> {
    let records = snapshot.left_out.iter();
    let one = |(path, reason): (&String, &String)| LeftOut {
        path: below_root(path),
        reason: reason.clone(),
    };
    records.map(|record| one((&record.path, &record.reason))).collect()
}

/// Returns a path of the deployment relative to its root.
fn below_root(path: &str) -> PathBuf {
    let path = decode_path(path);
    path.strip_prefix("/").map(PathBuf::from).unwrap_or(path)
}
