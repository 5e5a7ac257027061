//! The part of the demo that needs nobody: schedules, when they fire next, and a run that one of them makes.

use anyhow::Result;
use serde_json::json;

use super::{Demo, Started, Tenant};
use crate::shell;

impl Demo {
    /// Two schedules of a tenant's own administrator, and a run of one of them now.
    pub(super) fn schedules(&self, tenant: &Tenant) -> Result<()> {
        let (namespace, person) = (&tenant.namespace, tenant.person.as_str());
        self.screen.heading("From now on it happens by itself; Ada does not wait for the night to see it");
        for (name, schedule, zone, operation) in [
            ("nightly", "15 2 * * *", "Europe/Berlin", "backup.capture"),
            ("weekly-check", "@weekly", "UTC", "repository.check"),
        ] {
            let spec = json!({
                "schedule": schedule, "timeZone": zone, "jitterSeconds": 600,
                "operation": { "type": operation, "inputs": { "repository": "main" } },
            });
            let manifest = tenant.schedule(name, &spec);
            let mut apply = self.kubectl_as(Some(person))?;
            apply.args(["apply", "--server-side", "--filename", "-"]);
            shell::feed(&mut apply, manifest.to_string().as_bytes())?;
        }
        // Another one each time the demo is shown.
        let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
        let annotation = format!("tenantatlas.io/run-now={moment}");
        let annotate = ["annotate", "backupschedule", "nightly", &annotation, "--overwrite", "--namespace", namespace];
        self.as_person(person, &annotate)?;
        self.wait_for(namespace, &format!("jsonpath={{.status.lastRunNow.token}}={moment}"), "backupschedule/nightly")?;
        let path = "jsonpath={.status.lastRunNow.run}";
        let get = ["get", "backupschedule", "nightly", "--namespace", namespace, "--output", path];
        let name = shell::output(self.kubectl()?.args(get))?;
        self.follow(&[Started { namespace: namespace.clone(), name: name.clone() }])?;
        let succeeded = format!("jsonpath={{.status.lastSuccessful.run}}={name}");
        self.wait_for(namespace, &succeeded, "backupschedule/nightly")?;
        self.type_out(&["get", "backupschedules", "--namespace", namespace])
    }
}
