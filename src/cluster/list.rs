//! The objects of one kind in one namespace, one by one, in pages of bounded size.
//!
//! What comes is raw JSON: no type that would drop the fields it does not know. One page is held, as text, and one
//! object of it parsed; the page after it is fetched meanwhile. Names come in ascending order and each once, whatever the API server does in between: a page
//! is sorted if it is not (servers that keep their objects in memory may not bother), and a list that expired
//! half way goes on behind the last name.

use crate::cluster::{discovery::ServedKind, retry};
use futures::AsyncReadExt;
use http::Request;
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use std::{collections::VecDeque, fmt::Write as _, pin::pin};
use tokio::task::JoinHandle;

/// The most objects in a page.
const MAX_LIMIT: usize = 500;

/// The objects asked for before anything is known of their size: each may have 1.5 MB.
const FIRST_LIMIT: usize = 100;

/// The fewest objects asked for.
const MIN_LIMIT: usize = 10;

/// The size a page is aimed at, in bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// How often a list may expire with nothing to go on with, before it counts as failed.
const MAX_RESTARTS: u32 = 3;

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSelection {
    /// In the syntax of `kubectl -l`.
    pub label_selector: Option<String>,
    /// Only the object of this name.
    pub name: Option<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// All of it.
    pub json: Map<String, Value>,
}

/// One element of a list that is not an object one could store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenItem {
    /// Its name; empty where it has none.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A list being read.
pub struct Listing<'a> {
    client: &'a Client,
    path: String,
    selection: &'a ListSelection,
    next: Next,
    /// The next page, on its way.
    ahead: Option<Ahead>,
    page: VecDeque<(String, Box<RawValue>)>,
    limit: usize,
    remaining: Option<u64>,
    /// The name of the last element handed on.
    last: Option<String>,
    /// After a restart: names up to this one were handed on before.
    resume_after: Option<String>,
    restarts: u32,
    repeats: bool,
}

enum Next {
    Start,
    Continue(String),
    End,
}

impl<'a> Listing<'a> {
    /// Begins a list; nothing is asked yet.
    #[must_use]
    pub fn new(client: &'a Client, kind: &ServedKind, namespace: &str, selection: &'a ListSelection) -> Self {
        Self {
            client,
            path: kind.list_path(namespace),
            selection,
            next: Next::Start,
            ahead: None,
            page: VecDeque::new(),
            limit: FIRST_LIMIT,
            remaining: None,
            last: None,
            resume_after: None,
            restarts: 0,
            repeats: true,
        }
    }

    /// Fails at the first fault: for a server that is known to be in trouble.
    #[must_use]
    pub fn without_repetition(mut self) -> Self {
        self.repeats = false;
        self
    }

