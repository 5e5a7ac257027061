//! The only writer of a run's `status.progress` and `status.summaryCounts` while its Job runs.
//!
//! It sends a merge patch with the run's uid and these two fields, at most every two seconds and
//! only if they changed. The first is sent after two seconds, so that a short capture writes once.
//! Progress is informational and no outcome depends on it, so a failed patch is logged and dropped.

use crate::{
    api::{OperationRun, outcome::SummaryCounts},
    worker::environment::RunIdentity,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

/// Minimum time between two patches.
const INTERVAL: Duration = Duration::from_secs(2);

/// Field manager of the worker's fields.
pub const FIELD_MANAGER: &str = "tenantatlas-worker";

/// Writes item counts to the run's status.
#[derive(Debug)]
pub struct Progress {
    counts: watch::Sender<SummaryCounts>,
    writer: JoinHandle<()>,
}

impl Progress {
    /// Starts writing the progress of a run.
    #[must_use]
    pub fn of(client: Client, run: &RunIdentity) -> Self {
        let (counts, seen) = watch::channel(SummaryCounts::default());
        let runs: Api<OperationRun> = Api::namespaced(client, &run.namespace);
        let writer = tokio::spawn(write(runs, run.clone(), seen));
        Self { counts, writer }
    }

    /// Sets the current counts.
    pub fn update(&self, counts: SummaryCounts) {
        self.counts.send_replace(counts);
    }

    /// Writes the final counts, if they are not written yet, and stops.
    pub async fn finish(self, counts: SummaryCounts) {
        self.counts.send_replace(counts);
        drop(self.counts);
        // A panic of the writer is no reason to fail here.
        let _ = self.writer.await;
    }
}

async fn write(runs: Api<OperationRun>, run: RunIdentity, mut counts: watch::Receiver<SummaryCounts>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = SummaryCounts::default();
    let mut open = true;
    while open {
        open = counts.changed().await.is_ok();
        if open {
            // The final write does not wait for its turn.
            tokio::select! {
                _ = ticks.tick() => {}
                () = closed(&mut counts) => open = false,
            }
        }
        let now = *counts.borrow_and_update();
        if now == written {
            continue;
        }
        written = now;
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let body = Patch::Merge(patch(&run.run_uid, now));
        if let Err(error) = runs.patch_status(&run.run, &parameters, &body).await {
            tracing::warn!(%error, "progress could not be written");
        }
    }
}

/// Waits until the sender is dropped, whatever it sends before that.
async fn closed(counts: &mut watch::Receiver<SummaryCounts>) {
    while counts.changed().await.is_ok() {}
}

/// The patch contains only the worker's own fields. The uid keeps it from a later run of the same
/// name.
fn patch(run_uid: &str, counts: SummaryCounts) -> Value {
    json!({
        "metadata": { "uid": run_uid },
        "status": { "progress": format!("{}/{}", counts.processed, counts.total), "summaryCounts": counts },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use std::sync::{Arc, Mutex};
    use tower::{BoxError, service_fn};

    type Seen = Arc<Mutex<Vec<(tokio::time::Instant, Value)>>>;

    /// A progress whose patches all fail, and are recorded with their times.
    fn recorded() -> (Progress, Seen) {
        let seen = Seen::default();
        let server = {
            let seen = Arc::clone(&seen);
            service_fn(move |request: Request<Body>| {
                let seen = Arc::clone(&seen);
                async move {
                    let uri = request.uri().to_string();
                    assert!(
                        uri.starts_with("/apis/tenantatlas.io/v1alpha1/namespaces/acme/operationruns/nightly/status?"),
                        "{uri}"
                    );
                    let body = request.into_body().collect_bytes().await.expect("a body");
                    let body = serde_json::from_slice(&body).expect("JSON");
                    seen.lock().expect("no panic").push((tokio::time::Instant::now(), body));
                    let mut refused = Response::new(Body::from(b"no".to_vec()));
                    *refused.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                    Ok::<_, BoxError>(refused)
                }
            })
        };
        let run = RunIdentity {
            run: "nightly".into(),
            run_uid: "uid".into(),
            namespace: "acme".into(),
            job_uid: "job".into(),
            pod: "op-1-x".into(),
        };
        (Progress::of(Client::new(server, "acme"), &run), seen)
    }

    fn counts(processed: i64, total: i64) -> SummaryCounts {
        SummaryCounts { total, processed, succeeded: processed, failed: 0, skipped: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn many_updates_are_few_patches_and_the_last_state_is_written() {
        let (progress, seen) = recorded();
        for processed in 0..1000 {
            progress.update(counts(processed, 1000));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        progress.finish(counts(1000, 1000)).await;
        let seen = seen.lock().expect("no panic");
        assert!((4..=6).contains(&seen.len()), "{} patches in 10 s", seen.len());
        let but_last = &seen[..seen.len() - 1];
        assert!(but_last.windows(2).all(|pair| pair[1].0 - pair[0].0 >= INTERVAL));
        let last = &seen.last().expect("patches").1;
        assert_eq!(
            *last,
            json!({"metadata": {"uid": "uid"}, "status": {"progress": "1000/1000",
                "summaryCounts": {"total": 1000, "processed": 1000, "succeeded": 1000, "failed": 0, "skipped": 0}}})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_when_nothing_changed() {
        let (progress, seen) = recorded();
        progress.update(counts(5, 5));
        tokio::time::sleep(Duration::from_mins(1)).await;
        progress.update(counts(5, 5));
        tokio::time::sleep(Duration::from_mins(1)).await;
        progress.finish(counts(5, 5)).await;
        assert_eq!(seen.lock().expect("no panic").len(), 1);
    }
}
