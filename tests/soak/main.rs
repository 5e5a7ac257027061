//! The soak: many tenants at work while operator, workers, API server and store are killed and slowed at random, and a
//! ledger that is exact at the end.
//!
//! One program. `cargo xtask soak` starts it on a cluster of its own; it starts itself again as the store ([`store`]).
//! Users ([`user`]) and disturbances ([`disturb`]) follow a plan that the seed makes ([`plan`]). A watch of its own
//! ([`witness`]), the API server's audit log ([`audit`]), the objects and the repositories ([`gather`]) say what happened;
//! [`ledger`] says what must hold of that.

#![allow(missing_docs, reason = "nothing here is used elsewhere")]

#[path = "../../benches/measure/api.rs"]
#[allow(dead_code, reason = "requests as JSON, shared with the measurements")]
mod api;
mod audit;
mod bed;
mod dice;
mod disturb;
mod drain;
mod gather;
mod ledger;
mod log;
mod plan;
#[path = "../shared/processes.rs"]
#[allow(clippy::expect_used, reason = "shared with the tests")]
mod processes;
mod repository;
#[path = "../shared/s3.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests")]
mod s3;
mod settings;
mod store;
mod summary;
mod tenant;
mod user;
mod witness;

use bed::Bed;
use clap::Parser as _;
use settings::Settings;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = match std::env::var_os(store::FOLDER) {
        Some(folder) => runtime.block_on(store::serve(folder.into())).map(|()| true),
        None => runtime.block_on(soak(Settings::parse())),
    };
    runtime.shutdown_background();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything holds.
async fn soak(settings: Settings) -> Result<bool> {
    let bed = Arc::new(Bed::connect(settings).await?);
    bed.log.say(&format!(
        "{} tenants for {} minutes, seed {}",
        bed.settings.tenants, bed.settings.minutes, bed.settings.seed
    ));
    let witness = witness::Witness::start(&bed.client);
    let store = Arc::new(store::Store::start(&bed.settings).await?);
    let tenants = tenant::prepare(&bed, &store).await?;
    bed.log.say(&format!("{} tenants are ready", tenants.len()));

    let (stop, stopped) = watch::channel(false);
    let users: Vec<_> =
        tenants.iter().map(|tenant| tokio::spawn(user::User::new(&bed, tenant, stopped.clone()).live())).collect();
    let disturber = Arc::new(disturb::Disturber::new(&bed, &store));
    let disturbing = tokio::spawn(Arc::clone(&disturber).disturb(stopped));
    let begun = Instant::now();
    let lasts = Duration::from_secs(bed.settings.minutes * 60);
    for minute in 1.. {
        let next = Duration::from_secs(minute * 60).min(lasts);
        tokio::time::sleep(next.saturating_sub(begun.elapsed())).await;
        bed.log.say(&summary::progress(begun.elapsed(), &witness, &bed));
        if next >= lasts {
            break;
        }
    }
    stop.send_replace(true);
    disturbing.await??;
    for user in users {
        user.await?;
    }
    bed.log.say("no more disturbances; waiting for the end of what is under way");
    let drained = drain::drain(&bed, &store, &tenants, &witness).await?;
    let mut records = gather::gather(&bed, &tenants, &witness).await?;
    records.repositories = drained.repositories;
    records.idle_writes = drained.idle_writes;
    records.gaps.extend(drained.gaps);
    let verdicts = ledger::check(&records);
    summary::write(&bed, begun.elapsed(), &records, &verdicts)?;
    Ok(verdicts.iter().all(|verdict| verdict.violations.is_empty()))
}
