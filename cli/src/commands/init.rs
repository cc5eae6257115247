//! `colvault init`

use clap::ValueEnum;
use colvault_engine::format::config::{
    BLOCK_BYTES_DEFAULT, CreateOnlyFact, CutterParameters, ObjectLock, ObjectLockMode,
    SlotParameters, StoreFacts, VerifiesFact,
};
use colvault_engine::progress::Event;
use colvault_engine::repository::{CreateOptions, PACK_BYTES_DEFAULT, Repository, read_config};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Created;
use crate::process;
use crate::settings::Location;
use crate::source::SlotsAs;
use crate::store::{Locking, Store};

/// Create a repository in a directory that is empty or not there yet, or in a bucket
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Size that packs are filled to, in MiB
    #[arg(long, value_name = "MIB", default_value_t = PACK_BYTES_DEFAULT >> 20,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pack_size: u32,

    /// Smallest chunk in KiB, half of it inside slots of segment files; can never be changed
    #[arg(long, value_name = "KIB", hide_short_help = true, help_heading = "Advanced",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    chunk_size_min: Option<u32>,

    /// Average chunk in KiB, a power of two; can never be changed
    #[arg(long, value_name = "KIB", hide_short_help = true, help_heading = "Advanced",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    chunk_size_avg: Option<u32>,

    /// Largest chunk in KiB; can never be changed
    #[arg(long, value_name = "KIB", hide_short_help = true, help_heading = "Advanced",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    chunk_size_max: Option<u32>,

    /// In which form backups store slots of segment files, unless they say otherwise
    #[arg(long, value_name = "FORM", default_value = "recipe")]
    slots: SlotsAs,

    /// Unpacked bytes of a slot in one chunk, in KiB, a power of two; can never be changed
    #[arg(long, value_name = "KIB", hide_short_help = true, help_heading = "Advanced",
          default_value_t = BLOCK_BYTES_DEFAULT >> 10, value_parser = block_kib)]
    slot_block_size: u32,

    /// How the repository is encrypted; for one in a bucket this has to be said
    #[arg(long, value_name = "HOW")]
    encryption: Option<EncryptionAs>,

    /// Lock what snapshots need in the bucket against being deleted or replaced, for so many days from
    /// each backup on; the bucket has to have object lock. Without this, as the bucket does by default.
    /// Cannot be added later
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36500))]
    object_lock: Option<u32>,

    /// Who may delete locked objects all the same, with --object-lock [default: governance]
    #[arg(long, value_name = "MODE")]
    object_lock_mode: Option<LockModeAs>,
}

/// How a repository is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncryptionAs {
    /// Not at all: whoever can read the repository can read the data
    None,
}

/// Who may delete locked objects all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LockModeAs {
    /// Whoever has the permission s3:BypassGovernanceRetention
    Governance,
    /// Nobody, the owner of the account included, until the time is over
    Compliance,
}

impl From<LockModeAs> for ObjectLockMode {
    fn from(mode: LockModeAs) -> Self {
        match mode {
            LockModeAs::Governance => ObjectLockMode::Governance,
            LockModeAs::Compliance => ObjectLockMode::Compliance,
        }
    }
}

/// What it means when a store replaces what is only to be created.
pub const NOT_CREATE_ONLY: &str = "this store replaces an object where a new one of its name is created (it ignores If-None-Match). \
     colvault asks before each write whether the name is taken, but two programs that create the same name \
     at once could both succeed: do not revoke sessions or prune while a backup may run. The \
     repository's config remembers that";

/// What it means when a store takes whatever arrives.
const NOT_VERIFIED: &str = "this store does not verify the checksums of what it is sent (x-amz-checksum-crc32c). colvault compares \
     the tag the store gives each object with the MD5 of what was sent, and reads the object back where that \
     tag is something else, as with SSE-KMS. The repository's config remembers that";

