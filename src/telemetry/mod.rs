//! Logs and metrics.

pub mod logs;
pub mod metrics;

pub use logs::init_logs;
