//! What the system catalog of the snapshot says of segment files: which of them are compressed.
//!
//! It is read from the content of the snapshot, not from the names that are kept with it, so that a
//! proof that is repeated comes out the same.

use super::Prover;
use crate::error::Result;
use crate::names::{Names, is_of_source};

impl Prover<'_> {
    /// Reads the names of the snapshot; what of them cannot be read is said. `None` when there are none.
    pub(super) fn names(&mut self) -> Result<Option<Names>> {
        let names = match Names::of_content(self.repository, self.snapshot) {
            Ok(names) => names,
            Err(error) if is_of_source(&error) => {
                self.book.unchecked(format!(
                    "which columns are compressed: the system catalog cannot be read: {error}"
                ));
                return Ok(None);
            }
            Err(error) => {
                self.book.lacks("the system catalog", &error)?;
                return Ok(None);
            }
        };
        if let Some(rows) =
            names.as_ref().map(|names| names.unreadable_rows).filter(|rows| *rows > 0)
        {
            self.book.unchecked(format!(
                "names of tables and columns: {rows} rows of the system catalog cannot be read"
            ));
        }
        Ok(names)
    }
}
