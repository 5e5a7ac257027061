//! Logs and metrics.

mod findings;
pub mod logs;
pub mod metrics;

pub use logs::init_logs;
