//! What the demo's tenants are made of: manifests as values, the kinds and numbers that a team's namespace has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// One tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) namespace: String,
    pub(super) workspace: &'static str,
    /// Who works in it, as its administrator.
    pub(super) person: String,
    services: &'static [&'static str],
    languages: &'static [&'static str],
}

/// Two tenants of different size.
pub(super) fn both() -> [Tenant; 2] {
    let tenant = |name: &str, workspace, person: &str, services, languages| Tenant {
        namespace: format!("demo-{name}"),
        workspace,
        person: person.to_owned(),
        services,
        languages,
    };
    [
        tenant(
            "acme",
            "shop",
            "ada",
            &["web", "cart", "orders", "payments", "search", "mail", "stock", "prices"],
            &["bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "ga", "hr", "hu", "it", "lt", "lv"],
        ),
        tenant("globex", "lab", "bob", &["web", "jobs", "reports"], &["de", "en"]),
    ]
}

/// How many kinds these objects are of.
pub(super) fn kinds(objects: &[Value]) -> usize {
    objects.iter().filter_map(|object| object["kind"].as_str()).collect::<BTreeSet<_>>().len()
}

impl Tenant {
    pub(super) fn namespace(&self) -> Value {
        object(
            "v1",
            "Namespace",
            &self.namespace,
            json!({ "metadata": { "labels": {
                "tenantatlas.io/workspace": self.workspace,
                "pod-security.kubernetes.io/enforce": "restricted",
            }}}),
        )
    }

    /// The first tenant has a database, which an operation of its own dumps.
    pub(super) fn has_database(&self) -> bool {
        self.workspace == "shop"
    }

    /// The claims that need a volume.
    pub(super) fn claims(&self, has_example: bool) -> &'static [&'static str] {
        if has_example && self.has_database() { &["backups", "database", "database-dumps"] } else { &["backups"] }
    }

    /// Not a secret: the demo prints it, so that its backups can be opened.
    pub(super) fn password(&self) -> String {
        format!("the-demo-password-of-{}", self.namespace)
    }

    /// Password, volume and repository, and who may use them.
    pub(super) fn backups(&self) -> Vec<Value> {
        let atlas = "tenantatlas.io/v1alpha1";
        let bind = |name: &str, role: &str, user: &str| {
            self.object(
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                name,
                json!({
                    "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                    "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
                }),
            )
        };
        vec![
            self.object("v1", "Secret", "backup-password", json!({ "stringData": { "password": self.password() } })),
            self.object(
                "v1",
                "PersistentVolumeClaim",
                "backups",
                json!({ "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": "1Gi" } },
                }}),
            ),
            self.object(
                atlas,
                "BackupRepository",
                "main",
                json!({ "spec": {
                    "storage": { "persistentVolumeClaim": { "claimName": "backups" } },
                    "passwordSecret": { "name": "backup-password" },
                }}),
            ),
            bind("people", "tenantatlas-tenant-admin", &self.person),
            bind("pipeline", "tenantatlas-tenant-operator", "pipeline"),
        ]
    }

    /// A run to be created; the API server makes its name.
    pub(super) fn run(&self, prefix: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "tenantatlas.io/v1alpha1",
            "kind": "OperationRun",
            "metadata": { "generateName": prefix, "namespace": self.namespace },
            "spec": spec,
        })
    }

    /// An object of a kind that has runs made for it; the API server makes its name.
    pub(super) fn parent(&self, kind: &str, prefix: &str, spec: &Value) -> Value {
        let mut parent = self.run(prefix, spec);
        parent["kind"] = kind.into();
        parent
    }

    /// A schedule.
    pub(super) fn schedule(&self, name: &str, spec: &Value) -> Value {
        self.object("tenantatlas.io/v1alpha1", "BackupSchedule", name, json!({ "spec": spec }))
    }

    /// What a team keeps in a namespace. No pod runs: the demo is about records, not about images to pull.
    pub(super) fn objects(&self) -> Vec<Value> {
        let mut objects: Vec<Value> = self.services.iter().flat_map(|service| self.service(service)).collect();
        objects.extend(self.languages.iter().map(|language| {
            let texts =
                json!({ "data": { "messages.properties": format!("language={language}\nwelcome=…\n").repeat(20) } });
            self.object("v1", "ConfigMap", &format!("texts-{language}"), texts)
        }));
        for (name, schedule) in [("clean-up", "0 3 * * *"), ("reports", "30 6 * * 1"), ("sitemap", "@hourly")] {
            objects.push(self.object("batch/v1", "CronJob", name, json!({ "spec": {
                "schedule": schedule,
                "suspend": true,
                "jobTemplate": { "spec": { "template": { "spec": {
                    "restartPolicy": "Never", "containers": [container(name)], "securityContext": pod_security() } } } },
            }})));
        }
        objects.push(self.object(
            "v1",
            "LimitRange",
            "defaults",
            json!({ "spec": { "limits": [
            { "type": "Container", "defaultRequest": { "cpu": "10m", "memory": "16Mi" } } ] } }),
        ));
        objects.push(self.object(
            "v1",
            "ResourceQuota",
            "objects",
            json!({ "spec": { "hard": {
            "count/configmaps": "500", "count/secrets": "500" } } }),
        ));
        objects.push(self.object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "deny-by-default",
            json!({ "spec": {
            "podSelector": {}, "policyTypes": ["Ingress"] } }),
        ));
        objects
    }

    /// One service with all that belongs to it.
    fn service(&self, name: &str) -> Vec<Value> {
        let rbac = "rbac.authorization.k8s.io/v1";
        let match_labels = json!({ "matchLabels": { "app": name } });
        let pod = json!({ "metadata": { "labels": { "app": name } }, "spec": {
            "serviceAccountName": name, "containers": [container(name)], "securityContext": pod_security() } });
        vec![
            self.object(
                "apps/v1",
                "Deployment",
                name,
                json!({ "spec": {
                "replicas": 0, "selector": match_labels, "template": pod } }),
            ),
            self.object(
                "v1",
                "Service",
                name,
                json!({ "spec": {
                "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] } }),
            ),
            self.object("v1", "ServiceAccount", name, json!({})),
            self.object(
                "v1",
                "ConfigMap",
                &format!("{name}-settings"),
                json!({ "data": {
                "settings.yaml": format!("service: {name}\nlogLevel: info\npool: 16\n") } }),
            ),
            self.object("v1", "ConfigMap", &format!("{name}-features"), json!({ "data": { "beta": "false" } })),
            self.object(
                "v1",
                "Secret",
                &format!("{name}-credentials"),
                json!({ "stringData": {
                "username": name, "password": format!("not-a-real-password-of-{name}") } }),
            ),
            self.object(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                name,
                json!({ "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "minReplicas": 2, "maxReplicas": 10,
                "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": {
                    "type": "Utilization", "averageUtilization": 70 } } }] } }),
            ),
            self.object(
                "policy/v1",
                "PodDisruptionBudget",
                name,
                json!({ "spec": {
                "maxUnavailable": 1, "selector": match_labels } }),
            ),
            self.object(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                name,
                json!({ "spec": {
                "podSelector": match_labels, "ingress": [{ "ports": [{ "port": 8080 }] }] } }),
            ),
            self.object(
                "networking.k8s.io/v1",
                "Ingress",
                name,
                json!({ "spec": { "rules": [{
                "host": format!("{name}.{}.example.com", self.namespace),
                "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": {
                    "service": { "name": name, "port": { "name": "http" } } } }] } }] } }),
            ),
            self.object(
                rbac,
                "Role",
                name,
                json!({ "rules": [
                { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "watch"] }] }),
            ),
            self.object(
                rbac,
                "RoleBinding",
                name,
                json!({
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": self.namespace }] }),
            ),
        ]
    }

    fn object(&self, api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
        let mut object = object(api_version, kind, name, rest);
        object["metadata"]["namespace"] = self.namespace.as_str().into();
        object["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "tenantatlas-demo" });
        object
    }
}

fn object(api_version: &str, kind: &str, name: &str, mut rest: Value) -> Value {
    rest["apiVersion"] = api_version.into();
    rest["kind"] = kind.into();
    rest["metadata"]["name"] = name.into();
    rest
}

fn container(name: &str) -> Value {
    json!({
        "name": "main",
        "image": format!("registry.example.com/{name}:2026.11"),
        "ports": [{ "containerPort": 8080 }],
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    })
}

fn pod_security() -> Value {
    json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_some_hundred_objects_of_many_kinds_each_in_its_namespace_and_once() {
        for tenant in both() {
            let mut objects = tenant.objects();
            objects.extend(tenant.backups());
            let identities: BTreeSet<String> =
                objects.iter().map(|object| format!("{}/{}", object["kind"], object["metadata"]["name"])).collect();
            assert_eq!(identities.len(), objects.len(), "an object stands twice");
            assert!(objects.iter().all(|object| object["metadata"]["namespace"] == tenant.namespace.as_str()));
            assert!(kinds(&objects) >= 15, "{}", kinds(&objects));
        }
        assert!(both()[0].objects().len() > 100);
    }
}