    /// How many objects are still to come, as far as the API server told.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.page.len() as u64 + self.remaining.unwrap_or(0)
    }

    /// The next element, or nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Result<Object, BrokenItem>>, Error> {
        loop {
            while let Some((name, raw)) = self.page.pop_front() {
                if !name.is_empty() {
                    if self.resume_after.as_ref().is_some_and(|resumed| name <= *resumed) {
                        continue;
                    }
                    if self.last.as_ref().is_some_and(|last| name <= *last) {
                        let problem = "the API server lists it out of order".to_owned();
                        return Ok(Some(Err(BrokenItem { name, problem })));
                    }
                    self.last = Some(name.clone());
                }
                return Ok(Some(parse(name, &raw)));
            }
            if matches!(self.next, Next::End) {
                return Ok(None);
            }
            self.turn().await?;
        }
    }

    /// Takes the next page, and has the one after it fetched.
    async fn turn(&mut self) -> Result<(), Error> {
        let fetched = match self.ahead.take() {
            Some(ahead) => ahead.page().await,
            None => None,
        };
        let fetched = match fetched {
            Some(fetched) => fetched,
            None => fetch(self.client.clone(), self.uri(), self.repeats).await,
        };
        match fetched {
            Ok(page) => {
                self.adopt(page);
                if matches!(self.next, Next::Continue(_)) {
                    self.ahead = Some(Ahead(tokio::spawn(fetch(self.client.clone(), self.uri(), self.repeats))));
                }
                Ok(())
            }
            Err(Error::Api(status)) if status.code == 410 && self.restarts < MAX_RESTARTS => {
                self.restarts += 1;
                // A token to go on with, though what follows is of a later moment than what went before; or else
                // from the start, leaving out what was handed on.
                let token = status.metadata.and_then(|metadata| metadata.continue_).filter(|token| !token.is_empty());
                self.next = if let Some(token) = token {
                    Next::Continue(token)
                } else {
                    self.resume_after.clone_from(&self.last);
                    Next::Start
                };
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn uri(&self) -> String {
        let mut uri = format!("{}?limit={}", self.path, self.limit);
        let mut parameter = |key: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = write!(uri, "&{key}=");
            uri.push_str(&encode(value));
        };
        if let Some(selector) = &self.selection.label_selector {
            parameter("labelSelector", selector);
        }
        if let Some(name) = &self.selection.name {
            parameter("fieldSelector", &format!("metadata.name={name}"));
        }
        if let Next::Continue(token) = &self.next {
            parameter("continue", token);
        }
        uri
    }

    fn adopt(&mut self, page: FetchedPage) {
        self.limit = next_limit(page.bytes, page.items.len());
        self.page = page.items.into();
        self.remaining = page.metadata.remaining_item_count;
        self.next = match page.metadata.continue_token {
            Some(token) if !token.is_empty() => Next::Continue(token),
            _ => Next::End,
        };
    }
}

/// A page that is being fetched; no longer wanted when this is dropped.
struct Ahead(JoinHandle<Result<FetchedPage, Error>>);

impl Ahead {
    /// The page; none where its task ended without one, which is a fetch that has not been.
    async fn page(mut self) -> Option<Result<FetchedPage, Error>> {
        (&mut self.0).await.ok()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct FetchedPage {
    bytes: usize,
    /// By name, ascending.
    items: Vec<(String, Box<RawValue>)>,
    metadata: Metadata,
}

async fn fetch(client: Client, uri: String, repeats: bool) -> Result<FetchedPage, Error> {
    if repeats { retry::retry(|| fetch_once(&client, &uri)).await } else { fetch_once(&client, &uri).await }
}

async fn fetch_once(client: &Client, uri: &str) -> Result<FetchedPage, Error> {
    let request = Request::get(uri).body(Vec::new()).map_err(Error::HttpError)?;
    let mut stream = pin!(client.request_stream(request).await?);
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.map_err(Error::ReadEvents)?;
    let List { metadata, items } = serde_json::from_slice(&text).map_err(Error::SerdeError)?;
    let mut items: Vec<_> = items.unwrap_or_default().into_iter().map(|raw| (name_of(&raw), raw)).collect();
    if !items.is_sorted_by(|one, other| one.0 <= other.0) {
        items.sort_by(|one, other| one.0.cmp(&other.0));
    }
    Ok(FetchedPage { bytes: text.len(), items, metadata })
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: Metadata,
    /// `null` where a server made an empty list of nothing.
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<u64>,
}

/// How many objects to ask for next, from the size of a page.
fn next_limit(bytes: usize, items: usize) -> usize {
    match bytes.checked_div(items) {
        Some(mean) => (PAGE_BYTES / mean.max(1)).clamp(MIN_LIMIT, MAX_LIMIT),
        None => FIRST_LIMIT,
    }
}

/// The name of an element, without parsing the rest of it; empty where it has none.
fn name_of(raw: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Named {
        metadata: NamedMetadata,
    }
    #[derive(Deserialize)]
    struct NamedMetadata {
        name: String,
    }
    serde_json::from_str::<Named>(raw.get()).map(|named| named.metadata.name).unwrap_or_default()
}

fn parse(name: String, raw: &RawValue) -> Result<Object, BrokenItem> {
    let broken = |name, problem: &str| Err(BrokenItem { name, problem: problem.to_owned() });
    match serde_json::from_str(raw.get()) {
        Ok(Value::Object(_)) if name.is_empty() => broken(name, "it has no name"),
        Ok(Value::Object(json)) => Ok(Object { name, json }),
        Ok(_) => broken(name, "it is not a JSON object"),
        // The parser's own words may quote content, which may be a Secret's.
        Err(_) => broken(name, "its JSON is nested too deeply or is malformed"),
    }
}

/// A value of a query, percent-encoded but for what RFC 3986 leaves alone.
pub(crate) fn encode(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_shrink_with_the_size_of_their_objects() {
        assert_eq!(next_limit(100 * 2_000, 100), 500);
        assert_eq!(next_limit(100 * 100_000, 100), 41);
        assert_eq!(next_limit(100 * 1_500_000, 100), 10);
        assert_eq!(next_limit(50, 0), 100);
    }

    #[test]
    fn a_name_is_found_without_parsing_the_rest() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
        assert_eq!(name_of(&raw(r#"{"a": [1], "metadata": {"uid": "x", "name": "b"}}"#)), "b");
        for text in ["[]", "7", "{}", r#"{"metadata": null}"#, r#"{"metadata": {"name": 3}}"#] {
            assert_eq!(name_of(&raw(text)), "", "{text}");
        }
    }

    #[test]
    fn an_object_nested_beyond_reason_is_one_broken_item() {
        let deep = format!(r#"{{"metadata":{{"name":"a"}},"x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let list: List = serde_json::from_str(&format!(r#"{{"items":[{deep}]}}"#)).expect("the page itself reads");
        let raw = &list.items.expect("items")[0];
        let broken = parse(name_of(raw), raw).expect_err("too deep");
        assert_eq!(broken.problem, "its JSON is nested too deeply or is malformed");
    }

    proptest! {
        #[test]
        fn an_encoded_value_holds_nothing_that_ends_a_parameter(value in ".{0,60}") {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        }
    }
}
