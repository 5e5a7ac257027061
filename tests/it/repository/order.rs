//! From listing order to tree order.

use proptest::prelude::*;
use tenantatlas::repository::order::{HasPath, Reorder};
use tenantatlas::repository::{Error, ItemPath};

struct Named(ItemPath);

impl HasPath for Named {
    fn path(&self) -> &ItemPath {
        &self.0
    }
}

/// Names made to collide: prefixes of each other, characters around `.` and `%`, lengths around every limit.
fn name() -> impl Strategy<Value = String> {
    let tail = proptest::string::string_regex("[a-b0\\-.,~ %:é\u{7f}]{0,4}").unwrap();
    let head = prop_oneof![
        6 => Just(String::new()),
        1 => (190_usize..260).prop_map(|length| "x".repeat(length)),
        1 => (95_usize..130).prop_map(|length| "é".repeat(length)),
    ];
    (head, tail).prop_map(|(head, tail)| head + &tail).prop_filter("a name is not empty", |name| !name.is_empty())
}

proptest! {
    #[test]
    fn a_listing_by_name_becomes_the_order_of_the_tree(names in proptest::collection::btree_set(name(), 0..40)) {
        // A `BTreeSet` of strings iterates in byte order, as the API server lists names.
        let mut reorder = Reorder::default();
        let mut streamed = Vec::new();
        for kind in ["ConfigMap", "Secret"] {
            for name in &names {
                streamed.extend(reorder.push(Named(ItemPath::new("", "v1", kind, name).unwrap())));
            }
        }
        streamed.extend(reorder.finish());
        let streamed: Vec<_> = streamed.into_iter().map(|named| named.0).collect();

        let mut sorted = streamed.clone();
        sorted.sort();
        sorted.dedup();
        prop_assert_eq!(streamed.len(), names.len() * 2, "different names have different paths, and none is lost");
        prop_assert_eq!(streamed, sorted);
    }

    #[test]
    fn a_path_survives_reading_it_back(name in name()) {
        let path = ItemPath::new("rbac.authorization.k8s.io", "v1", "Role", &name).unwrap();
        prop_assert_eq!(ItemPath::parse(path.as_str()).unwrap(), path.clone());
        prop_assert!(path.file_name().len() <= 255, "a file name is at most 255 bytes");
        prop_assert!(!path.file_name().contains('/') && !path.file_name().chars().any(|c| c < ' '));
    }

    #[test]
    fn the_order_of_paths_is_the_order_of_a_depth_first_walk(one in name(), other in name()) {
        let path = |name: &str| ItemPath::new("a", "v1", "Kind", name).unwrap();
        let as_path = |path: &ItemPath| std::path::PathBuf::from(path.as_str());
        let (one, other) = (path(&one), path(&other));
        prop_assert_eq!(one.cmp(&other), as_path(&one).cmp(&as_path(&other)));
    }
}

#[test]
fn little_is_held_back() {
    let mut reorder = Reorder::default();
    for number in 0..10_000 {
        let path = ItemPath::new("", "v1", "ConfigMap", &format!("web-{number:05}")).unwrap();
        reorder.push(Named(path));
        assert!(reorder.held() <= 2, "after {number}");
    }
}

#[test]
fn names_as_kubernetes_allows_them_become_safe_file_names() {
    let file = |name: &str| ItemPath::new("", "v1", "Role", name).unwrap().file_name().to_owned();
    assert_eq!(file("web"), "web.json");
    assert_eq!(file("system:node:reader"), "system:node:reader.json");
    assert_eq!(file("with space\n"), "with%20space%0A.json");
    assert_eq!(file("100%"), "100%25.json");
    assert_eq!(file(".."), "...json");
    let longest = "n".repeat(253);
    let shortened = file(&longest);
    assert!(shortened.len() <= 255 && shortened.starts_with(&"n".repeat(200)), "{shortened}");
    assert_ne!(shortened, file(&"n".repeat(252)));
    assert_eq!(file(&"n".repeat(250)), format!("{}.json", "n".repeat(250)));
}

#[test]
fn unsafe_segments_are_refused() {
    for (group, version, kind, name) in [
        ("..", "v1", "Role", "a"),
        ("apps", "v1/../..", "Role", "a"),
        ("apps", "v1", "", "a"),
        ("apps", "v1", "Role", ""),
        ("apps", "v1", "Role", "../../etc/passwd"),
    ] {
        let error = ItemPath::new(group, version, kind, name).unwrap_err();
        assert!(matches!(error, Error::UnsafePath { .. }), "{error}");
    }
    for path in ["a/b/c", "a/b/c/d.json/e", "../b/c/d.json", "a/b/c/d.txt", "a/b/c/.json", "a/b/c/d\n.json", ""] {
        assert!(ItemPath::parse(path).is_err(), "{path}");
    }
}
