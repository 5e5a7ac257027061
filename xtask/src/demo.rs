//! `cargo xtask demo`: from nothing to recorded operation runs, by one command. What it shows is what a user would type;
//! each command is printed before its output.

mod bulk;
mod drift;
mod history;
mod restore;
mod schedule;
mod screen;
mod table;
mod tenant;
mod workspace;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};

use self::screen::Screen;
use self::table::Follow;
use self::tenant::Tenant;
use crate::target::Target;
use crate::{cluster, image, operator, shell};

/// How long runs and checks of the demo may take, on a slow machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// Shows the main job on a cluster: two tenants, captures, a restore, schedules, what changed, drift, a bulk operation, a workspace, and what must be refused
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Use the cluster of this kubeconfig context instead of one made for the purpose
    #[arg(long)]
    context: Option<String>,
    /// Use this image, which the cluster can pull, instead of building one
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    /// Also write the preview and the restore to this file, as SVG: the picture of the README
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let target = Target::resolve(arguments.context.as_deref())?;
    target.ensure()?;
    let has_example = prepare(&target, arguments.image.as_deref())?;
    let screen = if arguments.picture.is_some() { Screen::for_a_picture() } else { Screen::new() };
    let demo = Demo { target, has_example, screen, picture: arguments.picture.clone() };
    demo.show()?;
    demo.screen.line(&format!("Shown in {}.", shell::elapsed(begun)));
    Ok(())
}

/// Puts the images into the cluster and installs the operator. Returns whether the example's image is there.
fn prepare(target: &Target, image: Option<&str>) -> Result<bool> {
    if let Some(reference) = image {
        operator::install(target.helm()?, reference, "IfNotPresent", &[])?;
        return Ok(false);
    }
    // Not as the tests build it: what is shown takes thirty times less processor time an item.
    let ours = image::build(&image::Arguments { optimized: true, ..image::Arguments::default() })?;
    target.load_image(&ours)?;
    let example = image::build(&operator::example_image())?;
    target.load_image(&example)?;
    let begun = Instant::now();
    operator::install(target.helm()?, &ours.reference, "Never", &[])?;
    shell::say(format!("Installed the operator ({})", shell::elapsed(begun)));
    Ok(true)
}

/// A run that the demo started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    namespace: String,
    name: String,
}

struct Demo {
    target: Target,
    has_example: bool,
    screen: Screen,
    picture: Option<PathBuf>,
}

