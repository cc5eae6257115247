//! The command line: what holds for every command, and the commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[cfg(feature = "demo")]
use crate::commands::demo;
use crate::commands::{
    backup, check, diff, dump, find, init, inspect, ls, object_lock, plan, repair, restore,
    snapshots, stats,
};
use crate::exit;
use crate::settings::S3Args;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "colvault",
    version,
    about = "Deduplicating backups of MariaDB ColumnStore",
    after_help = exit::TABLE,
    arg_required_else_help = true
)]
pub struct Args {
    /// What holds for every command.
    #[command(flatten)]
    pub globals: Globals,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Globals {
    /// The repository: a directory, or s3://BUCKET[/PREFIX], whose options colvault --help lists [env:
    /// COLVAULT_REPOSITORY]
    #[arg(short, long, global = true, value_name = "REPOSITORY")]
    pub repo: Option<String>,

    /// The file of settings [default: /etc/colvault/colvault.toml, if it is there] [env:
    /// COLVAULT_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The profile in that file [env: COLVAULT_PROFILE]
    #[arg(short = 'P', long, global = true, value_name = "NAME")]
    pub profile: Option<String>,

    /// Where indexes are cached; by default colvault in the user's cache directory [env:
    /// COLVAULT_CACHE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<OsString>,

    /// Keep the index in memory and cache nothing
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub no_cache: bool,

    /// Write lines of typed JSON messages
    #[arg(long, global = true)]
    pub json: bool,

    /// Say only what is wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more: what is left out, facts, every finding at once
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Threads that work at once; by default one for each processor
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,

    /// How a repository in a bucket is reached.
    #[command(flatten)]
    pub s3: S3Args,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a repository
    Init(init::InitArgs),
    /// Say what a backup would do, and what speaks against it
    ///
    /// Without PATH or --root the deployment of this host. Nothing is written but the index cache.
    /// Ends with exit code 3 when the backup would be refused, or would end with findings.
    Plan(plan::PlanArgs),
    /// Back up a ColumnStore deployment, or some paths
    Backup(backup::BackupArgs),
    /// List snapshots
    Snapshots(snapshots::SnapshotsArgs),
    /// List the files of a snapshot
    Ls(ls::LsArgs),
    /// Restore a snapshot, or a part of it
    Restore(restore::RestoreArgs),
    /// Check that the repository is whole
    Check(check::CheckArgs),
    /// Show what snapshots hold and take, and what deduplication saves
    Stats(stats::StatsArgs),
    /// Show what changed between two snapshots
    Diff(diff::DiffArgs),
    /// Find files in snapshots, by name, column, or what they are stored in
    Find(find::FindArgs),
    /// Write a file to standard output, or a directory as a tar stream
    Dump(dump::DumpArgs),
    /// Show what a file of ColumnStore says, and what in it does not hold
    ///
    /// Knows segment files, the files of the BRM (extent map of version 4 or 5, vss, vbbm, journal,
    /// current set, OID bitmap, last transaction, table locks) and tablespaces of InnoDB, by their
    /// content where that tells, else by their name. A file of a snapshot is read from the repository,
    /// verified, and not restored. Ends with exit code 3 when something in the file does not hold.
    Inspect(inspect::InspectArgs),
    /// Repair a repository
    Repair(repair::RepairArgs),
    /// Extend the locks of what snapshots need in a bucket, and say what may go when
    ///
    /// For repositories that were made with init --object-lock. Backups do the same at their end, as often
    /// as needed: this is for repositories that are not backed up to any more and shall be kept.
    ObjectLock(object_lock::ObjectLockArgs),
    /// Back up, restore and compare a small bundled deployment
    ///
    /// Works in a directory of its own below $TMPDIR, with a repository and a cache of its own.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together_and_help_lists_the_exit_codes() {
        let mut command = Args::command();
        command.clone().debug_assert();
        let help = command.render_help().to_string();
        for code in ["3 ", "10 ", "20 ", "130 "] {
            assert!(help.contains(&format!("\n  {code:>4}")), "{code} in {help}");
        }
    }
}
