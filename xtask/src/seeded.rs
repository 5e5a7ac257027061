//! `cargo xtask seeded`: the proof of the proof. Known bugs are switched on, and a test must catch each: one bug at a time, or with
//! `--quick` a few together, for one build, where each names the test that must fail.
//!
//! A bug is a patch in `tests/seeded`, so the product has no switch for it. It is applied to a copy of the tree; what
//! the dependencies compiled to is linked into the copy's own target folder, and the tree's own is never touched.

use crate::cluster::checkout;
use crate::shell::{self, say};
use crate::test::WRAPPER;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Where the patches lie.
const PATCHES: &str = "tests/seeded";

/// Those of every test run: one that the model catches, one that a unit test does.
const QUICK: [&str; 2] = ["dropped-precondition", "join-of-a-cancelled-run"];

/// The targets of the workspace; what they compiled to is the copy's own.
const OWN: [&str; 19] = [
    "tenantatlas",
    "libtenantatlas",
    "tenantatlas-api",
    "tenantatlas_api",
    "libtenantatlas_api",
    "tenantatlas-items",
    "tenantatlas_items",
    "libtenantatlas_items",
    "tenantatlas-repository",
    "tenantatlas_repository",
    "libtenantatlas_repository",
    "xtask",
    "it",
    "model",
    "e2e",
    "proof",
    "fuzz",
    "measure",
    "libxtask",
];

/// Switch on known bugs, one at a time, in a copy of the tree: each must be caught
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// These bugs only, by the names of their files without `.patch`; left out: all
    bugs: Vec<String>,
    /// A few that are caught in seconds
    #[arg(long, conflicts_with = "bugs")]
    quick: bool,
}

/// One bug.
#[derive(Debug, PartialEq, Eq)]
struct Bug {
    name: String,
    what: String,
    /// `lib`, `api` or `repository` for the tests in these crates, or a target of `tests/`.
    caught_by: String,
    /// A part of the name of the test that must fail when the bug is switched on together with others.
    test: Option<String>,
    patch: PathBuf,
}

/// Switches bugs on and reports who caught them. An error names those that nobody did.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let bugs = bugs(&checkout()?.join(PATCHES))?;
    let chosen: Vec<&Bug> = if arguments.quick {
        bugs.iter().filter(|bug| QUICK.contains(&bug.name.as_str())).collect()
    } else if arguments.bugs.is_empty() {
        bugs.iter().collect()
    } else {
        let known = |name: &String| {
            bugs.iter().find(|bug| bug.name == *name).with_context(|| format!("there is no {PATCHES}/{name}.patch"))
        };
        arguments.bugs.iter().map(known).collect::<Result<_>>()?
    };
    let copy = Copy::make()?;
    for bug in &bugs {
        copy.applies(bug)?;
    }
    say(format!("   {} patches apply; {} are switched on", bugs.len(), chosen.len()));
    let mut escaped = Vec::new();
    for bugs in chosen.chunks(if arguments.quick { chosen.len() } else { 1 }) {
        let begun = Instant::now();
        let failed = copy.fail(bugs)?;
        for bug in bugs {
            let caught = if bugs.len() == 1 { failed.clone() } else { bug.caught(&failed)? };
            let by = match caught.as_slice() {
                [] => "NOBODY".to_owned(),
                [one] => one.clone(),
                [one, rest @ ..] => format!("{one} and {} more", rest.len()),
            };
            say(format!("   {:<32} {:<5} {by} ({})", bug.name, bug.caught_by, shell::elapsed(begun)));
            if caught.is_empty() {
                escaped.push(bug.name.as_str());
            }
        }
    }
    copy.remove()?;
    if !escaped.is_empty() {
        bail!("nobody caught {}; again: cargo xtask seeded {}", escaped.join(", "), escaped.join(" "));
    }
    Ok(())
}

/// The bugs of a folder, by name.
fn bugs(folder: &Path) -> Result<Vec<Bug>> {
    let mut bugs = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let patch = entry?.path();
        if patch.extension().is_some_and(|extension| extension == "patch") {
            bugs.push(Bug::read(patch)?);
        }
    }
    bugs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(bugs)
}

impl Bug {
    fn read(patch: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&patch).with_context(|| format!("cannot read {}", patch.display()))?;
        let line = |key: &str| text.lines().take(3).find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        let header = |key: &str| line(key).with_context(|| format!("{} lacks a line {key}…", patch.display()));
        let (what, caught_by, test) = (header("What: ")?, header("Caught by: ")?, line("Test: "));
        let name = patch.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, what, caught_by, test, patch })
    }

    /// Those of the failed tests that are this bug's.
    fn caught(&self, failed: &[String]) -> Result<Vec<String>> {
        let test = self.test.as_ref();
        let test = test.with_context(|| format!("{} lacks a line Test: …", self.patch.display()))?;
        Ok(failed.iter().filter(|name| name.contains(test.as_str())).cloned().collect())
    }

    /// What cargo is told to run the tests that catch it.
    fn target(&self) -> Vec<&str> {
        match self.caught_by.as_str() {
            "lib" => vec!["--package", "tenantatlas", "--lib"],
            "api" => vec!["--package", "tenantatlas-api", "--lib"],
            "items" => vec!["--package", "tenantatlas-items", "--lib"],
            "repository" => vec!["--package", "tenantatlas-repository", "--lib"],
            test => vec!["--package", "tenantatlas", "--test", test],
        }
    }
}