/// Said where a bucket could lock and is not to.
const NOT_LOCKED: &str = "this bucket has object lock, and this repository will lock nothing: there is no --object-lock DAYS, and no \
     default retention of the bucket. That cannot be added later: if locks are wanted, init again with --object-lock, below \
     another prefix";

/// Creates a repository.
pub fn run(args: &InitArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let usual = CutterParameters::default();
    let bytes = |kib: Option<u32>, usual| kib.map_or(usual, |kib| kib << 10);
    let mut options = CreateOptions {
        cutter: CutterParameters::new(
            bytes(args.chunk_size_min, usual.min_bytes),
            bytes(args.chunk_size_avg, usual.average_bytes),
            bytes(args.chunk_size_max, usual.max_bytes),
        ),
        slots: SlotParameters { form: args.slots.into(), block_bytes: args.slot_block_size << 10 },
        pack_bytes: args.pack_size << 20,
        now: process::now(),
        program: process::PROGRAM.to_owned(),
        store: StoreFacts {
            object_lock: args.object_lock.map(|days| ObjectLock {
                mode: args.object_lock_mode.unwrap_or(LockModeAs::Governance).into(),
                days,
            }),
            ..StoreFacts::default()
        },
    };
    // Before anything is made.
    options.cutter.validate("chunk sizes")?;
    options.slots.validate("slot block size")?;
    let location = context.settings.repository()?;
    args.refuse_unsaid(&location)?;
    let store = Store::create(&location, context.settings, context.cancel)?;
    if let Some(warning) = store.warning() {
        context.output.event(Event::Warning(&warning));
    }
    let locking = store.lock(options.store.object_lock)?;
    options.store.object_lock = locking.lock();
    options.store.create_only = store.probe()?;
    if options.store.create_only == CreateOnlyFact::Ignored {
        context.output.event(Event::Warning(NOT_CREATE_ONLY));
    }
    options.store.verifies = store.probe_verifies()?;
    if options.store.verifies == VerifiesFact::Ignored {
        context.output.event(Event::Warning(NOT_VERIFIED));
    }
    if locking == Locking::NotUsed {
        context.output.event(Event::Warning(NOT_LOCKED));
    }
    store.apply(&options.store);
    let backend = store.backend();
    let created = Repository::create(&*backend, &options).and_then(|_| read_config(&*backend));
    let config = created.map_err(|error| store.explain(error))?;
    context.output.created(&Created {
        location: &location.shown(),
        next: context.next(),
        has_customer_key: context.settings.has_customer_key(),
        config: &config,
        is_default_lock: matches!(locking, Locking::ByDefault(_)),
        traffic: backend.traffic(),
    });
    Ok(Exit::Done)
}

impl InitArgs {
    /// Fails where a repository is not to be made without a word from the user, or cannot be as asked.
    fn refuse_unsaid(&self, location: &Location) -> Result<(), Failure> {
        if self.object_lock_mode.is_some() && self.object_lock.is_none() {
            let problem = "--object-lock-mode says who may lift locks, and nothing says for how long objects are locked";
            return Err(Failure::usage(problem).with_hint(
                "give --object-lock DAYS, too; without both, objects are locked as the bucket does by default",
            ));
        }
        match location {
            Location::Directory(_) if self.object_lock.is_some() => {
                Err(Failure::usage("--object-lock needs a bucket")
                    .with_hint("files of a directory cannot be locked so: leave it out"))
            }
            Location::Bucket(_) if self.encryption.is_none() => Err(Failure::usage(
                "this program cannot encrypt yet: whoever can read the bucket could read the data",
            )
            .with_hint("if that is meant, say so: init --encryption none")),
            _ => Ok(()),
        }
    }
}

/// Reads a size of blocks in KiB.
fn block_kib(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    number
        .filter(|kib| kib.is_power_of_two() && (4..=4096).contains(kib))
        .ok_or_else(|| "a power of two from 4 to 4096 KiB expected, as 4, 64 or 256".to_owned())
}
