//! Kubernetes events: told in the background, never waited for, never failing a reconcile.

use crate::api::result::truncate;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

/// The most events in line; more are dropped, for they must not hold memory while the API server is away.
const QUEUE: usize = 1024;

/// The API allows 1 KiB.
const MAX_NOTE: usize = 1000;

/// How an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing to worry about.
    Normal,
    /// Worth a look.
    Warning,
}

/// Where events are handed in.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, k8s_openapi::api::core::v1::ObjectReference)>,
}

impl Events {
    /// Starts publishing, in the name of this pod.
    #[must_use]
    pub fn start(client: Client, pod: Option<String>) -> Self {
        let (queue, mut line) = mpsc::channel::<(Event, _)>(QUEUE);
        tokio::spawn(async move {
            let recorder = Recorder::new(client, Reporter { controller: "tenantatlas".to_owned(), instance: pod });
            while let Some((event, about)) = line.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    // Two of the same nanosecond collide, a terminating namespace takes none: neither matters.
                    tracing::debug!(%error, reason = event.reason, "event not published");
                }
            }
        });
        Self { queue }
    }

    /// Tells something about an object.
    pub fn publish<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        severity: Severity,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_: if severity == Severity::Normal { EventType::Normal } else { EventType::Warning },
            reason: truncate(reason, 128),
            note: Some(truncate(note, MAX_NOTE)),
            action: action.to_owned(),
            secondary: None,
        };
        if self.queue.try_send((event, about.object_ref(&()))).is_err() {
            tracing::debug!(reason, "event dropped: too many in line");
        }
    }
}
