//! `tenantatlas worker drift`: compares the tenant with a baseline, and writes a `Finding` for each
//! item that differs.
//!
//! ```text
//! baseline  which backup sets are compared, and what it means that one lacks an item
//! walk      both sides, kind by kind
//! found     counts, rows for the reports, the result of the run
//! findings  the findings of the scope, and how they become what was found
//! restores  which restore wrote a path, and who asked for it
//! ```
//!
//! What counts of a difference, what is shown of it and how much it matters is decided in
//! [`crate::items::drift`]. Nothing in the tenant is written but findings and the run's reports.
//!
//! A crash leaves findings of which some are written. The next attempt compares again, and writes
//! those that are not yet what they should be.

pub mod baseline;
pub mod findings;
pub mod found;
mod records;
pub mod restores;
pub mod walk;

use crate::{
    api::{
        BackupSet, LocalReference, ObjectReference,
        backup_set::Content,
        finding::{Baseline, Current, Evidence},
        operations::DriftInputs,
        reason::worker as reason,
        result::TerminationResult,
    },
    clock::Clock,
    items::{
        drift::{Rules, ignore::Ignore, severity::Severities},
        semantic::DigestKey,
        skip::ItemRules,
    },
    operations::{
        capture::{catalog, known::Marks, scope::Scope},
        drift::{
            baseline::Opened,
            findings::{Known, Telling, Written},
            found::Candidate,
            restores::{Restores, is_restores},
            walk::{Place, Walk, add_autoscalers},
        },
        inventory::read::{Holdings, digest_key},
    },
    providers::{Provider, bounded::Bounded, catalog::Catalog, kubernetes::Kubernetes},
    repository::Repository,
    worker::{
        environment::{Environment, RunIdentity},
        failure::Failure,
        open::key_secrets,
        progress::Progress,
        report::{self, Contents},
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::{Client, ResourceExt};

/// Purpose of the derived key for digests of findings and stand-ins of secret values.
const DIGESTS: &str = "tenantatlas/drift/digests";

/// Finds what differs from a baseline.
pub struct Drift;

impl Work for Drift {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        Order::read(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move { generate(site.client, site.environment, site.repository()?, site.clock).await })
        }))
    }
}

/// What is asked for.
struct Order {
    inputs: DriftInputs,
    scope: Scope,
    ignore: Ignore,
    severities: Severities,
}

impl Order {
    /// Reads the inputs. Call this before anything is opened.
    fn read(environment: &Environment) -> Result<Self, Failure> {
        let inputs: DriftInputs = environment.inputs()?;
        environment.expect_repository(&inputs.repository)?;
        let invalid = |message: String| {
            Failure::permanent(reason::INVALID_INPUTS, format!("{message}: correct spec.inputs in a new run"))
        };
        if let Some(baseline) = &inputs.baseline
            && baseline.backup_set.is_some() == baseline.schedule.is_some()
        {
            let problem = "inputs.baseline: name either a backupSet or a schedule, or leave it out for the newest set";
            return Err(invalid(problem.to_owned()));
        }
        let named = inputs.baseline.as_ref().and_then(|baseline| baseline.backup_set.as_ref());
        if inputs.current.as_ref().is_some_and(|current| named == Some(&current.backup_set)) {
            return Err(invalid("inputs.baseline and inputs.current name the same backup set".to_owned()));
        }
        let scope = Scope::new(inputs.selection.clone(), environment.target.as_ref())?;
        let ignore = Ignore::new(&inputs.ignore, "inputs.ignore").map_err(invalid)?;
        let severities = Severities::new(&inputs.severities, "inputs.severities").map_err(invalid)?;
        Ok(Self { inputs, scope, ignore, severities })
    }
}

/// Compares the tenant with a baseline.
pub async fn generate(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    clock: &dyn Clock,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    generate_with(&provider, client, environment, repository, clock).await
}

