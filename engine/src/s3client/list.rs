//! Listing and deleting.

use aws_sdk_s3::types::EncodingType;

use super::action::Action;
use super::explain::Place;
use super::failure::Failure;
use super::get::contradiction;
use super::request::{Asker, failed};
use crate::error::{ErrorKind, Result};

/// Objects a page has at most.
pub(super) const PAGE: i32 = 1000;

/// Pages without an object, one after the other, after which a store is not asked on.
const EMPTY_PAGES_MAX: u64 = 1000;

/// Where the next page of a listing begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// A key, or the store's own token.
    pub(super) key: Option<String>,
    /// A version or an upload of that key.
    pub(super) version: Option<String>,
    /// Behind this name, whether there is such an object or not.
    pub(super) behind: Option<String>,
    /// What the pages before began with.
    pub(super) way: Way,
}

impl Cursor {
    /// Returns the next place, after a page that began with `first`. A store that begins the same pages
    /// again would never come to an end.
    pub(super) fn advance(
        self,
        next: Cursor,
        first: Option<String>,
        place: &Place,
    ) -> Result<Cursor> {
        let stays = next.key.is_none() || (&next.key, &next.version) == (&self.key, &self.version);
        let mut way = self.way;
        if stays || !way.goes_on(first) {
            let what = "a listing goes on, but not from another place";
            return Err(contradiction(&place.location, what));
        }
        Ok(Cursor { way, ..next })
    }
}

/// Finds out a listing that goes in circles: a page that came by is kept, another one each time that twice as
/// many have come, and is met again. Names need not be in order, which not all stores keep to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    pages: u64,
    kept: Option<String>,
    empty: u64,
}

impl Way {
    /// Notes what a page began with. Returns whether a listing can have come here.
    fn goes_on(&mut self, first: Option<String>) -> bool {
        let Some(first) = first else {
            self.empty += 1;
            return self.empty < EMPTY_PAGES_MAX;
        };
        self.empty = 0;
        if self.kept.as_ref() == Some(&first) {
            return false;
        }
        self.pages += 1;
        if self.pages.is_power_of_two() {
            self.kept = Some(first);
        }
        true
    }
}

/// One pass over names of which some are wanted: where it is.
#[derive(Debug)]
pub(super) struct Pass {
    next: Option<Cursor>,
    /// The last name that came.
    last: Option<String>,
    is_sorted: bool,
}

impl Default for Pass {
    fn default() -> Self {
        Pass { next: Some(Cursor::default()), last: None, is_sorted: true }
    }
}

impl Pass {
    /// Returns where the next page begins.
    pub(super) fn next_page(&self) -> Option<&Cursor> {
        self.next.as_ref()
    }

