//! What must be true of the manifests, whatever the values.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Chart, NEWER, OLDER, ensure, name};

/// The objects of a rendering.
pub(super) fn objects(manifests: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests).context("what Helm rendered is not YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// `Kind/name`, as messages name an object.
pub(super) fn label(object: &Value) -> String {
    format!(
        "{}/{}",
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

/// Checks one rendering.
pub(super) fn check(chart: &Chart, set: Option<&Path>, version: &str) -> Result<()> {
    let objects = objects(&chart.render(set, version, &[])?)?;
    let of = |problem: String| format!("with {} for Kubernetes {version}: {problem}", name(set));
    for object in &objects {
        match object["kind"].as_str() {
            Some("ClusterRole" | "Role") => {
                rights(object).map_err(|error| error.context(of(label(object))))?;
            }

            Some("Deployment") => pod_security(object).map_err(|error| error.context(of(label(object))))?,
            Some("ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy") => {
                policy(object, &objects).map_err(|error| error.context(of(label(object))))?;
            }
            Some("CustomResourceDefinition") => {
                let keep = object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
                let wanted = !name(set).starts_with("everything");
                ensure(keep == wanted, || of(format!("{}: crds.keep is not what makes Helm keep it", label(object))))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// On older clusters the same rules are kept, but for the one that writes.
pub(super) fn check_older_path(chart: &Chart) -> Result<()> {
    let older = objects(&chart.render(None, OLDER, &[])?)?;
    let newer = objects(&chart.render(None, NEWER, &[])?)?;
    let mutates = |object: &&Value| object["kind"].as_str().is_some_and(|kind| kind.starts_with("MutatingAdmission"));
    ensure(older.iter().find(mutates).is_none(), || format!("Kubernetes {OLDER} has no MutatingAdmissionPolicy"))?;
    ensure(newer.iter().filter(mutates).count() == 14, || {
        format!("Kubernetes {NEWER} gets seven policies that write, each bound")
    })?;
    let rest: Vec<_> = newer.iter().filter(|object| !mutates(object)).collect();
    ensure(rest == older.iter().collect::<Vec<_>>(), || {
        "the two paths differ in more than the policies that write".to_owned()
    })?;
    for (value, version, wanted) in [("\"state\"", NEWER, false), ("\"mutate\"", OLDER, true)] {
        let forced = objects(&chart.render(None, version, &[&format!("admission.initiator={value}")])?)?;
        ensure(forced.iter().any(|object| mutates(&object)) == wanted, || {
            format!("admission.initiator={value} is not heeded on Kubernetes {version}")
        })?;
    }
    Ok(())
}

/// The operator's and the accounts' rights name what they are about; nobody may read Secrets but workers and admins.
fn rights(role: &Value) -> Result<()> {
    let role_name = role["metadata"]["name"].as_str().unwrap_or_default();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let words =
            |key: &str| -> Vec<&str> { rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
        let (groups, resources, verbs) = (words("apiGroups"), words("resources"), words("verbs"));
        for word in groups.iter().chain(&resources).chain(&verbs) {
            ensure(!word.contains('*'), || format!("a wildcard: {rule}"))?;
        }
        for forbidden in ["escalate", "impersonate"] {
            ensure(!verbs.contains(&forbidden), || format!("the verb {forbidden}: {rule}"))?;
        }
        ensure(!verbs.contains(&"bind") || !words("resourceNames").is_empty(), || format!("bind on any role: {rule}"))?;
        ensure(!resources.contains(&"serviceaccounts/token"), || format!("minting tokens: {rule}"))?;
        let operator = role_name == "tenantatlas-controller";
        ensure(!operator || !resources.contains(&"secrets"), || format!("the operator reads no Secrets: {rule}"))?;
        let writes_status = resources.iter().any(|resource| resource.ends_with("/status"));
        let may_write_status =
            operator || ["tenantatlas-account-run", "tenantatlas-worker-findings"].contains(&role_name);
        ensure(!writes_status || may_write_status, || format!("a role for people writes status: {rule}"))?;
    }
    Ok(())
}

/// What Pod Security `restricted` asks for, and a root file system that nothing is written to.
fn pod_security(deployment: &Value) -> Result<()> {
    let pod = &deployment["spec"]["template"]["spec"];
    let wanted =
        [("runAsNonRoot", Value::Bool(true)), ("seccompProfile", serde_json::json!({ "type": "RuntimeDefault" }))];
    for (key, value) in wanted {
        ensure(pod["securityContext"][key] == value, || format!("securityContext.{key} is not {value}"))?;
    }
    for container in pod["containers"].as_array().into_iter().flatten() {
        let context = &container["securityContext"];
        ensure(context["allowPrivilegeEscalation"] == false, || "allowPrivilegeEscalation is not false".to_owned())?;
        ensure(context["readOnlyRootFilesystem"] == true, || "readOnlyRootFilesystem is not true".to_owned())?;
        ensure(context["capabilities"]["drop"] == serde_json::json!(["ALL"]), || "capabilities are kept".to_owned())?;
        for probe in ["livenessProbe", "readinessProbe"] {
            ensure(container[probe].is_object(), || format!("no {probe}"))?;
        }
    }
    Ok(())
}

/// A policy denies where it fails, is bound once, and says what was wrong.
fn policy(policy: &Value, objects: &[Value]) -> Result<()> {
    let spec = &policy["spec"];
    ensure(spec["failurePolicy"] == "Fail", || "failurePolicy is not Fail".to_owned())?;
    let kind = format!("{}Binding", policy["kind"].as_str().unwrap_or_default());
    let bindings = objects
        .iter()
        .filter(|object| object["kind"] == kind.as_str() && object["spec"]["policyName"] == policy["metadata"]["name"])
        .count();
    ensure(bindings == 1, || format!("{bindings} bindings, not one"))?;
    for validation in spec["validations"].as_array().into_iter().flatten() {
        let message = validation["message"].as_str().or(validation["messageExpression"].as_str());
        let Some(message) = message else { bail!("no message: {}", validation["expression"]) };
        ensure(!message.contains('\n'), || format!("the API server drops a message of several lines: {message}"))?;
    }
    // Type checking, one of this chart's tests, passes over rules for any version.
    let rules = spec["matchConstraints"]["resourceRules"].as_array();
    let every_version = rules.into_iter().flatten().any(|rule| rule["apiVersions"] == serde_json::json!(["*"]));
    let about_everything = ["tenantatlas-accounts", "tenantatlas-preview"];
    ensure(!every_version || about_everything.iter().any(|name| policy["metadata"]["name"] == *name), || {
        "rules for any version".to_owned()
    })
}
