//! What was asked of a store, as text and as an object of JSON.

use colvault_engine::traffic::Traffic;
use serde::Serialize;

use crate::units::{bytes, count};

/// `traffic`: requests by class, and bytes of objects.
#[derive(Debug, Serialize)]
pub struct TrafficFields {
    puts: u64,
    lists: u64,
    gets: u64,
    heads: u64,
    deletes: u64,
    /// Of all these, those that were sent again.
    retries: u64,
    sent: u64,
    received: u64,
}

impl From<Traffic> for TrafficFields {
    fn from(traffic: Traffic) -> Self {
        let Traffic { puts, lists, gets, heads, deletes, retries, sent, received } = traffic;
        TrafficFields { puts, lists, gets, heads, deletes, retries, sent, received }
    }
}

/// Returns the line about it.
pub fn line(traffic: &Traffic) -> String {
    let mut line = format!(
        "requests: {}; {} sent, {} received",
        classes(traffic),
        bytes(traffic.sent),
        bytes(traffic.received)
    );
    if traffic.retries > 0 {
        line.push_str(&format!("; {} sent again", count(traffic.retries)));
    }
    line
}

/// Returns how many requests of each class there were; those of which there were none are left out.
pub fn classes(traffic: &Traffic) -> String {
    let classes = [
        (traffic.puts, "put"),
        (traffic.lists, "list"),
        (traffic.gets, "get"),
        (traffic.heads, "head"),
        (traffic.deletes, "delete"),
    ];
    let some = classes.into_iter().filter(|(number, _)| *number > 0);
    let some: Vec<_> = some.map(|(number, name)| format!("{} {name}", count(number))).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_without_requests_are_left_out() {
        let traffic = Traffic { puts: 1200, lists: 3, sent: 1 << 20, ..Traffic::default() };
        assert_eq!(line(&traffic), "requests: 1,200 put, 3 list; 1.0 MiB sent, 0 B received");
        let traffic = Traffic { gets: 1, heads: 2, deletes: 3, retries: 4, ..Traffic::default() };
        assert_eq!(
            line(&traffic),
            "requests: 1 get, 2 head, 3 delete; 0 B sent, 0 B received; 4 sent again"
        );
        assert!(line(&Traffic::default()).starts_with("requests: none;"));
        assert_eq!(
            serde_json::to_string(&TrafficFields::from(traffic)).unwrap(),
            r#"{"puts":0,"lists":0,"gets":1,"heads":2,"deletes":3,"retries":4,"sent":0,"received":0}"#
        );
    }
}
