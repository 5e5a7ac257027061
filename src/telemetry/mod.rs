//! Logs and metrics.

pub mod logs;

pub use logs::init_logs;
