//! Lists the objects of one kind in one namespace, one by one, in pages of bounded size.
//! [`marked`] lists only the metadata of those that are known.
//!
//! Objects are raw JSON, because a type would drop the fields it does not know. One page is held,
//! as text of at most 16 MiB with the place of each object in it, and one parsed object. The next
//! page is fetched meanwhile. A page that is too large or takes too long is requested again with a
//! smaller limit.
//!
//! Names come in ascending order and each once, whatever the API server does in between. A page is
//! sorted if it is not (servers that keep their objects in memory may not sort), and a list that
//! expired halfway continues after the last name.

pub mod marked;

use crate::{
    cluster::{client::timed_out, retry},
    items::served::ServedKind,
    providers::{
        Listed, Listing,
        call::{BrokenItem, ListSelection, Object},
        fault::{CallFailed, Fault},
    },
};
use futures::{AsyncBufRead, AsyncBufReadExt, future::BoxFuture};
use kube::{Client, Error, api::ListParams, core::Request};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{
    collections::{BTreeSet, VecDeque},
    io,
    ops::Range,
    pin::pin,
};
use tokio::task::JoinHandle;

/// Maximum number of objects in a page.
const MAX_LIMIT: u32 = 500;

/// Number of objects requested before anything is known about their size: each may have 1.5 MB.
const FIRST_LIMIT: u32 = 100;

/// Minimum number of objects requested because of their size.
const MIN_LIMIT: u32 = 10;

/// Target size of a page in bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size of a page in bytes: ten objects of the size that etcd allows. A larger page is
/// requested again in parts, down to one object.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Divisor of the limit after a page was too large or took too long.
const SMALLER: u32 = 4;

/// How often a list may expire before it counts as failed.
const MAX_RESTARTS: u32 = 3;

/// What of each object a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// All of it.
    Whole,
    /// Its metadata.
    Metadata,
}

/// A list that is being read.
pub struct Objects<'a> {
    client: &'a Client,
    path: String,
    selection: &'a ListSelection,
    form: Form,
    /// What the current page was requested with.
    began: Next,
    next: Next,
    /// The next page, in flight.
    ahead: Option<Ahead>,
    page: Page,
    limit: u32,
    /// The maximum to request, lower once a page was too large or took too long.
    most: u32,
    remaining: Option<u64>,
    /// The greatest name returned.
    last: Option<String>,
    /// After a restart: names up to this one were already returned.
    resume_after: Option<String>,
    restarts: u32,
    repeats: bool,
}

#[derive(Clone)]
enum Next {
    Start,
    Continue(String),
    End,
}

impl<'a> Objects<'a> {
    /// Starts a list. Sends nothing yet.
    #[must_use]
    pub fn new(client: &'a Client, kind: &ServedKind, namespace: &str, selection: &'a ListSelection) -> Self {
        Self {
            client,
            path: kind.list_path(namespace),
            selection,
            form: Form::Whole,
            began: Next::Start,
            next: Next::Start,
            ahead: None,
            page: Page::default(),
            limit: FIRST_LIMIT,
            most: MAX_LIMIT,
            remaining: None,
            last: None,
            resume_after: None,
            restarts: 0,
            repeats: true,
        }
    }

    /// The next element, or `None` at the end.
    async fn advance(&mut self) -> Result<Option<Listed>, Error> {
        loop {
            if let Some((name, place)) = self.pop() {
                return Ok(Some(parse(name, self.text(place))));
            }
            if self.is_at_end() {
                return Ok(None);
            }
            self.turn().await?;
        }
    }

    /// The next element of the current page, as its name and its place in the text.
    fn pop(&mut self) -> Option<(String, Range<usize>)> {
        while let Some((name, place)) = self.page.items.pop_front() {
            if !name.is_empty() {
                if self.resume_after.as_ref().is_some_and(|resumed| name <= *resumed) {
                    continue;
                }
                if self.last.as_ref().is_none_or(|last| name > *last) {
                    self.last = Some(name.clone());
                }
            }
            return Some((name, place));
        }
        None
    }

    fn text(&self, place: Range<usize>) -> &[u8] {
        self.page.text.get(place).unwrap_or_default()
    }

    /// Whether there is no page after the current one.
    fn is_at_end(&self) -> bool {
        matches!(self.next, Next::End)
    }

