//! Logs and metrics.

pub mod metrics;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Logs as JSON lines on standard error, by `RUST_LOG` (default `info`). A second call changes nothing.
pub fn init_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().json().flatten_event(true).with_target(false).with_writer(std::io::stderr);
    // Fails only where a subscriber is set already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
