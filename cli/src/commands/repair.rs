//! `colvault repair`

use clap::Subcommand;
use colvault_engine::id::RepositoryId;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::store::Store;

/// Repair a repository
#[derive(Debug, clap::Args)]
pub struct RepairArgs {
    #[command(subcommand)]
    what: Repair,
}

#[derive(Debug, Subcommand)]
enum Repair {
    /// Bring back what was deleted or replaced in a bucket that keeps versions
    ///
    /// Objects of a repository are created and never changed, so the first version of each is the true one.
    /// Whatever was deleted comes back, snapshots that were forgotten on purpose too; what was put in the
    /// place of an object gives way to its first version, once that is seen to be whole. No version
    /// of an object is deleted. Works when config itself was deleted. Where one repository was deleted and
    /// another made in its place, one has to be named.
    Undelete(UndeleteArgs),
}

/// Bring back what was deleted or replaced.
#[derive(Debug, clap::Args)]
pub struct UndeleteArgs {
    /// Change nothing; say what would come back
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Bring back what belongs to this repository; the rest stays as it is
    #[arg(long, value_name = "ID")]
    repository_id: Option<RepositoryId>,
}

/// Repairs.
pub fn run(args: &RepairArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let Repair::Undelete(args) = &args.what;
    // The repository may have no config any more, so it is not opened.
    let store = Store::open(&context.settings.repository()?, context.settings, context.cancel)?;
    match &store {
        Store::Directory(_) => {
            let _ = (args.dry_run, args.repository_id);
            Err(Failure::usage("repair undelete needs a bucket that keeps versions").with_hint(
                "what was deleted from a directory is gone, unless its file system has snapshots",
            ))
        }
        #[cfg(feature = "s3")]
        Store::Bucket(backend) => bucket::undelete(args, backend, &store, context),
    }
}

#[cfg(feature = "s3")]
mod bucket {
    use std::time::Instant;

    use colvault_engine::backend::{Backend, S3Backend};
    use colvault_engine::error::ErrorKind;
    use colvault_engine::undelete::{UndeleteOptions, undelete as bring_back};

    use super::UndeleteArgs;
    use crate::commands::exit_of;
    use crate::context::{Context, Watch};
    use crate::exit::{Exit, Failure};
    use crate::output::Undeleted;
    use crate::store::Store;

    /// Said where no config is left.
    const NO_CONFIG: &str = "correct the bucket or the prefix; where all versions of a config were deleted, put a copy of it there and \
         run this once more";

    /// Said where there were several repositories.
    const CHOOSE: &str = "say whose objects are to come back: --repository-id ID; with another than the present one its \
         config comes back in the place of the present one";

    pub fn undelete(
        args: &UndeleteArgs,
        backend: &S3Backend,
        store: &Store,
        context: &Context<'_>,
    ) -> Result<Exit, Failure> {
        let watch = Watch::new(context.output);
        let options = UndeleteOptions {
            dry_run: args.dry_run,
            repository: args.repository_id,
            cancel: context.cancel.clone(),
        };
        let apply = |facts: &_| store.apply(facts);
        let mut each = |key: &_, undone| context.output.undeleted(key, undone, args.dry_run);
        let started = Instant::now();
        let report =
            bring_back(backend, &options, &apply, &mut each, &watch).map_err(
                |error| match error.kind() {
                    ErrorKind::Unsupported => Failure::from(error).with_hint(
                        "what was deleted is gone; colvault check tells what is missing",
                    ),
                    ErrorKind::NoRepository if error.problem().contains("config") => {
                        Failure::from(error).with_hint(NO_CONFIG)
                    }
                    ErrorKind::Refused if error.object() == backend.location() => {
                        Failure::from(error).with_hint(CHOOSE)
                    }
                    _ => store.explain(error),
                },
            )?;
        watch.add(&report.findings);
        let findings = watch.findings();
        context.output.undelete_ended(&Undeleted {
            location: &backend.location(),
            dry_run: args.dry_run,
            report: &report,
            next: context.next(),
            findings: &findings,
            elapsed: started.elapsed(),
            traffic: backend.traffic(),
        });
        Ok(exit_of(&findings))
    }
}
