//! The commands: each maps its arguments to the engine's options, calls it and hands on the report.

pub mod backup;
pub mod check;
#[cfg(feature = "demo")]
pub mod demo;
pub mod diff;
pub mod dump;
pub mod find;
pub mod init;
pub mod inspect;
pub mod ls;
pub mod object_lock;
pub mod plan;
pub mod repair;
pub mod restore;
pub mod snapshots;
pub mod stats;
mod tables;
mod temporary;

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::finding::Findings;
use colvault_engine::progress::Cancel;
use colvault_engine::restore::Select;
use colvault_engine::snapshot::Named;

use crate::args::Command;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::settings::Settings;

/// What to do about a snapshot that needs what this program does not know.
const NEWER: &str = "use a newer colvault";

/// Runs a command.
pub fn run(
    command: &Command,
    settings: &Settings,
    output: &dyn Output,
    cancel: &Cancel,
) -> Result<Exit, Failure> {
    let context = Context { settings, output, cancel };
    match command {
        Command::Init(args) => init::run(args, &context),
        Command::Plan(args) => plan::run(args, &context),
        Command::Backup(args) => backup::run(args, &context),
        Command::Snapshots(args) => snapshots::run(args, &context),
        Command::Ls(args) => ls::run(args, &context),
        Command::Restore(args) => restore::run(args, &context),
        Command::Check(args) => check::run(args, &context),
        Command::Stats(args) => stats::run(args, &context),
        Command::Diff(args) => diff::run(args, &context),
        Command::Find(args) => find::run(args, &context),
        Command::Dump(args) => dump::run(args, &context),
        Command::Inspect(args) => inspect::run(args, &context),
        Command::Repair(args) => repair::run(args, &context),
        Command::ObjectLock(args) => object_lock::run(args, &context),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args, &context),
    }
}

/// How a command ends that came to its end with these findings.
fn exit_of(findings: &Findings) -> Exit {
    if findings.is_empty() { Exit::Done } else { Exit::Findings }
}

/// Fails once nobody reads the output any more: the rest is worth nothing.
fn nobody_reads(context: &Context<'_>) -> Result<(), Error> {
    match context.output.is_closed() {
        true => Err(Error::new(ErrorKind::Interrupted, "standard output", "nobody reads it")),
        false => Ok(()),
    }
}

/// Says what to do when no snapshot is the one that was asked for.
fn not_chosen(error: Error) -> Failure {
    Failure::from(error).with_hint("colvault snapshots lists what there is")
}

/// Returns a path as the engine selects by it: without a slash at its end or `./` at its beginning.
fn selected_path(path: &Path) -> Vec<u8> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.collect::<PathBuf>().as_os_str().as_bytes().to_vec()
}

/// Fails with `NotFound` for a component that none of the snapshots has.
fn refuse_unknown_components(wanted: &[String], snapshots: &[&Named]) -> Result<(), Failure> {
    for wanted in wanted {
        let one = Select { components: vec![wanted.clone()], ..Select::everything() };
        let mut all = snapshots.iter().flat_map(|named| &named.snapshot.components);
        if !snapshots.is_empty() && !all.any(|component| one.takes_component(&component.name)) {
            let problem = "a component of one of the snapshots expected";
            let object = format!("component {wanted:?}");
            return Err(Failure::new(ErrorKind::NotFound, object, problem));
        }
    }
    Ok(())
}

/// Splits `SNAPSHOT[:PATH]`.
fn split_snapshot(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((snapshot, path)) => (snapshot, Some(path).filter(|path| !path.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_follow_the_snapshot() {
        assert_eq!(split_snapshot("latest"), ("latest", None));
        assert_eq!(split_snapshot("latest~1:/a:b"), ("latest~1", Some("/a:b")));
        assert_eq!(split_snapshot("12ab:"), ("12ab", None));
    }
}
