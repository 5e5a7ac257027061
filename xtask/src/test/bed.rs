//! What the steps on a real cluster stand on: one cluster for the tests, the images in it, the operator installed.
//! Each is made when the first step asks for it, and once.

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;
use crate::image;
use crate::image::oci::Archive;
use crate::shell::{self, say};
use crate::{operator, tools};

/// The cluster's name: another one than the developer's own.
const NAME: &str = "test";

/// The name of a second one, for the step that needs another cluster.
const SECOND: &str = "test-second";

/// The group that may go into pods of operations, and remove audit entries that are not of their chain.
const BREAK_GLASS_GROUP: &str = "e2e:break-glass";

/// The namespace that is Velero's for the operator. There is no Velero in it.
const VELERO: &str = "velero";

/// The user that plays a queue such as Kueue, which may suspend and admit Jobs.
const QUEUE_CONTROLLER: &str = "system:serviceaccount:queue:controller";

/// See the module's text.
pub(crate) struct Bed {
    keep: bool,
    release: bool,
    cluster: Option<Cluster>,
    second: Option<Cluster>,
    images: Option<Images>,
}

/// Images in the cluster.
struct Images {
    operator: Archive,
    example: Archive,
}

impl Bed {
    /// `keep`: the cluster stays at the end. `release`: the operator's image is the one that is shipped.
    pub(crate) fn new(keep: bool, release: bool) -> Self {
        Self { keep, release, cluster: None, second: None, images: None }
    }

    /// The cluster, where a step has asked for it.
    pub(crate) fn running(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The second cluster, while a step uses it.
    pub(crate) fn second_running(&self) -> Option<&Cluster> {
        self.second.as_ref()
    }

    /// The cluster, running.
    pub(crate) fn server(&mut self) -> Result<&Cluster> {
        if self.cluster.is_none() {
            let cluster = Cluster::new(NAME)?;
            // Kept even if the start fails, so that its logs are collected and it is taken down.
            let cluster = self.cluster.insert(cluster);
            cluster.up()?;
        }
        self.cluster.as_ref().context("the cluster was just put there")
    }

    /// Builds the images and puts them into the cluster.
    pub(crate) fn load_images(&mut self) -> Result<()> {
        if self.images.is_some() {
            return Ok(());
        }
        let operator = image::build(&image::Arguments { release: self.release, ..image::Arguments::default() })?;
        let example = image::build(&operator::example_image())?;
        let cluster = self.server()?;
        cluster.load(&operator.file)?;
        cluster.load(&example.file)?;
        self.images = Some(Images { operator, example });
        Ok(())
    }

    /// Installs the operator and returns what `tests/e2e` reads from its environment.
    pub(crate) fn operator(&mut self) -> Result<Vec<(&'static str, String)>> {
        self.load_images()?;
        // The stock client of the repository's format: that it can read ours is one of the tests.
        shell::ensure_packages(&[("restic", "restic")])?;
        let cluster = self.cluster.as_ref().context("there is no cluster")?;
        let images = self.images.as_ref().context("there are no images")?;
        let queue = format!("admission.queueControllers[0]={QUEUE_CONTROLLER}");
        let break_glass = format!("admission.breakGlassGroups[0]={BREAK_GLASS_GROUP}");
        let velero = format!("import.velero.namespaces[0]={VELERO}");
        // It must be there before the chart puts a Role into it.
        let namespace = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{VELERO}"}}}}"#);
        let mut apply = cluster.kubectl()?;
        shell::feed(apply.args(["apply", "--server-side", "--filename", "-"]), namespace.as_bytes())?;
        let values = [&*queue, &break_glass, &velero, "import.k8up=true", "import.cronJobs=true"];
        operator::install(cluster.helm()?, &images.operator.reference, "Never", &values)?;
        let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let mut environment = vec![
            ("ATLAS_KUBECONFIG", path(cluster.kubeconfig())),
            ("ATLAS_KUBECTL", path(tools::kubectl()?)),
            ("ATLAS_VOLUME_ROOT", path(cluster.volumes())),
            ("ATLAS_SMALL_VOLUME", path(cluster.small_volume()?)),
            ("ATLAS_AUDIT_LOG", path(cluster.audit_log())),
            ("ATLAS_OPERATOR_NAMESPACE", operator::NAMESPACE.to_owned()),
            ("ATLAS_QUEUE_CONTROLLER", QUEUE_CONTROLLER.to_owned()),
            ("ATLAS_BREAK_GLASS_GROUP", BREAK_GLASS_GROUP.to_owned()),
            ("ATLAS_VELERO_NAMESPACE", VELERO.to_owned()),
            ("ATLAS_IMAGE", images.operator.reference.clone()),
            ("ATLAS_HOST_ADDRESS", cluster.host_address()?.to_string()),
            ("ATLAS_SHELL_IMAGE", images.example.reference.clone()),
        ];
        environment.extend(cluster.address().map(|address| ("NO_PROXY", address.to_string())));
        Ok(environment)
    }

    /// Starts a second cluster, with the operator and nothing else, and returns what tests read of both.
    pub(crate) fn second(&mut self) -> Result<Vec<(&'static str, String)>> {
        let mut environment = self.operator()?;
        let operator = &self.images.as_ref().context("there are no images")?.operator;
        let second = self.second.insert(Cluster::new(SECOND)?.bound());
        // What a run that was interrupted has left; this one is to be empty.
        second.down()?;
        second.up()?;
        second.load(&operator.file)?;
        operator::install(second.helm()?, &operator.reference, "Never", &[])?;
        environment.push(("ATLAS_SECOND_KUBECONFIG", second.kubeconfig().to_string_lossy().into_owned()));
        let address = second.address()?;
        for (_, value) in environment.iter_mut().filter(|(name, _)| *name == "NO_PROXY") {
            *value = format!("{value},{address}");
        }
        Ok(environment)
    }

    /// Takes the second cluster down, if there is one. It is never kept: the next step that needs it needs it empty.
    pub(crate) fn end_second(&mut self) -> Result<()> {
        self.second.take().map_or(Ok(()), |second| second.down())
    }

    /// Takes the cluster down, or says how to go on with it.
    pub(crate) fn finish(self) -> Result<()> {
        match self.cluster {
            Some(cluster) if self.keep => {
                say(format!(
                    "\n   The test cluster stays: export KUBECONFIG={}; cargo xtask cluster down --name {NAME} removes it",
                    cluster.kubeconfig().display()
                ));
                Ok(())
            }
            Some(cluster) => cluster.down(),
            None => Ok(()),
        }
    }
}
