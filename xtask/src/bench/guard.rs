//! Takes the cluster down when this process ends without having done so: an interruption, a closed terminal, a kill.

use std::io::Write as _;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use crate::shell;

/// A process that waits for the end of this one.
pub(crate) struct Guard(Child);

/// Its input ends with this process, however that ends; then it acts, unless it was told before that all is well.
const SCRIPT: &str = r#"read -r word; [ "$word" = well ] || exec "$1" cluster down --name "$2""#;

impl Guard {
    /// Starts it, in a session of its own: what interrupts this process does not reach it.
    pub(crate) fn start(cluster: &str) -> Result<Self> {
        let own = std::env::current_exe().context("where is this program?")?;
        let mut command = shell::command("setsid");
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(own).arg(cluster).stdin(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start setsid")?))
    }

    /// Ends it: nothing is left to do.
    pub(crate) fn dismiss(mut self) -> Result<()> {
        if let Some(mut stdin) = self.0.stdin.take() {
            writeln!(stdin, "well")?;
        }
        self.0.wait()?;
        Ok(())
    }
}
