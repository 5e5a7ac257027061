//! The client to the API server, and what every call of it passes.
//!
//! [`connect`] builds a client with one layer ([`layer`]). It applies a timeout (except to
//! watches), counts calls by verb, resource and answer ([`count`]), and lets an observer see each
//! call or make it fail. kube's own retries are off: they would block a reconcile for minutes and
//! hide faults from the code that decides about them. A caller that can safely repeat a call uses
//! [`retry`](super::retry). A refusal by an API server that is not ready counts as 503
//! ([`ready`](super::ready)).

mod body;
mod call;
mod count;
mod layer;

pub use body::CallBody;
pub use call::{Answer, Call};
pub use count::{CallCounts, CallKey};
pub use layer::{CallLayer, CallObserver, CallService, Fault, NoFaults, timed_out};

use super::ready::Readiness;
use kube::{Client, Config, client::ClientBuilder, config::KubeConfigOptions};
use std::{sync::Arc, time::Duration};

/// Default timeout of a call, from the first byte sent to the last byte read.
///
/// A timeout above the API server's own limit for a request (60 s) gains nothing. Well below it,
/// lists of large Secrets over slow links fail for no reason.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// How to reach the API server.
#[derive(Clone)]
pub struct ClientOptions {
    /// A context of the kubeconfig. Defaults to the kubeconfig's own, or else to the pod's account.
    pub context: Option<String>,
    /// Timeout of every call except watches and followed logs.
    pub timeout: Duration,
    /// Counts of calls, readable while the client is in use.
    pub counts: CallCounts,
    /// Sees every call and may make it fail.
    pub observer: Arc<dyn CallObserver>,
    /// Whether responses are trimmed while they are read ([`super::trim`]). Code that restores what
    /// it reads must have it whole.
    pub trims: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            context: None,
            timeout: DEFAULT_TIMEOUT,
            counts: CallCounts::default(),
            observer: Arc::new(NoFaults),
            trims: false,
        }
    }
}

/// Creates a client with these options, from the kubeconfig or the pod's account. Sends nothing
/// yet.
pub async fn connect(options: ClientOptions) -> Result<Client, ConnectError> {
    let config = match &options.context {
        Some(context) => {
            let wanted = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
            Config::from_kubeconfig(&wanted).await.map_err(|error| ConnectError(error.to_string()))?
        }
        None => Config::infer().await.map_err(|error| ConnectError(error.to_string()))?,
    };
    connect_with(config, options)
}

/// Creates a client for the API server that `config` names.
pub fn connect_with(mut config: Config, options: ClientOptions) -> Result<Client, ConnectError> {
    config.default_retry = false;
    let builder =
        |config: Config| ClientBuilder::try_from(config).map_err(|error: kube::Error| ConnectError(error.to_string()));
    // A client of its own: the question must not wait for the calls that it is about.
    let readiness = Readiness::of(builder(config.clone())?.build());
    Ok(builder(config)?.with_layer(&CallLayer::new(options).asking(readiness)).build())
}

/// The configuration cannot be read, so there is no client. A retry does not help.
#[derive(Debug, thiserror::Error)]
#[error("no configuration to reach the API server: {0}: run in a pod with a service account, or set KUBECONFIG")]
pub struct ConnectError(String);
