//! Where commands put what they sort and memory does not hold.

use std::path::PathBuf;

use colvault_engine::spill::{BUFFER_BYTES_DEFAULT, SpillPlace};

use crate::context::Context;

/// Options of commands that sort.
#[derive(Debug, clap::Args)]
pub struct TemporaryArgs {
    /// Where temporary files go when memory is not enough; by default beside the index cache
    #[arg(long, value_name = "DIR")]
    tmp_dir: Option<PathBuf>,
}

impl TemporaryArgs {
    /// Returns the place: the one asked for, that of the caches, or the system's.
    pub fn place(&self, context: &Context<'_>) -> SpillPlace {
        let usual = usual_place(context);
        SpillPlace { directory: self.tmp_dir.clone().unwrap_or(usual.directory), ..usual }
    }
}

/// Returns the place where nobody asked for one: that of the caches, or the system's.
pub fn usual_place(context: &Context<'_>) -> SpillPlace {
    let cache = context.settings.cache.as_ref().map(|cache| cache.path.clone());
    let directory = cache.unwrap_or_else(std::env::temp_dir);
    SpillPlace { directory, buffer_bytes: BUFFER_BYTES_DEFAULT }
}
