//! Metrics name all tenants: who reads them is asked.

use crate::findings::finding;
use crate::support::cluster::environment;
use crate::support::{SOON, Tenant, wait_for};
use kube::ResourceExt as _;
use serde_json::json;
use tenantatlas::api::Finding;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the operator's pod answers at this port of ours.
async fn get(port: u16, path: &str, token: Option<&str>) -> Result<(u16, String), String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| answer.clone())?;
    Ok((code, answer))
}

#[tokio::test]
async fn metrics_are_for_whom_the_api_server_lets_read_them() {
    let tenant = Tenant::new("metrics").await;
    for account in ["prometheus", "eve"] {
        tenant.apply(
            &json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": account } }).to_string(),
        );
    }
    let reads = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": tenant.name, "labels": crate::support::tenant::of_story(&tenant) },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tenantatlas-metrics-reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "prometheus", "namespace": tenant.name }] });
    tenant.apply(&reads.to_string());
    let token = |account: &str, more: &[&str]| {
        let arguments = [&["create", "token", account, "--namespace", &tenant.name], more].concat();
        tenant.cluster.kubectl_prints(&arguments).trim().to_owned()
    };
    let pod = tenant.cluster.leader().await;
    // Pods have addresses within the cluster alone.
    let forwarded = tenant.cluster.forwards(&environment("ATLAS_OPERATOR_NAMESPACE"), &pod.name_any(), 8080);
    let port = forwarded.port;
    let reader = token("prometheus", &[]);
    wait_for("the right is known", SOON, async || match get(port, "/metrics", Some(&reader)).await? {
        (200, text) if text.contains("tenantatlas_leader 1") => Ok(()),
        (code, text) => Err(format!("{code}: {text}")),
    })
    .await;
    // Good for nothing else.
    let narrow = token("prometheus", &["--audience", "tenantatlas-metrics"]);
    let elsewhere = token("prometheus", &["--audience", "elsewhere"]);
    let eve = token("eve", &[]);
    for (who, expected) in
        [(None, 401), (Some("nonsense"), 401), (Some(elsewhere.as_str()), 401), (Some(&eve), 403), (Some(&narrow), 200)]
    {
        let (code, text) = get(port, "/metrics", who).await.expect("an answer");
        assert_eq!(code, expected, "{text}");
        assert_eq!(
            text.contains(&environment("ATLAS_OPERATOR_NAMESPACE")) || text.contains("tenantatlas_leader"),
            code == 200,
            "{text}"
        );
    }
    let baseline = tenant.baseline("nightly").await;
    tenant.create_as::<Finding>(tenant.finder(), finding("drift-1", &baseline)).await.expect("a worker finds");
    let counted = format!(
        "tenantatlas_findings{{namespace=\"{}\",kind=\"ConfigMap\",severity=\"high\",state=\"new\"}} 1\n",
        tenant.name
    );
    wait_for("a finding is counted", SOON, async || match get(port, "/metrics", Some(&reader)).await? {
        (_, text) if text.contains(&counted) => Ok(()),
        (_, text) => Err(text.lines().filter(|line| line.contains("findings")).collect::<Vec<_>>().join("\n")),
    })
    .await;
    assert_eq!(get(port, "/healthz", None).await.expect("an answer").0, 200);
    tenant.cluster.kubectl_prints(&["delete", "clusterrolebinding", &tenant.name]);
}
