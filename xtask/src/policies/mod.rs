//! `cargo xtask mutate-policies`: the proof of the stories about admission. Each part of each policy is taken out on a running cluster,
//! one at a time, and a story must fail.
//!
//! A mutant is shown to those stories alone that could notice it. Which these are is recorded once, on the cluster as it is: probes write into
//! the audit log what each part stops. What no story meets has survived at once.

mod mutant;
mod probe;
mod record;
mod server;
mod stories;

use crate::cluster::{Cluster, checkout};
use crate::shell::{self, say};
use crate::test::bed::Bed;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use mutant::{Mutant, Policy};
use record::Record;
use serde_json::{Map, Value, json};
use server::Server;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stories::Stories;

/// Where records, results and what stories print are kept, below the checkout.
const FOLDER: &str = "target/policies";

/// How many stories are shown a mutant at once, the quickest first. The next are asked when these pass.
const BATCH: usize = 6;

/// How many stories are asked where it is not known that what they do would be refused.
const AT_MOST: usize = 24;

/// Take out each part of each admission policy, one at a time, on the test cluster: a story must fail
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Leave the test cluster running
    #[arg(long)]
    keep: bool,
}

/// What is to be done.
#[derive(Debug, Default, Args)]
pub(crate) struct Choice {
    /// These only: a policy, or one of its parts, by the beginning of what is printed
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Pass over what was caught before, by the same policy
    #[arg(long)]
    resume: bool,
    /// Record stories again that were recorded before
    #[arg(long)]
    record: bool,
    /// Stories, by parts of their names; left out: all
    #[arg(last = true, value_name = "STORY")]
    stories: Vec<String>,
}

/// Makes the cluster and does it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut bed = Bed::new(arguments.keep, false);
    let outcome = mutate(&arguments.choice, &mut bed);
    let ended = bed.finish();
    outcome.and(ended)
}

/// Mutates the policies on a cluster, which has them as they were installed when this is over.
pub(crate) fn mutate(choice: &Choice, bed: &mut Bed) -> Result<()> {
    let program = Stories::build()?;
    let environment = bed.operator()?;
    let cluster = bed.running().context("the operator is installed on a cluster")?;
    let folder = checkout()?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut server = Server::new(cluster);
    let policies = server.installed()?;
    // What an earlier run may have left.
    server.put_back(&policies)?;
    let stories = Stories::new(program, environment, &folder);
    let record = recorded(&policies, choice, &stories, &mut server, cluster, &folder)?;
    let outcome = all(&policies, choice, &record, &stories, &mut server, &folder);
    let back = server.put_back(&policies);
    outcome.and(back)
}

/// Shows every mutant that was chosen to the stories. An error names those that survived.
fn all(
    policies: &[Policy],
    choice: &Choice,
    record: &Record,
    stories: &Stories,
    server: &mut Server<'_>,
    folder: &Path,
) -> Result<()> {
    let mutants: Vec<Mutant<'_>> = policies.iter().flat_map(Policy::mutants).collect();
    let chosen: Vec<&Mutant<'_>> = mutants
        .iter()
        .filter(|mutant| {
            choice.only.is_empty() || choice.only.iter().any(|name| mutant.id().starts_with(name.as_str()))
        })
        .collect();
    let mut results = Results::read(folder)?;
    let begun = Instant::now();
    let mut survivors = Vec::new();
    say(format!("   {} policies, {} parts, of which {} are taken out", policies.len(), mutants.len(), chosen.len()));
    for mutant in &chosen {
        let (id, digest) = (mutant.id(), digest(&mutant.of.policy));
        if let Some(by) = results.caught(&id, &digest).filter(|_| choice.resume) {
            say(format!("   {id:<72} caught before, by {by}"));
            continue;
        }
        let started = Instant::now();
        let mut met = who_could_notice(mutant, record);
        // A probe sees no request that is refused before it is validated. Stories that are named are shown it all the same.
        if met.is_empty() && !choice.stories.is_empty() {
            met = record.iter().map(|(name, story)| (name.clone(), story.seconds)).collect();
        }
        let caught = if met.is_empty() { None } else { show(mutant, &met, stories, server)? };
        let by = caught.as_deref().unwrap_or("NOBODY");
        say(format!("   {id:<72} {by} ({} could, {})", met.len(), shell::elapsed(started)));
        results.write(&id, &digest, caught.as_deref())?;
        if caught.is_none() {
            survivors.push(id);
        }
    }
    say(format!("   {} of {} caught in {}", chosen.len() - survivors.len(), chosen.len(), shell::elapsed(begun)));
    if !survivors.is_empty() {
        bail!("no story fails without:\n      {}", survivors.join("\n      "));
    }
    Ok(())
}

/// A story and how long it takes.
type Candidate = (String, f64);

