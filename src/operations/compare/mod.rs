//! `tenantatlas worker compare`: reports what differs between two backup sets of a repository, or
//! lists what one set holds.
//!
//! ```text
//! state    an open set: what it holds
//! absence  what it means that a set does not hold an item
//! walk     both sets, kind by kind
//! judge    how two objects of an item differ
//! found    counts, rows for the reports, the result of the run
//! ```
//!
//! Nothing in the tenant is read or written but the run, its reports and the backup sets. Values
//! are shown as in previews: in reports alone, of a Secret as keyed hashes, and only of kinds that
//! every reader of reports may read.

pub mod absence;
pub mod found;
pub mod judge;
mod records;
pub mod state;
pub mod walk;

use crate::{
    api::{operations::CompareInputs, reason::worker as reason, result::TerminationResult},
    items::semantic::DigestKey,
    operations::compare::{
        found::{Found, Names},
        state::State,
        walk::Terms,
    },
    providers::{Provider, bounded::Bounded, catalog::Catalog, kubernetes::Kubernetes},
    repository::Repository,
    worker::{
        environment::Environment,
        failure::{Failure, call_failure},
        progress::Progress,
        report::{self, Contents},
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::Client;

/// Purpose of the derived key for stand-ins of secret values.
const DIGESTS: &str = "tenantatlas/compare/digests";

/// Compares backup sets.
pub struct Compare;

impl Work for Compare {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move { compare(site.client, site.environment, site.repository()?).await })
        }))
    }
}

/// Reads the inputs. Call this before anything is opened.
fn read_inputs(environment: &Environment) -> Result<CompareInputs, Failure> {
    let inputs: CompareInputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    if inputs.to.as_ref() == Some(&inputs.from) {
        let message = format!(
            "inputs.from and inputs.to both name the backup set {}: name another one, or leave out inputs.to to list what the set holds",
            inputs.from
        );
        return Err(Failure::permanent(reason::INVALID_INPUTS, message));
    }
    Ok(inputs)
}

/// Compares two sets of the tenant, or lists one.
pub async fn compare(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    compare_with(&provider, client, environment, repository).await
}

/// The same with any provider. `client` reaches the run and its records.
pub async fn compare_with(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
) -> Result<TerminationResult, Failure> {
    let inputs = read_inputs(environment)?;
    let mut sets = vec![state::find(client, environment, &inputs.from).await?];
    if let Some(to) = &inputs.to {
        sets.push(state::find(client, environment, to).await?);
    }
    let states = State::open(repository, &sets).await?;
    let mut found = match states.as_slice() {
        [from, to] => {
            let provider = Bounded::new(provider);
            let catalog = provider.catalog().await;
            let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
            walk::compare(from, to, &terms(&provider, catalog, repository).await?).await?
        }
        [state] => walk::list(state).await?,
        _ => Found::default(),
    };
    found.sort();
    let partial: Vec<&str> =
        states.iter().filter(|state| !state.absence.is_whole()).map(|state| state.set.as_str()).collect();
    let result = found.to_result(Names { from: &inputs.from, to: inputs.to.as_deref(), partial: &partial });
    tracing::info!(rows = found.rows().len(), "compared");
    report::write(client, &environment.identity, Contents::Differences(found.rows())).await?;
    Progress::of(client.clone(), &environment.identity).finish(result.summary_counts.unwrap_or_default()).await;
    Ok(result)
}

/// What the provider says of the kinds: which reports may show, and whose status is data.
pub async fn terms(provider: &dyn Provider, catalog: Catalog, repository: &impl Repository) -> Result<Terms, Failure> {
    let key = DigestKey::new(repository.derived_key(DIGESTS));
    let readers = provider.readers(&catalog).await?;
    Ok(Terms { readers, status_is_data: catalog.without_status, key })
}
