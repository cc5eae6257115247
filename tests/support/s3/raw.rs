//! Single requests to a store, by hand: what a client of ours says cannot prove itself.

use std::io::{Read, Write};
use std::net::TcpStream;

/// What looks like a signature, for a store that only looks who it is that asks.
const AUTHORIZATION: &str = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, \
     SignedHeaders=host, Signature=00\r\n";

/// Sends a request to a store that does not look at signatures and returns the answer: its status, and head and body as text.
pub fn ask(endpoint: &str, method: &str, target: &str, headers: &str, body: &str) -> (u16, String) {
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{AUTHORIZATION}{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or_else(|| panic!("{method} {target}: {answer}")), answer)
}

/// The texts between two others, in order: the values of an element.
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| Some(rest.split_once(after)?.0)).collect()
}
