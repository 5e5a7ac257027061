//! Which steps have passed for the files as they are: hours of `--all` survive an interruption.

use super::Step;
use crate::shell;
use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Where it is kept, below the checkout.
const FILE: &str = "target/steps.json";

/// Steps that have passed, by name, with how long they took.
pub(super) struct Passed {
    file: PathBuf,
    /// Digest of the files and of the arguments. If it differs, no step is passed over.
    of: String,
    steps: Map<String, Value>,
}

impl Passed {
    /// What passed before, if `resume`, for the same files and the same options.
    pub(super) fn read(root: &Path, options: &str, resume: bool) -> Result<Self> {
        let file = root.join(FILE);
        let of = digest(root, options)?;
        let stored: Value =
            fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let steps = stored["steps"].as_object().filter(|_| resume && stored["of"] == of.as_str());
        Ok(Self { file, of, steps: steps.cloned().unwrap_or_default() })
    }

    /// How long a step took that has passed and need not run again. The rights are read from the cluster of the stories, so
    /// these run again where the rights were not read.
    pub(super) fn took(&self, step: Step, steps: &[Step]) -> Option<String> {
        let took = |step: Step| self.steps.get(&step.name())?.as_str().map(str::to_owned);
        let read = !steps.contains(&Step::Rights) || took(Step::Rights).is_some();
        took(step).filter(|_| step != Step::E2e || read)
    }

    /// Records that a step has passed.
    pub(super) fn add(&mut self, step: Step, took: &str) -> Result<()> {
        self.steps.insert(step.name(), took.into());
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        let stored = serde_json::json!({ "of": self.of, "steps": self.steps });
        fs::write(&self.file, stored.to_string()).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// Of every file that git knows or would add, and of the options.
fn digest(root: &Path, options: &str) -> Result<String> {
    let git = |arguments: &[&str]| shell::output(shell::command("git").current_dir(root).args(arguments));
    let listed = git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    let mut hash = Sha256::new_with_prefix(options);
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        hash.update(name);
        // One that is listed and gone counts as empty.
        hash.update(Sha256::digest(fs::read(root.join(name)).unwrap_or_default()));
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(steps: &[(&str, &str)]) -> Passed {
        let steps = steps.iter().map(|(name, took)| ((*name).to_owned(), Value::from(*took))).collect();
        Passed { file: PathBuf::new(), of: String::new(), steps }
    }

    #[test]
    fn a_step_that_passed_is_not_run_again_but_for_the_stories_whose_rights_were_not_read() {
        let all = [Step::Unit, Step::E2e, Step::Rights];
        let before = passed(&[("unit", "1 s"), ("e2e", "2 s")]);
        assert_eq!(before.took(Step::Unit, &all).as_deref(), Some("1 s"));
        assert_eq!(before.took(Step::E2e, &all), None);
        assert_eq!(before.took(Step::E2e, &all[..2]).as_deref(), Some("2 s"));
        let both = passed(&[("e2e", "2 s"), ("rights", "3 s")]);
        assert_eq!(both.took(Step::E2e, &all).as_deref(), Some("2 s"));
        assert_eq!(both.took(Step::Chart, &all), None);
    }
}
