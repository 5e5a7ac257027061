//! What the chart's roles give and, above all, what they do not.

use super::{assert_refused, call, may};
use crate::support::Tenant;
use serde_json::Value;
use tenantatlas::api::operations::BUILT_IN;

/// Rights that no role of the chart gives to people.
const NEVER: [&str; 30] = [
    "impersonate core/serviceaccounts",
    "create core/serviceaccounts/token",
    "patch tenantatlas.io/operationruns/status",
    "update tenantatlas.io/operationruns/status",
    "patch tenantatlas.io/backuprepositories/status",
    "patch tenantatlas.io/backupsets/status",
    "patch tenantatlas.io/restoreruns/status",
    "patch tenantatlas.io/bulkoperationruns/status",
    "patch tenantatlas.io/backupschedules/status",
    "create authorization.k8s.io/localsubjectaccessreviews",
    "create tenantatlas.io/backupsets",
    "create tenantatlas.io/operationreports",
    "create tenantatlas.io/auditentries",
    "create tenantatlas.io/findings",
    "delete tenantatlas.io/findings",
    "deletecollection tenantatlas.io/findings",
    "patch tenantatlas.io/findings/status",
    "create tenantatlas.io/importedruns",
    "patch tenantatlas.io/importedruns",
    "delete tenantatlas.io/importedruns",
    "patch tenantatlas.io/importedruns/status",
    "update tenantatlas.io/auditentries",
    "delete tenantatlas.io/auditentries",
    "adopt tenantatlas.io/backuprepositories",
    "run tenantatlas.io/operationtypes:some.other",
    "create tenantatlas.io/approvals",
    "patch tenantatlas.io/approvals",
    "delete tenantatlas.io/approvals",
    "approve tenantatlas.io/operationtypes:restore.apply",
    "approve tenantatlas.io/operationtypes:bulk.apply",
];

#[tokio::test]
async fn the_tenants_roles_give_what_their_names_say() {
    let tenant = Tenant::new("roles").await;
    let looks = [
        "list tenantatlas.io/operationruns",
        "list tenantatlas.io/restoreruns",
        "list tenantatlas.io/bulkoperationruns",
        "list tenantatlas.io/backupschedules",
        "get tenantatlas.io/backupsets",
        "watch tenantatlas.io/auditentries",
        "list tenantatlas.io/findings",
        "list tenantatlas.io/importedruns",
        "list tenantatlas.io/approvals",
        "get core/pods/log",
    ];
    let starts = [
        "create tenantatlas.io/operationruns",
        "create tenantatlas.io/restoreruns",
        "create tenantatlas.io/bulkoperationruns",
        "patch tenantatlas.io/restoreruns",
        "create tenantatlas.io/backupschedules",
        "delete tenantatlas.io/backupschedules",
        "patch tenantatlas.io/backupsets",
        "patch tenantatlas.io/findings",
    ];
    let runs: Vec<String> =
        BUILT_IN.iter().map(|operation| format!("run tenantatlas.io/operationtypes:{}", operation.name)).collect();
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let administers = [
        "create tenantatlas.io/backuprepositories",
        "delete tenantatlas.io/operationruns",
        "delete tenantatlas.io/backupsets",
        "delete tenantatlas.io/restoreruns",
        "delete tenantatlas.io/bulkoperationruns",
        "create core/secrets",
        "patch apps/deployments",
    ];
    // Each role, and to which of the four it goes.
    let roles: [(&str, usize); 3] =
        [("tenantatlas-tenant-viewer", 1), ("tenantatlas-tenant-operator", 3), ("tenantatlas-tenant-admin", 4)];
    for (role, reach) in roles {
        let client = tenant.person(role, &[role]).await;
        for (level, rights) in [&looks[..], &starts[..], &runs[..], &administers[..]].into_iter().enumerate() {
            for right in rights {
                let wanted = level < reach;
                assert_eq!(may(&client, tenant.right(right)).await, wanted, "{role}: {right}");
            }
        }
        for right in NEVER {
            assert!(!may(&client, tenant.right(right)).await, "{role}: {right}");
        }
    }
}

