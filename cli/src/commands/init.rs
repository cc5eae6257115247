//! `colvault init`

use colvault_engine::backend::LocalBackend;
use colvault_engine::error::ErrorKind;
use colvault_engine::format::config::{BLOCK_BYTES_DEFAULT, CutterParameters, SlotParameters};
use colvault_engine::repository::{CreateOptions, PACK_BYTES_DEFAULT, Repository, read_config};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Created;
use crate::process;
use crate::source::SlotsAs;

/// Create a repository in a directory that is empty or not there yet
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
}

/// Creates a repository.
pub fn run(args: &InitArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let usual = CutterParameters::default();
    let bytes = |kib: Option<u32>, usual| kib.map_or(usual, |kib| kib << 10);
    let options = CreateOptions {
        cutter: CutterParameters::new(
            bytes(args.chunk_size_min, usual.min_bytes),
            bytes(args.chunk_size_avg, usual.average_bytes),
            bytes(args.chunk_size_max, usual.max_bytes),
        ),
        slots: SlotParameters { form: args.slots.into(), block_bytes: args.slot_block_size << 10 },
        pack_bytes: args.pack_size << 20,
        now: process::now(),
        program: process::PROGRAM.to_owned(),
    };
    // Before any directory is made.
    options.cutter.validate("chunk sizes")?;
    options.slots.validate("slot block size")?;
    let directory = context.settings.repository()?;
    let present = LocalBackend::open(directory);
    if read_config(&present).is_ok() {
        let location = directory.display().to_string();
        let problem = "there is a repository already";
        return Err(Failure::new(ErrorKind::AlreadyExists, location, problem));
    }
    let backend = LocalBackend::create(directory)?;
    Repository::create(&backend, &options)?;
    let config = read_config(&backend)?;
    let location = directory.display().to_string();
    context.output.created(&Created { location: &location, config: &config });
    Ok(Exit::Done)
}

/// Reads a size of blocks in KiB.
fn block_kib(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    number
        .filter(|kib| kib.is_power_of_two() && (4..=4096).contains(kib))
        .ok_or_else(|| "a power of two from 4 to 4096 KiB expected, as 4, 64 or 256".to_owned())
}
