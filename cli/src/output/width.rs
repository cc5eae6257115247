//! How wide a line may be.

use std::env;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// When a terminal does not say how wide it is.
const COLUMNS_DEFAULT: usize = 80;

/// Returns how many columns a line has: what `COLUMNS` says, else the terminal's, else 80; what goes to a
/// file or to another program is not shortened.
pub fn columns() -> usize {
    let said = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let stdout = io::stdout();
    let of_terminal = || {
        let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten()?;
        Some(usize::from(size.ws_col))
    };
    let default = if stdout.is_terminal() { COLUMNS_DEFAULT } else { usize::MAX };
    let is_some = |columns: &usize| *columns > 0;
    said.filter(is_some).or_else(|| of_terminal().filter(is_some)).unwrap_or(default)
}
