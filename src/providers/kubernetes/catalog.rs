//! Discovers which namespaced kinds the cluster serves.
//!
//! Two requests return everything (aggregated discovery, general since Kubernetes 1.30). A group
//! that cannot be discovered, such as that of a dead aggregated API server, is reported next to the
//! others: one team's outage must not stop every tenant's backup.

use crate::{
    cluster::retry::retry,
    items::served::ServedKind,
    providers::catalog::{Catalog, UndiscoveredGroup},
};
use http::{Request, header::ACCEPT};
use kube::{
    Client, Error,
    client::{APIGroupDiscoveryList, APIResourceDiscovery, APISubresourceDiscovery, APIVersionDiscovery},
    core::discovery::v2::ACCEPT_AGGREGATED_DISCOVERY_V2,
};
use serde::Deserialize;
use std::collections::{BTreeMap, btree_map::Entry};

/// Asks the cluster. Fails only if the API server itself fails.
pub async fn discover(client: &Client) -> Result<Catalog, Error> {
    let core = retry(|| document(client, "/api")).await?;
    let groups = retry(|| document(client, "/apis")).await?;
    Ok(read(&core, &groups))
}

/// A discovery document that states its kind. A server or proxy without aggregated discovery
/// answers with another kind of document, which must not be taken for an empty cluster.
#[derive(Deserialize)]
#[serde(tag = "kind")]
enum Document {
    #[serde(rename = "APIGroupDiscoveryList")]
    Aggregated(APIGroupDiscoveryList),
}

async fn document(client: &Client, path: &str) -> Result<APIGroupDiscoveryList, Error> {
    let request =
        Request::get(path).header(ACCEPT, ACCEPT_AGGREGATED_DISCOVERY_V2).body(Vec::new()).map_err(Error::HttpError)?;
    let Document::Aggregated(list) = client.request(request).await?;
    Ok(list)
}

/// Reads the two documents: that of the core group and that of the other groups.
#[must_use]
pub fn read(core: &APIGroupDiscoveryList, groups: &APIGroupDiscoveryList) -> Catalog {
    let mut discovered = Catalog::default();
    for group in core.items.iter().chain(&groups.items) {
        let name = group.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
        // Versions come in descending order of preference. The first that serves a kind is used.
        let mut kinds = BTreeMap::new();
        for version in &group.versions {
            let Some(version_name) = &version.version else { continue };
            if version.freshness.as_deref() == Some("Stale") && version.resources.is_empty() {
                discovered
                    .undiscovered
                    .insert(UndiscoveredGroup { group: name.clone(), version: version_name.clone() });
            }
            for (resource, kind, plural) in resources(version) {
                let served =
                    ServedKind { group: name.clone(), version: version_name.clone(), kind: kind.clone(), plural };
                if resource.scope.as_deref() != Some("Namespaced") {
                    let known = discovered.cluster_wide.iter().any(|known| known.group_kind() == served.group_kind());
                    if !known {
                        discovered.cluster_wide.insert(served);
                    }
                    continue;
                }
                let can = |verb: &str| resource.verbs.iter().any(|one| one == verb);
                if !can("list") {
                    continue;
                }
                if !can("create") {
                    discovered.read_only.insert(served.group_kind());
                    continue;
                }
                match kinds.entry(kind) {
                    Entry::Vacant(first) => {
                        let has_status = |part: &APISubresourceDiscovery| part.subresource.as_deref() == Some("status");
                        if !resource.subresources.iter().any(has_status) {
                            discovered.without_status.insert(served.group_kind());
                        }
                        first.insert(served);
                    }
                    Entry::Occupied(_) => {
                        discovered.others.insert(served);
                    }
                }
            }
        }
        discovered.read_only.retain(|kind| kind.group != name || !kinds.contains_key(&kind.kind));
        discovered.kinds.extend(kinds.into_values());
    }
    discovered
}

