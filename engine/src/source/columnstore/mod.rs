//! A ColumnStore deployment as a source: which trees it is made of, and whether it runs.
//!
//! [`discover()`] reads the configuration below a root directory and returns a [`Deployment`];
//! [`running_daemons`] tells which of its processes are alive; [`is_interrupted_write`] knows the
//! names of files that only an interrupted write leaves behind. Every path of the configuration
//! goes through a [`Root`], so that nothing outside `--root` is read or taken.
//!
//! Nothing here changes a file, starts a program or talks to a server.

mod config_mycnf;
mod config_storagemanager;
mod config_tree;
mod config_xml;
mod credentials;
mod discover;
mod interrupted;
mod programs;
mod record;
mod rooted;
mod running;
mod trees;

#[cfg(test)]
mod tests;

pub use credentials::Credential;
pub use discover::{Deployment, Topology, discover};
pub use interrupted::is_interrupted_write;
pub use programs::{Program, programs};
pub use record::{
    DATA_FILES, LEFT_TO_THE_RECORD, columnstore_tables, leave_out_tables, leave_out_user_segments,
    take_data_files,
};
pub use rooted::{Resolved, Root};
pub use running::{Running, running_daemons};
