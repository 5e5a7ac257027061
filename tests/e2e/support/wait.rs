//! Waiting for a condition, with a deadline and with what was seen last.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long something may take that takes a few seconds on an idle machine; tests share two cores.
pub(crate) const SOON: Duration = Duration::from_mins(3);

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(150);

/// Looks until there is a value. Past the deadline: panics with what was awaited and what was seen last.
pub(crate) async fn wait_for<T, S: Display>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if started.elapsed() > deadline => {
                panic!("{what}: not within {deadline:?}. Last seen:\n{seen}")
            }
            Err(_) => tokio::time::sleep(PERIOD).await,
        }
    }
}