#[tokio::test]
async fn an_approver_reads_everything_and_starts_and_changes_nothing() {
    let tenant = Tenant::new("approver-role").await;
    let approver = tenant.person("bob", &["tenantatlas-tenant-approver"]).await;
    for (right, wanted) in [
        ("list tenantatlas.io/restoreruns", true),
        ("get tenantatlas.io/operationreports", true),
        ("create tenantatlas.io/approvals", true),
        ("delete tenantatlas.io/approvals", true),
        ("approve tenantatlas.io/operationtypes:restore.apply", true),
        ("approve tenantatlas.io/operationtypes:bulk.apply", true),
        ("approve tenantatlas.io/operationtypes:backup.capture", false),
        ("patch tenantatlas.io/approvals", false),
        ("run tenantatlas.io/operationtypes:restore.apply", false),
        ("create tenantatlas.io/restoreruns", false),
        ("get core/secrets", false),
    ] {
        assert_eq!(may(&approver, tenant.right(right)).await, wanted, "{right}");
    }
}

#[tokio::test]
async fn the_stock_roles_know_our_kinds_and_start_nothing_by_that() {
    let tenant = Tenant::new("stock").await;
    let rights = [
        ("list tenantatlas.io/operationruns", ["view", "edit", "admin"].as_slice()),
        ("list tenantatlas.io/auditentries", &["view", "edit", "admin"]),
        ("create tenantatlas.io/auditentries", &[]),
        ("delete tenantatlas.io/auditentries", &[]),
        ("create tenantatlas.io/operationruns", &["edit", "admin"]),
        ("create tenantatlas.io/backuprepositories", &["edit", "admin"]),
        ("list tenantatlas.io/backupschedules", &["view", "edit", "admin"]),
        ("create tenantatlas.io/backupschedules", &["edit", "admin"]),
        ("list tenantatlas.io/restoreruns", &["view", "edit", "admin"]),
        ("create tenantatlas.io/restoreruns", &["edit", "admin"]),
        ("delete tenantatlas.io/restoreruns", &["admin"]),
        ("create tenantatlas.io/bulkoperationruns", &["edit", "admin"]),
        ("run tenantatlas.io/operationtypes:bulk.apply", &[]),
        ("run tenantatlas.io/operationtypes:bulk.preview", &[]),
        ("run tenantatlas.io/operationtypes:bulk.delete", &[]),
        ("run tenantatlas.io/operationtypes:bulk.capture", &[]),
        ("run tenantatlas.io/operationtypes:bulk.export", &[]),
        ("run tenantatlas.io/operationtypes:restore.preview", &[]),
        ("run tenantatlas.io/operationtypes:restore.apply", &[]),
        ("patch tenantatlas.io/backupsets", &["admin"]),
        ("delete tenantatlas.io/backupsets", &["admin"]),
        ("delete tenantatlas.io/operationruns", &["admin"]),
        ("run tenantatlas.io/operationtypes:backup.capture", &[]),
        ("create tenantatlas.io/backupsets", &[]),
        ("list tenantatlas.io/findings", &["view", "edit", "admin"]),
        ("create tenantatlas.io/findings", &[]),
        ("list tenantatlas.io/importedruns", &["view", "edit", "admin"]),
        ("create tenantatlas.io/importedruns", &[]),
        ("list tenantatlas.io/approvals", &["view", "edit", "admin"]),
        ("create tenantatlas.io/approvals", &[]),
        ("delete tenantatlas.io/approvals", &[]),
        ("approve tenantatlas.io/operationtypes:restore.apply", &[]),
        ("patch tenantatlas.io/findings", &[]),
        ("delete tenantatlas.io/findings", &[]),
        ("patch tenantatlas.io/operationruns/status", &[]),
        ("adopt tenantatlas.io/backuprepositories", &[]),
    ];
    for role in ["view", "edit", "admin"] {
        let client = tenant.person(&format!("stock-{role}"), &[role]).await;
        for (right, roles) in rights {
            assert_eq!(may(&client, tenant.right(right)).await, roles.contains(&role), "{role}: {right}");
        }
    }
}

#[tokio::test]
async fn anybody_reads_the_catalog_and_nobody_in_a_tenant_changes_it() {
    let tenant = Tenant::new("catalog").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let types = "/apis/tenantatlas.io/v1alpha1/operationtypes";
    let catalog = call(&ada, "GET", types, &Value::Null).await.expect("the catalog");
    let names: Vec<_> = catalog["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    assert!(names.contains(&"backup.capture") && names.contains(&"repository.check"), "{names:?}");
    let change = serde_json::json!({ "spec": { "suspend": true } });
    assert_refused(
        call(&ada, "PATCH", &format!("{types}/backup.capture"), &change).await,
        403,
        &["cannot patch resource"],
    );
}
