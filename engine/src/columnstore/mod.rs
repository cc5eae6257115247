//! ColumnStore's own files, decoded: pure functions from bytes to what they say.
//!
//! Nothing here opens a file. What a decoder relies on, and where that is known from, is in
//! docs/COLUMNSTORE.md. Bytes from outside never panic; what makes no sense is an error or a fault
//! that names the place, what was expected and what was found.

pub mod brm;
pub mod catalog;
pub mod page;
pub mod segment;
mod segment_path;

pub use segment_path::{ObjectClass, SegmentPath};
