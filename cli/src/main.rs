//! The colvault program: it parses what was asked for, calls the engine and shows what it reports.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod commands;
mod context;
mod damage;
#[cfg(feature = "demo")]
mod demo;
mod exit;
mod output;
mod process;
mod settings;
mod source;
mod store;
mod units;

use std::process::ExitCode;

use colvault_engine::progress::Event;

use crate::exit::{Exit, Failure};
use crate::settings::CommandLine;

fn main() -> ExitCode {
    let line = match CommandLine::parse(std::env::args_os()) {
        Ok(line) => line,
        Err(error) => return exit::not_understood(&error).into(),
    };
    let output = output::choose(&line.globals);
    let outcome = process::cancel_on_signals().map_err(Failure::from).and_then(|cancel| {
        process::raise_file_limit();
        let (args, settings) = line.resolve()?;
        settings.warnings.iter().for_each(|warning| output.event(Event::Warning(warning)));
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
