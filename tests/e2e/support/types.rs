//! Operation types of a story's own, whose work is a shell script in an image with nothing but a shell and sqlite3.

use super::cluster::environment;
use super::tenant::{Tenant, of_story};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tenantatlas::api::OperationType;

impl Tenant {
    /// A type whose Job runs a script. `change` may edit the spec before it is created. Returns the type's name.
    pub(crate) async fn script_type(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut spec = json!({ "executor": { "jobTemplate": { "spec": { "template": { "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "script",
                "image": environment("ATLAS_SHELL_IMAGE"),
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script],
                "resources": { "requests": { "cpu": "1m" } },
            }],
        }}}}}});
        change(&mut spec);
        self.operation_type(name, spec).await
    }

    /// A type with any spec, created as the administrator. Its name is the story's own, and is returned.
    pub(crate) async fn operation_type(&self, name: &str, spec: Value) -> String {
        let name = self.type_name(name);
        let created = self.try_operation_type(&name, spec).await;
        created.unwrap_or_else(|error| panic!("operation type {name} is refused: {error}"));
        name
    }

    /// The whole name of a type of this story.
    pub(crate) fn type_name(&self, name: &str) -> String {
        format!("{name}.{}", self.name)
    }

    /// The same, where being refused is the story.
    pub(crate) async fn try_operation_type(&self, name: &str, spec: Value) -> Result<(), kube::Error> {
        let types: Api<DynamicObject> =
            Api::all_with(self.cluster.client.clone(), &ApiResource::erase::<OperationType>(&()));
        let manifest = json!({
            "apiVersion": "tenantatlas.io/v1alpha1",
            "kind": "OperationType",
            "metadata": { "name": name, "labels": of_story(self) },
            "spec": spec,
        });
        let manifest = serde_json::from_value(manifest).expect("a manifest is an object with metadata");
        types.create(&PostParams::default(), &manifest).await.map(drop)
    }

    /// Merges fields into a type's spec.
    pub(crate) async fn change_type(&self, name: &str, spec: Value) {
        let types: Api<OperationType> = Api::all(self.cluster.client.clone());
        let patch = Patch::Merge(json!({ "spec": spec }));
        let changed = types.patch(name, &PatchParams::default(), &patch).await;
        changed.unwrap_or_else(|error| panic!("operation type {name} cannot be changed: {error}"));
    }
}

/// The container of a script type's spec.
pub(crate) fn container(spec: &mut Value) -> &mut Value {
    &mut spec["executor"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
}

/// A script that ends only when it is ended: the image has nothing else that waits.
pub(crate) const FOREVER: &str = "trap 'exit 143' TERM; sleep 3600 & wait";

/// A script that reports this as its result and ends well.
pub(crate) fn reports(result: &Value) -> String {
    format!("printf %s '{result}' > /dev/termination-log")
}
