//! The colvault program: it parses what was asked for, calls the engine and shows what it reports.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod commands;
mod context;
#[cfg(feature = "demo")]
mod demo;
mod exit;
mod output;
mod process;
mod settings;
mod source;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::not_understood(&error).into(),
    };
    let output = output::choose(&args.globals);
    let outcome = process::cancel_on_signals().map_err(Failure::from).and_then(|cancel| {
        process::raise_file_limit();
        let settings = Settings::resolve(&args.globals)?;
        commands::run(&args.command, &settings, &*output, &cancel)
    });
    let exit = outcome.unwrap_or_else(|failure| {
        output.failed(&failure);
        failure.exit()
    });
    match output.finish() {
        Ok(()) => exit.into(),
        Err(error) => {
            output.failed(&error.into());
            Exit::Failed.into()
        }
    }
}