/// A copy of the tree with a target folder of its own.
struct Copy {
    origin: PathBuf,
    folder: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let origin = checkout()?;
        // Beside the tree's own builds, so that links work, and never two at once.
        let folder = origin.join("target/seeded");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(folder.join("tree"))?;
        let copy = Self { origin: origin.to_path_buf(), folder };
        let listed = shell::output(copy.git().args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
        for file in listed.split('\0').filter(|file| !file.is_empty() && copy.origin.join(file).is_file()) {
            copy.take(file)?;
        }
        copy.link_dependencies()?;
        Ok(copy)
    }

    fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn git(&self) -> Command {
        let mut git = shell::command("git");
        git.current_dir(&self.origin);
        git
    }

    /// A file as it is in the tree.
    fn take(&self, file: &str) -> Result<()> {
        let target = self.tree().join(file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let content = fs::read(self.origin.join(file))?;
        fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))
    }

    /// What the dependencies compiled to, if they did; else they compile once, here.
    fn link_dependencies(&self) -> Result<()> {
        let (from, to) = (self.origin.join("target/debug"), self.folder.join("target/debug"));
        fs::create_dir_all(&to)?;
        // Fingerprints are written in place, so they are copied; results are replaced, so a link is enough.
        for (part, how) in [("deps", "--link"), ("build", "--link"), (".fingerprint", "--preserve=timestamps")] {
            if from.join(part).is_dir() {
                shell::run(
                    shell::command("cp").args(["-R", "--preserve=timestamps", how]).arg(from.join(part)).arg(&to),
                )?;
            }
            for entry in fs::read_dir(to.join(part)).into_iter().flatten() {
                let path = entry?.path();
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                if name.rsplit_once('-').is_some_and(|(package, _)| OWN.contains(&package)) {
                    let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    removed.with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    fn patch(&self, arguments: &[&str], bug: &Bug) -> Result<()> {
        let mut git = shell::command("git");
        // The copy lies inside a repository, which is not to be looked at.
        git.current_dir(self.tree()).env("GIT_CEILING_DIRECTORIES", &self.folder).arg("apply").args(arguments);
        shell::run(git.arg(&bug.patch)).with_context(|| {
            format!(
                "{PATCHES}/{}.patch does not fit the code any more: write it anew, or delete it with its bug",
                bug.name
            )
        })
    }

    fn applies(&self, bug: &Bug) -> Result<()> {
        self.patch(&["--check"], bug)
    }

    /// The tests that fail with some bugs. That these compile is seen first: what does not is caught by nobody.
    fn fail(&self, bugs: &[&Bug]) -> Result<Vec<String>> {
        for bug in bugs {
            self.patch(&[], bug)?;
        }
        let failed = self.test(bugs);
        for bug in bugs.iter().rev() {
            self.patch(&["--reverse"], bug)?;
        }
        failed
    }

    fn test(&self, bugs: &[&Bug]) -> Result<Vec<String>> {
        let names = bugs.iter().map(|bug| bug.name.as_str()).collect::<Vec<_>>().join(", ");
        let cargo = || {
            let mut cargo = shell::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo
                .current_dir(self.tree())
                .env("CARGO_TARGET_DIR", self.folder.join("target"))
                .env("RUST_BACKTRACE", "0")
                // A bug may be one that clippy would warn of.
                .env_remove(WRAPPER);
            cargo.args(["test", "--quiet"]).args(bugs.iter().flat_map(|bug| bug.target()));
            cargo
        };
        shell::run(cargo().arg("--no-run")).with_context(|| format!("with {names} the code does not compile"))?;
        let output = cargo().args(["--no-fail-fast"]).output().context("cannot start cargo")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let failed: Vec<String> = said
            .lines()
            .skip_while(|line| *line != "failures:")
            .filter_map(|line| line.strip_prefix("    "))
            // Not what a failure printed.
            .filter(|name| !name.is_empty() && name.chars().all(|one| one.is_alphanumeric() || "_:".contains(one)))
            .map(str::to_owned)
            .collect();
        ensure!(output.status.success() == failed.is_empty(), "the tests neither passed nor named a failure:\n{said}");
        let mut failed = failed;
        failed.sort();
        failed.dedup();
        Ok(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seeded_bug_has_a_row_in_the_guide_and_every_row_a_bug() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout");
        let guide = fs::read_to_string(root.join("docs/testing.md")).expect("the guide");
        let bugs = bugs(&root.join(PATCHES)).expect("bugs");
        assert!(bugs.len() >= 20, "{} bugs", bugs.len());
        for bug in &bugs {
            let row = format!("| `{}` | {} |", bug.name, bug.what);
            assert!(guide.contains(&row), "docs/testing.md lacks: {row}");
        }
        for name in QUICK {
            assert!(bugs.iter().any(|bug| bug.name == name && bug.test.is_some()), "{name}");
        }
    }
}
