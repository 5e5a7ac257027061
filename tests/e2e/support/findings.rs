//! The findings of a tenant.

use super::tenant::Tenant;
use super::wait::{SOON, wait_for};
use kube::Client;
use kube::api::{Api, ListParams};
use std::collections::BTreeMap;
use tenantatlas::api::Finding;
use tenantatlas::api::item::{GroupKind, ItemId};

impl Tenant {
    /// The findings by item, as a person reads them.
    pub(crate) async fn findings(&self, client: &Client) -> BTreeMap<String, Finding> {
        let findings: Api<Finding> = Api::namespaced(client.clone(), &self.name);
        let listed = findings.list(&ListParams::default()).await.expect("findings can be listed").items;
        let item = |finding: &Finding| {
            let subject = &finding.spec.subject;
            ItemId::new(GroupKind::new(&subject.group, &subject.kind), &subject.name).to_string()
        };
        listed.into_iter().map(|finding| (item(&finding), finding)).collect()
    }

    /// The findings once the operator has judged each of them.
    pub(crate) async fn judged_findings(&self, client: &Client) -> BTreeMap<String, Finding> {
        wait_for("each finding has the state that it was seen in", SOON, async || {
            let findings = self.findings(client).await;
            let is_judged = |finding: &Finding| {
                let status = finding.status.as_ref();
                status.and_then(|status| status.state) == Some(finding.state())
                    && status.and_then(|status| status.observed_generation) == finding.metadata.generation
            };
            if findings.values().all(is_judged) { Ok(findings) } else { Err(format!("{findings:#?}")) }
        })
        .await
    }
}
