//! `colvault demo`

use crate::context::Context;
use crate::demo;
use crate::exit::{Exit, Failure};

/// Back up, restore and compare a small bundled deployment
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Keep the directory: the repository, the live deployment and every restored night
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration.
pub fn run(args: &DemoArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    demo::run(args.keep, context).map_err(|failure| match failure.exit() {
        Exit::Interrupted => failure.with_hint("run it again: it begins anew"),
        _ => failure,
    })
}