    /// Takes a page. When it ends between what is wanted, the next one begins with the next of `starts`, which
    /// are sorted: a prefix may have much beside a repository below it.
    pub(super) fn take(&mut self, page: &Page, starts: &[String], place: &Place) -> Result<()> {
        let names = page.objects.iter().map(|(name, _)| name);
        let asked_behind = self.next.take().and_then(|cursor| cursor.behind);
        if let (Some(behind), Some(first)) = (asked_behind, names.clone().next())
            && *first <= behind
        {
            let what = "a listing begins before where it was to begin";
            return Err(contradiction(&place.location, what));
        }
        self.is_sorted &= self.last.iter().chain(names).is_sorted();
        self.last = page.objects.last().map(|(name, _)| name.clone()).or(self.last.take());
        self.next = page.next.clone();
        let (Some(_), true, Some(last)) = (&self.next, self.is_sorted, &self.last) else {
            return Ok(());
        };
        if !starts.iter().any(|start| last.starts_with(start.as_str())) {
            let behind = starts.iter().find(|start| *start > last).cloned();
            self.next = behind.map(|name| Cursor { behind: Some(name), ..Cursor::default() });
        }
        Ok(())
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
        let behind = cursor.behind.as_ref().map(|name| self.key(name));
        let outcome = self.ask(Action::List, async |_| {
            let request = self.s3.list_objects_v2().bucket(&self.options.bucket);
            let request = request
                .prefix(&prefix)
                .max_keys(PAGE)
                .encoding_type(EncodingType::Url)
                .set_continuation_token(cursor.key.clone())
                .set_start_after(behind.clone());
            let page = Box::pin(request.send()).await.map_err(failed)?;
            let came = page.contents().len() + page.common_prefixes().len();
            check_whole(page.is_truncated, page.key_count, came)?;
            Ok(page)
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
                let first = page.contents().first().and_then(|object| object.key());
                let first = first.map(str::to_owned);
                let next = Cursor { key: page.next_continuation_token, ..Cursor::default() };
                Some(cursor.clone().advance(next, first, &self.place)?)
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

/// Fails unless a page says whether it is the last one, and has what it announces. Some stores, as Swift,
/// do not count.
pub(super) fn check_whole(
    is_truncated: Option<bool>,
    announced: Option<i32>,
    came: usize,
) -> Result<(), Failure> {
    if is_truncated.is_none() {
        let problem = "a page of a listing does not say whether more follow";
        return Err(Failure::Lost(problem.to_owned()));
    }
    match announced {
        Some(count) if usize::try_from(count) != Ok(came) => Err(Failure::Lost(format!(
            "a page of a listing announces {count} objects and has {came}"
        ))),
        _ => Ok(()),
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

    fn place() -> Place {
        Place {
            location: "s3://vault".to_owned(),
            bucket: "vault".to_owned(),
            prefix: String::new(),
            store: String::new(),
            proxy: None,
        }
    }

    /// Catches a pass that asks for pages of what is not wanted, that loses what is, or that trusts an
    /// order that the store does not keep.
    #[test]
    fn a_pass_leaves_out_what_lies_between() {
        let starts = ["index/", "packs/"].map(str::to_owned);
        let token = || Some(Cursor { key: Some("token".to_owned()), ..Cursor::default() });
        let page = |names: &[&str], next| Page {
            objects: names.iter().map(|name| ((*name).to_owned(), 1)).collect(),
            next,
        };
        let behind =
            |name: &str| Some(Cursor { behind: Some(name.to_owned()), ..Cursor::default() });
        for (pages, wanted) in [
            (vec![page(&["config", "index/1"], token())], token()),
            (vec![page(&["a", "b"], token())], behind("index/")),
            (vec![page(&["index/1", "other/1"], token())], behind("packs/")),
            (vec![page(&["packs/1", "zebra"], token())], None),
            (vec![page(&["index/1"], None)], None),
            // A name that is only alike.
            (vec![page(&["packs"], token())], behind("packs/")),
            (vec![page(&["packs1"], token())], None),
            // Not sorted: everything is looked at.
            (vec![page(&["packs/1", "a"], token())], token()),
            (vec![page(&["packs/1"], token()), page(&["a"], token())], token()),
            (vec![page(&["a"], token()), page(&["packs/1"], token())], token()),
        ] {
            let mut pass = Pass::default();
            assert_eq!(pass.next_page(), Some(&Cursor::default()));
            for page in &pages {
                pass.take(page, &starts, &place()).unwrap();
            }
            assert_eq!(pass.next_page(), wanted.as_ref());
        }
        // A store that begins from the front all the same would never come to an end.
        let mut pass = Pass::default();
        pass.take(&page(&["a"], token()), &starts, &place()).unwrap();
        assert!(pass.take(&page(&["a"], token()), &starts, &place()).is_err());
    }

    #[test]
    fn a_listing_that_does_not_move_is_an_error() {
        let place = place();
        let at = |key: &str| Cursor { key: Some(key.to_owned()), ..Cursor::default() };
        let next = Cursor::default().advance(at("a"), None, &place).unwrap();
        assert_eq!((next.key, next.version), (at("a").key, None));
        assert!(at("a").advance(at("a"), None, &place).is_err());
        assert!(at("a").advance(Cursor::default(), None, &place).is_err());
    }

    #[test]
    fn circles_are_found_and_what_is_not_in_order_is_no_circle() {
        let pages = |names: &mut dyn Iterator<Item = Option<u64>>| {
            let mut way = Way::default();
            names.take_while(|name| way.goes_on(name.map(|name| name.to_string()))).count()
        };
        for (before, round) in [(0, 1), (0, 2), (3, 2), (5, 7), (100, 64)] {
            let circle = (0..before).chain((0..).map(|page| before + page % round));
            let found = pages(&mut circle.map(Some));
            assert!(found <= 4 * (before + round) as usize, "{before} {round}: {found}");
        }
        assert_eq!(pages(&mut (0..5000).rev().map(Some)), 5000);
        assert_eq!(pages(&mut (0..5000).map(|page| (page % 900 == 0).then_some(page))), 5000);
        assert_eq!(pages(&mut std::iter::repeat(None)) as u64, EMPTY_PAGES_MAX - 1);
    }
}
