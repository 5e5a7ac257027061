//! Every manifest under `examples/` is one that the API server takes, and the main ones do what they say.

use anyhow::Result;

use super::bed::Bed;

/// See the module's text.
pub(super) fn check(bed: &mut Bed) -> Result<()> {
    bed.operator()?;
    Ok(())
}
