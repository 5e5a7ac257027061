//! Names of the built-in operation types, as the chart installs them. No other module spells them
//! out.

/// Captures a tenant's objects.
pub const CAPTURE: &str = "backup.capture";
/// Checks a repository.
pub const CHECK: &str = "repository.check";
/// Removes data that no backup set needs from a repository.
pub const MAINTAIN: &str = "repository.maintain";
/// Plans a restore.
pub const PREVIEW: &str = "restore.preview";
/// Carries out a restore.
pub const APPLY: &str = "restore.apply";
/// Tests whether a backup set could be restored.
pub const REHEARSE: &str = "restore.rehearse";

/// All built-in operation types.
pub const BUILT_IN: [&str; 6] = [CAPTURE, CHECK, MAINTAIN, PREVIEW, APPLY, REHEARSE];
