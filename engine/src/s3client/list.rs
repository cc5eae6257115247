//! Listing and deleting.

use aws_sdk_s3::types::EncodingType;

use super::action::Action;
use super::explain::Place;
use super::get::contradiction;
use super::request::{Asker, failed};
use crate::error::{ErrorKind, Result};

/// Objects a page has at most.
pub(super) const PAGE: i32 = 1000;

/// Where the next page of a listing begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// A key, or the store's own token.
    pub(super) key: Option<String>,
    /// A version or an upload of that key.
    pub(super) version: Option<String>,
}

impl Cursor {
    /// Returns the next place. A store that begins the same page again would never come to an end.
    pub(super) fn advance(self, next: Cursor, place: &Place) -> Result<Cursor> {
        if next.key.is_none() || next == self {
            let what = "a listing goes on, but not from another place";
            return Err(contradiction(&place.location, what));
        }
        Ok(next)
    }
}

/// A page of objects.
pub(super) struct Page {
    /// Names below the prefix, and lengths.
    pub(super) objects: Vec<(String, u64)>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<Cursor>,
}

impl Asker {
    /// Returns a page of the objects whose names begin with `start`.
    pub(super) async fn list_page(&self, start: &str, cursor: &Cursor) -> Result<Page> {
        let prefix = self.key(start);
        let outcome = self.ask(Action::List, async |_| {
            let request = self.s3.list_objects_v2().bucket(&self.options.bucket);
            let request = request
                .prefix(&prefix)
                .max_keys(PAGE)
                .encoding_type(EncodingType::Url)
                .set_continuation_token(cursor.key.clone());
            Box::pin(request.send()).await.map_err(failed)
        });
        let page = outcome.await.result;
        let page = page.map_err(|failure| self.error(Action::List, start, &failure))?;
        let is_encoded = page.encoding_type == Some(EncodingType::Url);
        let mut objects = Vec::with_capacity(page.contents().len());
        for object in page.contents() {
            let (Some(key), Some(size)) = (object.key(), object.size()) else { continue };
            let key = if is_encoded { decode(key) } else { key.to_owned() };
            // A store that gives more than was asked for is not believed.
            let name =
                key.strip_prefix(&prefix).and_then(|_| key.strip_prefix(&self.options.prefix));
            if let (Some(name), Ok(bytes)) = (name, u64::try_from(size)) {
                objects.push((name.to_owned(), bytes));
            }
        }
        let next = match page.is_truncated {
            Some(true) => {
                let next = Cursor { key: page.next_continuation_token, version: None };
                Some(cursor.clone().advance(next, &self.place)?)
            }
            _ => None,
        };
        Ok(Page { objects, next })
    }

    /// Deletes an object. Succeeds when it was not there.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        let outcome = self.ask(Action::Delete, async |_| {
            let request = self.s3.delete_object().bucket(&self.options.bucket).key(&key);
            Box::pin(request.send()).await.map(drop).map_err(failed)
        });
        match outcome.await.result {
            Ok(()) => Ok(()),
            Err(failure) => {
                let error = self.error(Action::Delete, name, &failure);
                if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
            }
        }
    }
}

/// Undoes the encoding of keys in listings. What is no encoding stands for itself.
pub(super) fn decode(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(&byte) = bytes.get(place) {
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        let escaped = (byte == b'%').then(|| Some(digit(place + 1)? * 16 + digit(place + 2)?));
        match escaped.flatten() {
            Some(value) => {
                decoded.push(value as u8);
                place += 3;
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keys_come_back() {
        for (encoded, key) in [
            ("packs/00/ff", "packs/00/ff"),
            ("a+b%2Bc%20d", "a b+c d"),
            ("%C3%A4%", "ä%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("%FF", "\u{fffd}"),
        ] {
            assert_eq!(decode(encoded), key);
        }
    }

    #[test]
    fn a_listing_that_does_not_move_is_an_error() {
        let place = Place {
            location: "s3://vault".to_owned(),
            bucket: "vault".to_owned(),
            prefix: String::new(),
            store: String::new(),
            proxy: None,
        };
        let at = |key: &str| Cursor { key: Some(key.to_owned()), version: None };
        assert_eq!(Cursor::default().advance(at("a"), &place).unwrap(), at("a"));
        assert!(at("a").advance(at("a"), &place).is_err());
        assert!(at("a").advance(Cursor::default(), &place).is_err());
    }
}