/// Stories that met the part, the quickest first; those that surely would notice before those that might.
fn who_could_notice(mutant: &Mutant<'_>, record: &Record) -> Vec<Candidate> {
    let (surely, maybe) = probe::keys(mutant);
    let who = |keys: &[String]| -> Vec<Candidate> {
        let met = record.iter().filter(|(_, story)| keys.iter().any(|key| story.met.contains(key)));
        let mut who: Vec<Candidate> = met.map(|(name, story)| (name.clone(), story.seconds)).collect();
        who.sort_by(|one, other| one.1.total_cmp(&other.1));
        who
    };
    let mut found = who(&surely);
    // Whoever meets a policy that writes is given what it writes.
    let most = if mutant.of.mutates() { usize::MAX } else { AT_MOST };
    let more: Vec<Candidate> = who(&maybe).into_iter().filter(|one| !found.contains(one)).take(most).collect();
    found.extend(more);
    found
}

/// The story that fails with the mutant in its policy's place. Afterwards all is as it was.
fn show(mutant: &Mutant<'_>, who: &[Candidate], stories: &Stories, server: &mut Server<'_>) -> Result<Option<String>> {
    server.switch(mutant)?;
    let mut caught = Ok(None);
    for batch in who.chunks(BATCH) {
        let slowest = batch.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
        let names: Vec<String> = batch.iter().map(|(name, _)| name.clone()).collect();
        let limit = Duration::from_secs_f64(slowest.mul_add(3.0, 30.0));
        caught = stories.run(&mutant.id(), &names, Some(limit)).map(|outcome| outcome.failed.first().cloned());
        if !matches!(caught, Ok(None)) {
            break;
        }
    }
    server.put_back(std::slice::from_ref(mutant.of))?;
    server.tidy()?;
    caught
}

/// What stories meet: as it was recorded with these policies, and recorded now for those of which it is not known.
fn recorded(
    policies: &[Policy],
    choice: &Choice,
    stories: &Stories,
    server: &mut Server<'_>,
    cluster: &Cluster,
    folder: &Path,
) -> Result<Record> {
    let file = folder.join("record.json");
    let of: Vec<String> = policies.iter().map(|one| digest(&one.policy)).collect();
    let stored: Value = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut record = if stored["policies"] == json!(of) { from_json(&stored["stories"]) } else { Record::new() };
    let mut names = stories.list(&choice.stories)?;
    names.retain(|name| choice.record || !record.contains_key(name));
    if !names.is_empty() {
        let started = Instant::now();
        say(format!("   recording what {} stories meet", names.len()));
        let probes: Vec<Value> = policies.iter().flat_map(probe::probes).collect();
        server.apply(&probes.iter().cloned().chain(policies.iter().filter_map(probe::loud)).collect::<Vec<_>>())?;
        server.wait(false)?;
        // As the log writes it.
        let since = shell::output(shell::command("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.000000Z"]))?;
        let outcome = stories.run("record", &names, None);
        server.delete(&probes.iter().rev().collect::<Vec<_>>())?;
        server.put_back(policies)?;
        let outcome = outcome?;
        let seen = record::read(&cluster.audit_logs()?, &since)?;
        for name in &names {
            // One that fails by itself shows nothing.
            record.remove(name);
            if outcome.passed.contains(name) {
                record.insert(name.clone(), seen.get(name).cloned().unwrap_or_default());
            }
        }
        let written = json!({ "policies": of, "stories": to_json(&record) });
        fs::write(&file, written.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let (passed, failed) = (outcome.passed.len(), outcome.failed.join(", "));
        say(format!("   {passed} recorded in {}; left out because they fail: {failed}", shell::elapsed(started)));
        server.tidy()?;
    }
    let meant = stories.list(&choice.stories)?;
    record.retain(|name, _| meant.contains(name));
    Ok(record)
}

fn to_json(record: &Record) -> Value {
    let stories =
        record.iter().map(|(name, story)| (name.clone(), json!({ "seconds": story.seconds, "met": story.met })));
    Value::Object(stories.collect())
}

fn from_json(stored: &Value) -> Record {
    let stories = stored.as_object().into_iter().flatten().map(|(name, story)| {
        let met = story["met"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let story = record::Story { seconds: story["seconds"].as_f64().unwrap_or_default(), met: met.collect() };
        (name.clone(), story)
    });
    stories.collect()
}

fn digest(value: &Value) -> String {
    hex::encode(&Sha256::digest(value.to_string())[..8])
}

/// What became of mutants, kept so that a run that was interrupted can go on.
struct Results {
    file: PathBuf,
    stored: Map<String, Value>,
}

impl Results {
    fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("results.json");
        let stored = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", file.display()))?,
            Err(_) => Map::new(),
        };
        Ok(Self { file, stored })
    }

    /// Who caught a mutant of a policy that was the same.
    fn caught(&self, id: &str, digest: &str) -> Option<&str> {
        let result = self.stored.get(id).filter(|result| result["policy"] == digest)?;
        result["by"].as_str()
    }

    fn write(&mut self, id: &str, digest: &str, by: Option<&str>) -> Result<()> {
        self.stored.insert(id.to_owned(), json!({ "policy": digest, "by": by }));
        fs::write(&self.file, Value::Object(self.stored.clone()).to_string())
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}