/// Resources with their kind and name. Subresources are not in this list.
fn resources(version: &APIVersionDiscovery) -> impl Iterator<Item = (&APIResourceDiscovery, String, String)> + '_ {
    version.resources.iter().filter_map(|resource| {
        let kind = resource.response_kind.as_ref()?.kind.clone().filter(|kind| !kind.is_empty())?;
        let plural = resource.resource.clone().filter(|plural| !plural.contains('/'))?;
        Some((resource, kind, plural))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::item::GroupKind;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn resource(plural: &str, kind: &str, scope: &str, verbs: &[&str]) -> Value {
        json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": scope, "verbs": verbs,
               "subresources": [{"subresource": "status", "responseKind": {"kind": kind}, "verbs": ["list"]}]})
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn group(name: &str, versions: Value) -> Value {
        json!({"metadata": {"name": name}, "versions": versions})
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn discovered(groups: Vec<Value>) -> Catalog {
        let list = serde_json::from_value(json!({"items": groups})).expect("a discovery document");
        read(&APIGroupDiscoveryList::default(), &list)
    }

    fn names(discovered: &Catalog) -> Vec<String> {
        discovered.kinds.iter().map(|kind| format!("{}/{}", kind.api_version(), kind.kind)).collect()
    }

    #[test]
    fn only_kinds_of_namespaces_that_can_be_listed_and_made_are_found_in_the_order_of_their_paths() {
        let found = discovered(vec![
            group(
                "",
                json!([{"version": "v1", "freshness": "Current", "resources": [
                    resource("secrets", "Secret", "Namespaced", &["get", "list", "create"]),
                    resource("configmaps", "ConfigMap", "Namespaced", &["get", "list", "create"]),
                    resource("namespaces", "Namespace", "Cluster", &["get", "list", "create"]),
                    resource("bindings", "Binding", "Namespaced", &["create"])]}]),
            ),
            group(
                "apps",
                json!([{"version": "v1", "resources": [resource("deployments", "Deployment", "Namespaced", &["list", "create"])]}]),
            ),
        ]);
        // `core` sorts after `apps`, although its group's name is empty.
        assert_eq!(names(&found), ["apps/v1/Deployment", "v1/ConfigMap", "v1/Secret"]);
        assert_eq!(found.undiscovered, BTreeSet::new());
    }

    #[test]
    fn what_can_be_listed_and_not_made_is_no_kind_to_capture() {
        let measured = [resource("pods", "PodMetrics", "Namespaced", &["get", "list"])];
        let found = discovered(vec![
            group("metrics.example.com", json!([{"version": "v1", "resources": measured}])),
            group(
                "example.com",
                json!([
                    {"version": "v2", "resources": [resource("widgets", "Widget", "Namespaced", &["get", "list"])]},
                    {"version": "v1", "resources": [resource("widgets", "Widget", "Namespaced", &["list", "create"])]},
                ]),
            ),
        ]);
        assert_eq!(names(&found), ["example.com/v1/Widget"], "in the version in which it can be made");
        assert_eq!(found.read_only, BTreeSet::from([GroupKind::new("metrics.example.com", "PodMetrics")]));
    }

    #[test]
    fn a_kind_served_in_several_versions_is_taken_once_in_the_preferred_one() {
        let both = [resource("widgets", "Widget", "Namespaced", &["list", "create"])];
        let old = [
            resource("widgets", "Widget", "Namespaced", &["list", "create"]),
            resource("gadgets", "Gadget", "Namespaced", &["list", "create"]),
        ];
        let found = discovered(vec![group(
            "example.com",
            json!([{"version": "v2", "resources": both}, {"version": "v1", "resources": old}]),
        )]);
        assert_eq!(names(&found), ["example.com/v1/Gadget", "example.com/v2/Widget"]);
        let widget = found.versions().remove(&GroupKind::new("example.com", "Widget"));
        assert_eq!(widget, Some(BTreeSet::from(["v1".to_owned(), "v2".to_owned()])));
        assert!(
            found.find("example.com", "v1", "Widget").is_some() && found.find("example.com", "v3", "Widget").is_none()
        );
    }

    #[test]
    fn a_dead_group_is_reported_beside_the_others() {
        let alive =
            json!([{"version": "v1", "resources": [resource("widgets", "Widget", "Namespaced", &["list", "create"])]}]);
        let found = discovered(vec![
            group("dead.example.com", json!([{"version": "v1", "freshness": "Stale"}])),
            group("example.com", alive),
        ]);
        assert_eq!(names(&found), ["example.com/v1/Widget"]);
        let dead = UndiscoveredGroup { group: "dead.example.com".into(), version: "v1".into() };
        assert_eq!(found.undiscovered, BTreeSet::from([dead]));
    }

    #[test]
    fn a_stale_group_whose_kinds_are_still_known_is_listed_as_any_other() {
        let stale = json!([{"version": "v1", "freshness": "Stale",
            "resources": [resource("widgets", "Widget", "Namespaced", &["list", "create"])]}]);
        let found = discovered(vec![group("example.com", stale)]);
        assert_eq!(names(&found), ["example.com/v1/Widget"]);
        assert_eq!(found.undiscovered, BTreeSet::new());
    }

    #[test]
    fn a_document_of_another_kind_is_not_an_empty_cluster() {
        let legacy = r#"{"kind": "APIGroupList", "apiVersion": "v1", "groups": []}"#;
        assert!(serde_json::from_str::<Document>(legacy).is_err());
    }
}