/// The same with any provider. `client` reaches the run and its records.
pub async fn generate_with(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    clock: &dyn Clock,
) -> Result<TerminationResult, Failure> {
    let provider = Bounded::new(provider);
    let Order { inputs, scope, ignore, severities } = Order::read(environment)?;
    let run = &environment.identity;
    let set = baseline::choose(client, environment, inputs.baseline.as_ref()).await?;
    let current = match &inputs.current {
        Some(current) => Some(baseline::find(client, environment, &current.backup_set).await?),
        None => None,
    };
    let catalog = catalog(&provider, &scope).await?;
    let opened = open(repository, &set, &catalog).await?;
    let current_opened = match &current {
        Some(current) => Some(open(repository, current, &catalog).await?),
        None => None,
    };
    let marks = match opened.holdings.scope_key() {
        Some(scope_key) if current.is_none() && !inputs.read_all && set.spec.content == Content::Objects => {
            Marks::of_snapshot(repository, scope_key, &set.spec.snapshot).await
        }
        _ => None,
    };
    let mut rules = Rules { ignore, severities, key: DigestKey::new(repository.derived_key(DIGESTS)) };
    let place = Place {
        readers: provider.readers(&catalog).await?,
        provider: &provider,
        catalog: &catalog,
        client,
        run,
        scope: &scope,
        left_out: ItemRules { repository_secrets: key_secrets(&environment.repository_spec).into_keys().collect() },
        key: digest_key(repository),
        baseline: &opened,
        current: current_opened.as_ref(),
        marks: marks.as_ref(),
    };
    add_autoscalers(&place, &mut rules).await?;
    let mut known = Known::read(client, run, &scope.names.scope_key()).await?;
    let room = known.room();
    let mut found = Walk::compare(&place, &rules, &mut known).await?;
    let mut worst = found.take_worst(room);
    name_restores(client, run, worst.values_mut()).await?;
    let telling = Telling {
        run,
        baseline: Baseline {
            backup_set: ObjectReference {
                name: opened.name.clone(),
                uid: set.metadata.uid.clone().unwrap_or_default(),
            },
            snapshot: set.spec.snapshot.clone(),
            taken_at: Some(opened.holdings.taken_at()),
        },
        current: Current {
            backup_set: current.as_ref().map(|current| LocalReference::new(current.name_any())),
            run: ObjectReference { name: run.run.clone(), uid: run.run_uid.clone() },
        },
        now: clock.now(),
    };
    let Written { new, reopened, resolved } =
        known.write(client, worst, |item| found.is_settled(item), &telling).await?;
    found.finish(&opened.name, (new, reopened, resolved));
    let result = found.to_result();
    tracing::info!(rows = found.rows().len(), new, reopened, resolved, "compared with the baseline");
    report::write(client, run, Contents::Differences(found.rows())).await?;
    Progress::of(client.clone(), run).finish(result.summary_counts.unwrap_or_default()).await;
    Ok(result)
}

/// Names the restores that wrote what drifted, if any may have.
async fn name_restores(
    client: &Client,
    run: &RunIdentity,
    drifted: impl Iterator<Item = &mut Candidate>,
) -> Result<(), Failure> {
    let mut evidence: Vec<&mut [Evidence]> = drifted.map(|one| one.found.evidence.as_mut_slice()).collect();
    if evidence.iter().any(|evidence| evidence.iter().any(is_restores)) {
        let restores = Restores::read(client, &run.namespace).await?;
        for evidence in &mut evidence {
            restores.name_in(evidence);
        }
    }
    Ok(())
}

async fn open(repository: &impl Repository, set: &BackupSet, catalog: &Catalog) -> Result<Opened, Failure> {
    let name = set.name_any();
    match Holdings::open(repository, set, &catalog.without_status).await {
        Ok(holdings) => Ok(Opened { name, holdings }),
        Err(failure) => Err(Failure { message: format!("backup set {name}: {}", failure.message), ..failure }),
    }
}
