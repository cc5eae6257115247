//! Stores to measure and to test against, all on loopback (feature `s3`): a server in this process, a
//! proxy before any server that delays, fails and records, and answers that are made up.

mod http;
mod proxy;
mod store;

pub use http::{Answer, Asked, Listening, answering};
pub use proxy::{Fault, Proxy, Rule, Seen};
pub use store::{ACCESS_KEY, Create, SECRET_KEY, Store};
