//! Images of the examples, packed from programs of this machine's Debian and the shared libraries they name.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::oci::{Config, Content};
use super::{base, config};
use crate::shell;

/// A shell, sleep and sqlite3.
pub(super) fn sqlite() -> Result<(Content, Config)> {
    shell::ensure_packages(&[("sqlite3", "sqlite3"), ("ldd", "libc-bin")])?;
    let mut content = base();
    add_program(&mut content, "sqlite3", "/usr/bin/sqlite3")?;
    add_program(&mut content, "sh", "/bin/sh")?;
    add_program(&mut content, "sleep", "/usr/bin/sleep")?;
    let mut config = config("/bin/sh", "sqlite3");
    config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    Ok((content, config))
}

/// Adds a program of this machine and everything that the loader needs to start it, each where the loader looks for it.
fn add_program(content: &mut Content, program: &str, path: &str) -> Result<()> {
    let source = shell::find(program).with_context(|| format!("{program} is not on this machine"))?;
    content.copy(path, 0o755, &source)?;
    let listed = shell::output(shell::command("ldd").arg(&source))?;
    for library in libraries(&listed)? {
        content.copy(library, 0o755, Path::new(library))?;
    }
    Ok(())
}

/// The paths in the output of `ldd`: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader, `/lib64/ld-… (0x…)`.
fn libraries(listed: &str) -> Result<Vec<&str>> {
    let mut paths = Vec::new();
    for line in listed.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("a shared library is missing on this machine: {line}");
        }
        paths.extend(line.split_whitespace().find(|word| word.starts_with('/')));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_library_and_the_loader_are_found() {
        let listed = "\tlinux-vdso.so.1 (0x7ff)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x7f1)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f2)\n";
        assert_eq!(libraries(listed).unwrap(), ["/lib/x/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(libraries("\tlibz.so.1 => not found").is_err());
    }
}