impl Demo {
    fn show(&self) -> Result<()> {
        let tenants = tenant::both();
        self.screen.heading("Two tenants, each a namespace with what a team keeps in one");
        for tenant in &tenants {
            self.make(tenant)?;
        }
        self.screen.heading("Each has a repository of its own, encrypted with a password of its own");
        for tenant in &tenants {
            self.wait_for(&tenant.namespace, "condition=Ready", "backuprepository/main")?;
        }
        self.type_out(&["get", "backuprepositories", "--all-namespaces"])?;
        if self.has_example {
            self.wait_for(&tenants[0].namespace, "jsonpath={.status.readyReplicas}=1", "statefulset/database")?;
        }

        self.screen.heading("Ada and Bob back up their tenants; a pipeline asks for the same as Ada");
        let started = self.start(&tenants)?;
        self.follow(&started)?;
        self.type_out(&["get", "backupsets", "--all-namespaces"])?;
        self.screen.line(
            "PROGRESS counts all items, ITEMS what is kept: what controllers make again is skipped (docs/guides/what-is-captured.md).",
        );

        self.restore(&tenants[0], &started[0].name)?;
        if let Some(file) = &self.picture {
            let picture =
                self.screen.picture(restore::PREVIEW).context("the demo has not shown what the picture is of")?;
            fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))?;
        }
        self.schedules(&tenants[0])?;
        self.history(&tenants[0], &started[0].name)?;
        self.drift(&tenants[0])?;
        self.bulk(&tenants[0])?;
        self.bulk_delete(&tenants[0])?;
        self.onboarding()?;
        self.workspace(&tenants[0])?;
        self.over_all(&tenants[0])?;
        self.undone_over_all(&tenants[0])?;

        self.screen.heading("What must not work");
        self.refused(&tenants[0], &tenants[1])?;
        self.next(&tenants, &started);
        Ok(())
    }

    /// A tenant with its objects, volumes and repository. Doing it again changes nothing.
    fn make(&self, tenant: &Tenant) -> Result<()> {
        self.apply(&tenant.namespace())?;
        if let Target::Local(cluster) = &self.target {
            let path = "jsonpath={.metadata.uid}";
            let uid = shell::output(self.kubectl()?.args(["get", "namespace", &tenant.namespace, "--output", path]))?;
            self.volumes(cluster, &uid, tenant.claims(self.has_example).len())?;
        }
        let mut objects = tenant.objects();
        objects.extend(tenant.backups());
        if self.has_example && tenant.has_database() {
            objects.extend(self.database(tenant)?);
        }
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?;
        let kinds = tenant::kinds(&objects);
        self.screen.line(&format!("  {:<12} {} objects of {} kinds", tenant.namespace, objects.len(), kinds));
        Ok(())
    }

    /// Volumes for a tenant's claims. They bear its uid: made anew, it gets new ones and not what another left.
    fn volumes(&self, cluster: &cluster::Cluster, uid: &str, count: usize) -> Result<()> {
        for number in 1..=count {
            let name = format!("demo-{}-{number}", uid.split('-').next().unwrap_or(uid));
            let known = shell::succeeds(self.kubectl()?.args(["get", "persistentvolume", &name]));
            if !known {
                cluster.create_volume(&name, "1Gi")?;
            }
        }
        Ok(())
    }

    /// The example's database and the type that dumps it, in this tenant instead of the one it names.
    fn database(&self, tenant: &Tenant) -> Result<Vec<Value>> {
        let example = cluster::checkout()?.join("examples/database-dump");
        let mut objects = Vec::new();
        for file in ["type.yaml", "database.yaml"] {
            // Converted by kubectl, so that no second reader of YAML is needed.
            let mut convert = self.kubectl()?;
            convert.args(["create", "--dry-run=client", "--validate=false", "--output", "json", "--filename"]);
            let text = shell::output(convert.arg(example.join(file)))?;
            for object in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                let object = object.context("kubectl did not print JSON")?;
                let items = object["items"].as_array().cloned().unwrap_or_else(|| vec![object]);
                objects.extend(items);
            }
        }
        for object in &mut objects {
            if object["metadata"]["namespace"].is_string() {
                object["metadata"]["namespace"] = tenant.namespace.as_str().into();
            }
        }
        Ok(objects)
    }

    /// Starts the runs, each as the person who wants it.
    fn start(&self, tenants: &[Tenant]) -> Result<Vec<Started>> {
        let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
        let mut started = Vec::new();
        for tenant in tenants {
            started.push(self.create(tenant, Some(&tenant.person), "backup-", &capture)?);
        }
        started.push(self.create(&tenants[0], Some("pipeline"), "before-deploy-", &capture)?);
        if self.has_example {
            let dump = json!({ "type": "database.dump", "inputs": { "database": "shop" } });
            started.push(self.create(&tenants[0], None, "dump-", &dump)?);
        }
        Ok(started)
    }

    fn create(&self, tenant: &Tenant, user: Option<&str>, prefix: &str, spec: &Value) -> Result<Started> {
        let manifest = tenant.run(prefix, spec);
        let mut create = self.kubectl_as(user)?;
        let output = shell::feed(
            create.args(["create", "--namespace", &tenant.namespace, "--filename", "-", "--output", "json"]),
            manifest.to_string().as_bytes(),
        )?;
        let run: Value = serde_json::from_str(&output).context("kubectl did not print JSON")?;
        let name = run["metadata"]["name"].as_str().context("the API server gave the run no name")?;
        Ok(Started { namespace: tenant.namespace.clone(), name: name.to_owned() })
    }

    /// Shows the runs until all are at their end. One that did not succeed fails the demo.
    fn follow(&self, started: &[Started]) -> Result<()> {
        self.screen.command("kubectl get operationruns --all-namespaces --watch");
        let deadline = Instant::now() + PATIENCE;
        let mut follow = Follow::new(&self.screen, started);
        loop {
            let listed = shell::output(self.kubectl()?.args([
                "get",
                "operationruns",
                "--all-namespaces",
                "--sort-by=.metadata.creationTimestamp",
                "--output",
                "json",
            ]))?;
            let listed: Value = serde_json::from_str(&listed).context("kubectl did not print JSON")?;
            if follow.update(&listed) {
                break;
            }
            ensure!(Instant::now() < deadline, "the runs are not completed after {} s", PATIENCE.as_secs());
            std::thread::sleep(Duration::from_millis(250));
        }
        self.screen.line("");
        let failed = follow.not_succeeded();
        ensure!(failed.is_empty(), "a run did not succeed:\n{}", failed.join("\n"));
        Ok(())
    }

    /// Tries what a tenant's people may not do, and shows the API server's own words.
    fn refused(&self, own: &Tenant, other: &Tenant) -> Result<()> {
        let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
        let dump = json!({ "type": "database.dump", "inputs": {} });
        let person = &own.person;
        self.must_fail(&format!("{person} starts a run in Bob's tenant:"), other, person, &capture)?;
        if self.has_example {
            self.must_fail(&format!("{person} starts an operation that nobody lets them run:"), own, person, &dump)?;
        }
        Ok(())
    }

    fn must_fail(&self, what: &str, tenant: &Tenant, user: &str, spec: &Value) -> Result<()> {
        self.screen.line(&format!("  {what}"));
        match self.create(tenant, Some(user), "refused-", spec) {
            Ok(started) => bail!("{}/{} was accepted, and must have been refused", started.namespace, started.name),
            Err(error) => {
                let text = error.to_string();
                let words = text.find("Error from server").map_or(text.as_str(), |at| &text[at..]);
                ensure!(words.contains("orbidden") || words.contains("denied"), "refused for another reason: {text}");
                self.screen.quote(words);
                Ok(())
            }
        }
    }

    /// What to look at next, as commands to copy.
    fn next(&self, tenants: &[Tenant], started: &[Started]) {
        let (namespace, run) = (&tenants[0].namespace, &started[0].name);
        self.screen.heading("Look at it yourself");
        match &self.target {
            Target::Local(cluster) => {
                self.screen.copyable(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
            }
            Target::Existing { context } => self.screen.copyable(&format!("kubectl config use-context {context}")),
            Target::Kind(_) => self.screen.copyable("kind export kubeconfig --name tenantatlas"),
        }
        for line in [
            format!("kubectl get operationruns -n {namespace} -o wide"),
            format!("kubectl describe operationrun {run} -n {namespace}"),
            "kubectl explain operationrun.spec".to_owned(),
            format!("kubectl describe restoreruns -n {namespace}"),
            format!("kubectl get atlas -n {namespace}"),
        ] {
            self.screen.copyable(&line);
        }
        self.restic(tenants);
        self.screen.line("");
        match &self.target {
            Target::Local(_) => self.screen.line("`cargo xtask cluster down` removes the cluster and all of this."),
            _ => self.screen.line(&format!(
                "`kubectl delete namespace {} {} {}` removes the tenants.",
                tenants[0].namespace,
                tenants[1].namespace,
                workspace::NEW.0
            )),
        }
    }

    /// The way to the same backups without us: the stock client, where the volume is a folder of this machine.
    fn restic(&self, tenants: &[Tenant]) {
        let Target::Local(_) = &self.target else { return };
        let namespace = &tenants[0].namespace;
        let claim = ["get", "persistentvolumeclaim", "backups", "--namespace", namespace];
        let path = |arguments: &[&str]| self.kubectl().and_then(|mut kubectl| shell::output(kubectl.args(arguments)));
        let Ok(volume) = path(&[&claim[..], &["--output", "jsonpath={.spec.volumeName}"]].concat()) else { return };
        let of_volume = ["get", "persistentvolume", &volume, "--output", "jsonpath={.spec.local.path}"];
        if let Ok(folder) = path(&of_volume) {
            self.screen.line("");
            self.screen.line("The backups open with the stock restic, without us:");
            self.screen.copyable(&format!("export RESTIC_PASSWORD={}", tenants[0].password()));
            self.screen.copyable(&format!("restic -r {folder} ls latest"));
        }
    }

    fn kubectl(&self) -> Result<Command> {
        self.target.kubectl()
    }

    /// kubectl as a user of the tenants; as the developer where none is given.
    fn kubectl_as(&self, user: Option<&str>) -> Result<Command> {
        let mut kubectl = self.kubectl()?;
        if let Some(user) = user {
            kubectl.args(["--as", user]);
        }
        Ok(kubectl)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let mut apply = self.kubectl()?;
        apply.args(["apply", "--server-side", "--force-conflicts", "--filename", "-"]);
        shell::feed(&mut apply, object.to_string().as_bytes()).map(drop)
    }

    fn wait_for(&self, namespace: &str, condition: &str, object: &str) -> Result<()> {
        let (condition, timeout) = (format!("--for={condition}"), format!("--timeout={}s", PATIENCE.as_secs()));
        shell::run(self.kubectl()?.args(["wait", &condition, object, "--namespace", namespace, &timeout]))
    }

    /// Prints a command as a user would type it, and its output.
    fn type_out(&self, arguments: &[&str]) -> Result<()> {
        self.screen.command(&format!("kubectl {}", arguments.join(" ")));
        self.screen.table(&shell::output(self.kubectl()?.args(arguments))?);
        Ok(())
    }
}