    /// Requests the current page again, and the rest of the list, with whole objects. The token of a
    /// page is for the same state of the list, whatever it has of each object.
    fn again_whole(&mut self) {
        self.form = Form::Whole;
        self.ahead = None;
        self.next = self.began.clone();
        self.page.items.clear();
        // Metadata says nothing about the size of whole objects.
        self.limit = FIRST_LIMIT.min(self.most);
    }

    /// Takes the next page, and starts to fetch the one after it.
    async fn turn(&mut self) -> Result<(), Error> {
        let fetched = match self.ahead.take() {
            Some(ahead) => ahead.page().await,
            None => None,
        };
        let fetched = match fetched {
            Some(fetched) => fetched,
            None => self.fetch().await,
        };
        match fetched {
            Ok(Fetched::Page(page, metadata)) => {
                self.adopt(page, metadata);
                if matches!(self.next, Next::Continue(_)) {
                    self.ahead = Some(Ahead(tokio::spawn(self.fetch())));
                }
                Ok(())
            }
            Err(Error::Api(status)) if status.code == 410 && self.restarts < MAX_RESTARTS => {
                self.restarts += 1;
                // The response has a token to continue with, although the rest is from a later
                // moment than what came before. Without one, start again and skip what was already
                // returned.
                let token = status.metadata.and_then(|metadata| metadata.continue_).filter(|token| !token.is_empty());
                self.next = if let Some(token) = token {
                    Next::Continue(token)
                } else {
                    self.resume_after.clone_from(&self.last);
                    Next::Start
                };
                Ok(())
            }
            Ok(Fetched::TooLarge) if self.limit > 1 => {
                self.ask_for_less();
                Ok(())
            }
            Ok(Fetched::TooLarge) => Err(Error::ReadEvents(io::Error::other(ObjectTooLarge))),
            Err(error) if self.repeats && self.limit > 1 && took_too_long(&error) => {
                self.ask_for_less();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn ask_for_less(&mut self) {
        self.limit = (self.limit / SMALLER).max(1);
        self.most = self.limit;
        tracing::debug!(path = self.path, limit = self.limit, "a page was too large or took too long: asking for less");
    }

    /// What the next page is requested with.
    fn parameters(&self) -> ListParams {
        ListParams {
            limit: Some(self.limit),
            label_selector: self.selection.label_selector.clone(),
            field_selector: self.selection.name.as_deref().map(|name| field_is("metadata.name", name)),
            continue_token: match &self.next {
                Next::Continue(token) => Some(token.clone()),
                Next::Start | Next::End => None,
            },
            ..ListParams::default()
        }
    }

    /// Fetches the next page.
    fn fetch(&self) -> impl Future<Output = Result<Fetched, Error>> + use<> {
        let list = Request::new(&self.path);
        fetch(self.client.clone(), list, self.parameters(), self.form, self.repeats, self.page.text.len())
    }

    fn adopt(&mut self, page: Page, metadata: Metadata) {
        self.limit = next_limit(page.text.len(), page.items.len()).min(self.most);
        self.page = page;
        self.began = std::mem::replace(&mut self.next, Next::End);
        self.remaining = metadata.remaining_item_count;
        self.next = match metadata.continue_token {
            Some(token) if !token.is_empty() => Next::Continue(token),
            _ => Next::End,
        };
    }
}

impl Listing for Objects<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Listed>, Fault>> {
        Box::pin(async move { self.advance().await.map_err(Fault::from) })
    }

    fn remaining(&self) -> u64 {
        self.page.items.len() as u64 + self.remaining.unwrap_or(0)
    }

    fn fail_at_once(&mut self) {
        self.repeats = false;
    }
}

/// A page that is being fetched. Dropping it aborts the fetch.
struct Ahead(JoinHandle<Result<Fetched, Error>>);

impl Ahead {
    /// The page. `None` if its task ended without one, as if it had never been fetched.
    async fn page(mut self) -> Option<Result<Fetched, Error>> {
        (&mut self.0).await.ok()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Fetched {
    Page(Page, Metadata),
    /// The page exceeds [`MAX_PAGE_BYTES`].
    TooLarge,
}

/// An object that is larger than any page that is read.
#[derive(Debug, thiserror::Error)]
#[error("one object has more than {} MiB", MAX_PAGE_BYTES / (1024 * 1024))]
struct ObjectTooLarge;

#[derive(Default)]
struct Page {
    text: Vec<u8>,
    /// Name and place in the text of each object, by name, ascending.
    items: VecDeque<(String, Range<usize>)>,
}

/// `expected` is the probable size of the page in bytes.
async fn fetch(
    client: Client,
    list: Request,
    parameters: ListParams,
    form: Form,
    repeats: bool,
    expected: usize,
) -> Result<Fetched, Error> {
    let once = || fetch_once(&client, &list, &parameters, form, expected);
    if repeats { retry::retry(once).await } else { once().await }
}

async fn fetch_once(
    client: &Client,
    list: &Request,
    parameters: &ListParams,
    form: Form,
    expected: usize,
) -> Result<Fetched, Error> {
    let request = match form {
        Form::Whole => list.list(parameters),
        Form::Metadata => list.list_metadata(parameters),
    };
    let request = request.map_err(Error::BuildRequest)?;
    let stream = pin!(client.request_stream(request).await?);
    let Some(text) = read(stream, expected, MAX_PAGE_BYTES).await.map_err(Error::ReadEvents)? else {
        return Ok(Fetched::TooLarge);
    };
    let List { metadata, items } = serde_json::from_slice(&text).map_err(Error::SerdeError)?;
    let mut items: Vec<_> =
        items.unwrap_or_default().into_iter().map(|raw| (name_of(raw.get().as_bytes()), place(raw, &text))).collect();
    if !items.is_sorted_by(|one, other| one.0 <= other.0) {
        items.sort_by(|one, other| one.0.cmp(&other.0));
    }
    Ok(Fetched::Page(Page { text, items: items.into() }, metadata))
}

/// Where an element is in the text that it was read from.
fn place(element: &RawValue, text: &[u8]) -> Range<usize> {
    let start = element.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + element.get().len()
}

/// A whole stream, or `None` if it exceeds `most` bytes. Memory for the `expected` bytes, and for
/// what such a size usually varies, is allocated once.
///
/// `read_to_end` would clear all its spare room for each piece that arrives, which is quadratic in
/// the size.
async fn read(mut stream: impl AsyncBufRead + Unpin, expected: usize, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::with_capacity((expected + expected / 16).min(most));
    loop {
        let piece = stream.fill_buf().await?;
        if piece.is_empty() {
            return Ok(Some(text));
        }
        if text.len() + piece.len() > most {
            return Ok(None);
        }
        text.extend_from_slice(piece);
        let taken = piece.len();
        stream.consume_unpin(taken);
    }
}

/// Whether a smaller page might be answered in time.
fn took_too_long(error: &Error) -> bool {
    timed_out(error) || matches!(error, Error::Api(status) if status.code == 504)
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: Metadata,
    /// `null` if a server serializes an empty list from nothing.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<u64>,
}

/// Names of the Secrets referenced by any `BackupRepository` of the namespace.
///
/// A restore skips all of them: data from one repository must not replace the key of another.
pub(super) async fn repository_secrets(client: &Client, namespace: &str) -> Result<BTreeSet<String>, CallFailed> {
    let kind = ServedKind {
        group: crate::api::GROUP.to_owned(),
        version: crate::api::VERSION.to_owned(),
        kind: "BackupRepository".to_owned(),
        plural: "backuprepositories".to_owned(),
    };
    let everything = ListSelection::default();
    let mut listing = Objects::new(client, &kind, namespace, &everything);
    let mut secrets = BTreeSet::new();
    let doing = "list the BackupRepositories, whose Secrets must not be replaced";
    while let Some(repository) = listing.advance().await.map_err(|error| CallFailed::new(doing, error))? {
        let Ok(repository) = repository else { continue };
        for reference in ["passwordSecret", "credentialsSecret"] {
            let name = repository.json.get("spec").and_then(|spec| spec.get(reference)?.get("name")?.as_str());
            secrets.extend(name.map(str::to_owned));
        }
    }
    Ok(secrets)
}

/// How many objects to request next, given the size of a page.
fn next_limit(bytes: usize, items: usize) -> u32 {
    match bytes.checked_div(items) {
        Some(mean) => {
            u32::try_from(PAGE_BYTES / mean.max(1)).map_or(MAX_LIMIT, |limit| limit.clamp(MIN_LIMIT, MAX_LIMIT))
        }
        None => FIRST_LIMIT,
    }
}

/// Name of an element, without parsing the rest of it. Empty if it has none.
fn name_of(element: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Named {
        metadata: NamedMetadata,
    }
    #[derive(Deserialize)]
    struct NamedMetadata {
        name: String,
    }
    serde_json::from_slice::<Named>(element).map(|named| named.metadata.name).unwrap_or_default()
}

fn parse(name: String, element: &[u8]) -> Listed {
    let broken = |name, problem: &str| Err(BrokenItem { name, problem: problem.to_owned() });
    match serde_json::from_slice(element) {
        Ok(Value::Object(_)) if name.is_empty() => broken(name, "it has no name"),
        Ok(Value::Object(json)) => Ok(Object { name, json }),
        Ok(_) => broken(name, "it is not a JSON object"),
        // The parser's message may quote content, which may be a Secret's.
        Err(_) => broken(name, "its JSON is nested too deeply or is malformed"),
    }
}

/// A field selector for one value. Names of some kinds, such as Roles, may contain the separators
/// of selectors.
#[must_use]
pub fn field_is(field: &str, value: &str) -> String {
    let mut selector = format!("{field}=");
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            selector.push('\\');
        }
        selector.push(character);
    }
    selector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::client::{CallLayer, ClientOptions};
    use futures::AsyncRead;
    use http::{Request, Response};
    use kube::client::Body;
    use proptest::prelude::*;
    use std::{
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll},
    };
    use tower::{BoxError, Layer, service_fn};

    /// Small pieces, as they arrive from a connection. Counts the bytes that the reader passes in
    /// or has copied.
    struct Pieces {
        left: usize,
        piece: Vec<u8>,
        work: Arc<AtomicUsize>,
    }

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            // The whole buffer was cleared before it was passed in.
            self.work.fetch_add(buffer.len(), Ordering::Relaxed);
            let size = self.piece.len().min(self.left).min(buffer.len());
            self.left -= size;
            Poll::Ready(Ok(size))
        }
    }

    impl AsyncBufRead for Pieces {
        fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            let this = self.get_mut();
            let size = this.piece.len().min(this.left);
            this.work.fetch_add(size, Ordering::Relaxed);
            Poll::Ready(Ok(&this.piece[..size]))
        }

        fn consume(mut self: Pin<&mut Self>, size: usize) {
            self.left -= size;
        }
    }

    #[tokio::test]
    async fn the_work_to_read_a_page_grows_with_its_size_and_not_with_the_square() {
        for size in [1_000_000, 16_000_000] {
            let work = Arc::new(AtomicUsize::new(0));
            let pieces = Pieces { left: size, piece: vec![b' '; 8_192], work: Arc::clone(&work) };
            let text = read(pieces, 0, MAX_PAGE_BYTES).await.expect("read").expect("not too large");
            assert_eq!(text.len(), size);
            let work = work.load(Ordering::Relaxed);
            assert!(work <= 2 * size, "{size} bytes took the work of {work}");
        }
        let endless = Pieces { left: usize::MAX, piece: vec![b' '; 8_192], work: Arc::default() };
        assert_eq!(read(endless, 0, MAX_PAGE_BYTES).await.expect("read"), None);
    }

    /// Lists what a server with `objects` objects of `bytes` bytes each returns. A request for more
    /// than `in_time` objects gets no answer.
    async fn names_from(objects: usize, bytes: usize, in_time: usize) -> (Vec<String>, Vec<usize>) {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let limits = Arc::clone(&asked);
        let server = service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let number = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.parse::<usize>().ok());
            let (limit, from) = (number("limit=").expect("a limit"), number("continue=").unwrap_or(0));
            limits.lock().expect("not poisoned").push(limit);
            let to = objects.min(from + limit);
            let padding = "x".repeat(bytes);
            let items: Vec<_> = (from..to)
                .map(|number| format!(r#"{{"metadata":{{"name":"a-{number:04}"}},"x":"{padding}"}}"#))
                .collect();
            let token = if to < objects { to.to_string() } else { String::new() };
            let list = format!(r#"{{"metadata":{{"continue":"{token}"}},"items":[{}]}}"#, items.join(","));
            async move {
                if limit > in_time {
                    std::future::pending::<()>().await;
                }
                Ok::<_, BoxError>(Response::new(Body::from(list.into_bytes())))
            }
        });
        let client = Client::new(CallLayer::new(ClientOptions::default()).layer(server), "acme");
        let kind =
            ServedKind { group: String::new(), version: "v1".into(), kind: "Secret".into(), plural: "secrets".into() };
        let everything = ListSelection::default();
        let mut listing = Objects::new(&client, &kind, "acme", &everything);
        let mut names = Vec::new();
        while let Some(object) = listing.next().await.expect("listed") {
            names.push(object.expect("an object").name);
        }
        let asked = asked.lock().expect("not poisoned").clone();
        (names, asked)
    }

    #[tokio::test]
    async fn a_page_that_is_too_large_is_asked_for_again_in_parts_and_nothing_is_lost() {
        let (names, asked) = names_from(110, 1_000_000, usize::MAX).await;
        assert_eq!(names.len(), 110);
        assert!(names.is_sorted());
        assert_eq!(asked[..3], [100, 25, 6], "100 and 25 objects of 1 MB are more than a page may have");
        assert!(asked[3..].iter().all(|limit| *limit <= 6), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_timed_out_is_asked_for_again_with_a_smaller_limit() {
        let (names, asked) = names_from(60, 10, 30).await;
        assert_eq!(names.len(), 60);
        assert_eq!(asked, [100, 25, 25, 25]);
        let (names, asked) = names_from(3, 10, 1).await;
        assert_eq!(names.len(), 3);
        assert_eq!(asked, [100, 25, 6, 1, 1, 1]);
    }

    #[test]
    fn a_value_of_a_field_selector_is_escaped_as_the_api_server_reads_it() {
        for (name, selector) in [
            ("web", "metadata.name=web"),
            ("CN=readers,OU=shop", r"metadata.name=CN\=readers\,OU\=shop"),
            (r"a\b", r"metadata.name=a\\b"),
            ("system:x y!=z", r"metadata.name=system:x y!\=z"),
        ] {
            assert_eq!(field_is("metadata.name", name), selector);
        }
    }

    /// How the API server reads a selector of one term (`fields.ParseSelector`). `None` if it is
    /// not one.
    fn read_selector(selector: &str) -> Option<(String, String)> {
        let (mut terms, mut term, mut escaped) = (Vec::new(), String::new(), false);
        for character in selector.chars() {
            if character == ',' && !escaped {
                terms.push(std::mem::take(&mut term));
            } else {
                term.push(character);
            }
            escaped = character == '\\' && !escaped;
        }
        terms.push(term);
        let [term] = terms.as_slice() else { return None };
        let (field, value) = term.split_once('=')?;
        let (mut read, mut escaped) = (String::new(), false);
        for character in value.chars() {
            match character {
                '\\' | ',' | '=' if escaped => read.push(character),
                '\\' => {}
                ',' | '=' => return None,
                _ if escaped => return None,
                _ => read.push(character),
            }
            escaped = character == '\\' && !escaped;
        }
        (!escaped).then(|| (field.to_owned(), read))
    }

    #[test]
    fn pages_shrink_with_the_size_of_their_objects() {
        assert_eq!(next_limit(100 * 2_000, 100), 500);
        assert_eq!(next_limit(100 * 100_000, 100), 41);
        assert_eq!(next_limit(100 * 1_500_000, 100), 10);
        assert_eq!(next_limit(50, 0), 100);
    }

    #[test]
    fn a_name_is_found_without_parsing_the_rest() {
        assert_eq!(name_of(br#"{"a": [1], "metadata": {"uid": "x", "name": "b"}}"#), "b");
        for text in ["[]", "7", "{}", r#"{"metadata": null}"#, r#"{"metadata": {"name": 3}}"#] {
            assert_eq!(name_of(text.as_bytes()), "", "{text}");
        }
    }

    #[test]
    fn an_object_nested_beyond_reason_is_one_broken_item() {
        let deep = format!(r#"{{"metadata":{{"name":"a"}},"x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let page = format!(r#"{{"items":[{deep}]}}"#);
        let list: List<'_> = serde_json::from_str(&page).expect("the page itself reads");
        let element = &page.as_bytes()[place(list.items.expect("items")[0], page.as_bytes())];
        assert_eq!(element, deep.as_bytes());
        let broken = parse(name_of(element), element).expect_err("too deep");
        assert_eq!(broken.problem, "its JSON is nested too deeply or is malformed");
    }

    proptest! {
        #[test]
        fn any_name_is_found_by_its_selector(name in r"[a-z,=\\\\!: é]{1,20}") {
            let selected = read_selector(&field_is("metadata.name", &name));
            prop_assert_eq!(selected, Some(("metadata.name".to_owned(), name)));
        }
    }
}
