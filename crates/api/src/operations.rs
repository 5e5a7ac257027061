//! The names of the built-in operation types, as the chart installs them. Nobody else spells them.

/// Captures a tenant's objects.
pub const CAPTURE: &str = "backup.capture";
/// Checks a repository.
pub const CHECK: &str = "repository.check";
/// Removes from a repository what no backup set needs.
pub const MAINTAIN: &str = "repository.maintain";
/// Plans a restore.
pub const PREVIEW: &str = "restore.preview";
/// Carries a restore out.
pub const APPLY: &str = "restore.apply";
/// Tries whether a backup set could be restored.
pub const REHEARSE: &str = "restore.rehearse";

/// All of them.
pub const BUILT_IN: [&str; 6] = [CAPTURE, CHECK, MAINTAIN, PREVIEW, APPLY, REHEARSE];
