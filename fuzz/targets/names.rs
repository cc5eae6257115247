//! Object names, ids and the text form of paths: never a panic, and both directions agree.
#![no_main]
use colvault_engine::backend::Key;
use colvault_engine::format::text::{decode, encode};
use colvault_engine::pattern::Patterns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(key) = Key::parse(text) {
            assert_eq!(key.to_string(), text);
        }
        if let Some(decoded) = decode(text) {
            assert_eq!(decode(&encode(&decoded)), Some(decoded));
        }
        if let Some((glob, path)) = text.split_once('\n')
            && let Ok(patterns) = Patterns::new([glob])
        {
            let _ = patterns.covers(path.as_bytes());
        }
    }
});
