//! One measurement at a time, and nothing left of one that was interrupted.
//!
//! The cluster is taken down when this process ends without having done so: an interruption, a closed terminal, a kill.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// The right to measure, as long as this lives.
pub(crate) struct Alone {
    _file: File,
}

impl Alone {
    /// Takes it. Two measurements on one cluster would measure each other. The kernel gives it back, however this process
    /// ends, and what it starts does not hold it.
    pub(crate) fn take(file: &Path) -> Result<Self> {
        let lock = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _file: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another `cargo xtask bench` measures in this checkout: wait for its end, or end it")
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", file.display())),
        }
    }
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
        let first = Alone::take(&file).expect("nobody else measures");
        let refused = Alone::take(&file).err().expect("somebody measures").to_string();
        assert!(refused.contains("another `cargo xtask bench`"), "{refused}");
        drop(first);
        Alone::take(&file).expect("nobody measures any more");
        std::fs::remove_file(&file).expect("the file can be removed");
    }
}
