//! One measurement at a time, and nothing left of one that was interrupted.
//!
//! The cluster is taken down when this process ends without having done so: an interruption, a closed terminal, a kill.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use crate::{shell, tools};

/// The right to measure, as long as what is returned lives: two measurements on one cluster would measure each other.
pub(crate) fn alone(file: &Path) -> Result<File> {
    tools::try_lock(file)?.context("another `cargo xtask bench` measures in this checkout: wait for its end, or end it")
}

/// A process that waits for the end of this one.
pub(crate) struct Guard(Child);

/// Its input ends with this process, however that ends; then it acts, unless it was told before that all is well.
const SCRIPT: &str = r#"
read -r word
[ "$word" = well ] && exit
echo "Interrupted: of the row that was being measured nothing is written; the cluster \"$2\" is taken down." >&2
exec "$1" cluster down --name "$2"
"#;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_measurement_is_refused_until_the_first_has_ended() {
        let file = std::env::temp_dir().join(format!("tenantatlas-bench-{}.lock", std::process::id()));
        let first = alone(&file).expect("nobody else measures");
        let refused = alone(&file).expect_err("somebody measures").to_string();
        assert!(refused.contains("another `cargo xtask bench`"), "{refused}");
        drop(first);
        alone(&file).expect("nobody measures any more");
        std::fs::remove_file(&file).expect("the file can be removed");
    }
}
