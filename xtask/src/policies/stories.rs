//! The program of the stories: built once, and run with some of them.

use crate::shell;
use crate::test::{OF_TWO_CLUSTERS, cargo};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Stories that change policies themselves: a mutant is in their way, and they notice nothing.
const LEFT_OUT: [&str; 1] = ["blocked::alone::a_foreign_job_of_the_same_name_is_left_alone"];

/// How long nothing may end while all are recorded: some wait for others' deadlines.
const SILENCE: Duration = Duration::from_mins(5);

pub(super) struct Stories {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
}

/// What became of some stories.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) passed: BTreeSet<String>,
    pub(super) failed: Vec<String>,
}

impl Stories {
    /// Builds them. What they print goes into files of a folder.
    pub(super) fn build() -> Result<PathBuf> {
        let mut build = cargo()?;
        build.args(["test", "--no-run", "--quiet", "--test", "e2e", "--message-format=json"]);
        let printed = shell::output(&mut build)?;
        let messages = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let program = messages
            .filter(|message| message["target"]["name"] == "e2e")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from));
        program.context("cargo built no program of the stories")
    }

    pub(super) fn new(program: PathBuf, environment: Vec<(&'static str, String)>, folder: &Path) -> Self {
        Self { program, environment, folder: folder.to_owned() }
    }

    /// The names of all whose name holds one of some words; of all, where there are none.
    pub(super) fn list(&self, words: &[String]) -> Result<Vec<String>> {
        let printed = shell::output(shell::command(&self.program).args(["--list", "--format=terse"]))?;
        let names = printed.lines().filter_map(|line| line.strip_suffix(": test"));
        let meant = |name: &&str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
        let left_out =
            |name: &&str| name.starts_with(OF_TWO_CLUSTERS) || LEFT_OUT.iter().any(|left| name.starts_with(left));
        Ok(names.filter(meant).filter(|name| !left_out(name)).map(str::to_owned).collect())
    }

    /// Runs stories by name, side by side. With a limit the first failure ends them all, and so does the time: a story that does
    /// not end has failed.
    pub(super) fn run(&self, log: &str, names: &[String], limit: Option<Duration>) -> Result<Outcome> {
        let path = self.folder.join(format!("{}.log", log.replace([':', '(', ')'], "-")));
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = shell::command(&self.program);
        command.args(["--exact", "--test-threads", "6"]).args(names).env("RUST_BACKTRACE", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let Some(stdout) = child.stdout.take() else { bail!("the stories have no output") };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut outcome = Outcome::default();
        loop {
            let left = deadline.map_or(SILENCE, |at| at.saturating_duration_since(Instant::now()));
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let late = names.iter().filter(|name| !outcome.passed.contains(*name));
                    outcome.failed.extend(late.map(|name| format!("{name} (does not end)")));
                    break;
                }
            };
            writeln!(file, "{line}")?;
            let Some((name, said)) = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... ")) else {
                continue;
            };
            match said {
                "ok" => drop(outcome.passed.insert(name.to_owned())),
                "FAILED" => outcome.failed.push(name.to_owned()),
                _ => {}
            }
            if limit.is_some() && !outcome.failed.is_empty() {
                break;
            }
        }
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
        Ok(outcome)
    }
}
