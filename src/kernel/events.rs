//! Kubernetes events, published in the background. A reconcile never waits for an event, and never
//! fails because of one.

use crate::api::result::truncate;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Most events in the queue. Further events are dropped: they must not hold memory while the API
/// server is away.
const QUEUE: usize = 1024;

/// The API allows 1 KiB.
const MAX_NOTE: usize = 1000;

/// How long an event increments the count of an equal earlier event, as in a recorder.
const MERGED: Duration = Duration::from_mins(6);

/// Key of events that are published as one. A recorder by itself ignores the note: of five runs
/// that a schedule created, only the first would be named.
fn saying(event: &Event, about: &ObjectReference) -> String {
    let words = [about.uid.as_deref(), Some(&event.reason), event.note.as_deref()];
    words.map(Option::unwrap_or_default).join("/")
}

/// How an event is displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing to worry about.
    Normal,
    /// Worth a look.
    Warning,
}

/// Handle for publishing events.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
}

impl Events {
    /// Starts the publisher, in the name of this pod.
    #[must_use]
    pub fn start(client: Client, pod: Option<String>) -> Self {
        let (queue, mut line) = mpsc::channel::<(Event, _)>(QUEUE);
        tokio::spawn(async move {
            let reporter = Reporter { controller: "tenantatlas".to_owned(), instance: pod };
            let mut told: HashMap<String, (Recorder, Instant)> = HashMap::new();
            while let Some((event, about)) = line.recv().await {
                if told.len() >= QUEUE {
                    told.retain(|_, (_, last)| last.elapsed() < MERGED);
                    if told.len() >= QUEUE {
                        told.clear();
                    }
                }
                let (recorder, last) = told
                    .entry(saying(&event, &about))
                    .or_insert_with(|| (Recorder::new(client.clone(), reporter.clone()), Instant::now()));
                *last = Instant::now();
                if let Err(error) = recorder.publish(&event, &about).await {
                    // Two events of the same nanosecond collide, and a terminating namespace
                    // accepts none. Neither matters.
                    tracing::debug!(%error, reason = event.reason, "event not published");
                }
            }
        });
        Self { queue }
    }

    /// Queues an event about an object.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_something_else_is_an_event_of_its_own() {
        let event = |note: &str| Event {
            type_: EventType::Normal,
            reason: "RunCreated".to_owned(),
            note: Some(note.to_owned()),
            action: "Start".to_owned(),
            secondary: None,
        };
        let about = ObjectReference { uid: Some("u".to_owned()), ..ObjectReference::default() };
        assert_ne!(saying(&event("run a"), &about), saying(&event("run b"), &about));
        assert_eq!(saying(&event("run a"), &about), saying(&event("run a"), &about));
    }
}
