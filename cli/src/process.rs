//! What this process has from the operating system: signals, limits, the host's name, the clock.

use std::io::{self, Write};
use std::thread;

use colvault_engine::error::Error;
use colvault_engine::progress::Cancel;
use jiff::ZonedDateTime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// The program and its version, as repositories and snapshots record it.
pub const PROGRAM: &str = concat!("colvault ", env!("CARGO_PKG_VERSION"));

/// Returns what SIGINT and SIGTERM cancel. A second signal ends the program at once.
pub fn cancel_on_signals() -> Result<Cancel, Error> {
    let cancel = Cancel::default();
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Error::io("signals", "listen for", error))?;
    let asked = cancel.clone();
    thread::spawn(move || {
        let mut pending = signals.forever();
        if pending.next().is_some() {
            asked.cancel();
            let text = "stopping at the next safe place; a second signal ends at once";
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
        if pending.next().is_some() {
            std::process::exit(Exit::Interrupted.code().into());
        }
    });
    Ok(cancel)
}

/// Allows as many open files as the hard limit does. Without that, things merely may go slower.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Returns the host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the present time, RFC 3339 with nanoseconds and offset.
pub fn now() -> String {
    ZonedDateTime::now().strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_rfc_3339_with_nine_digits_and_offset() {
        let text = now();
        assert_eq!(text.len(), "2026-11-23T19:00:00.123456789+01:00".len(), "{text}");
        assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
    }
}
