//! The controller's memory with a full history, at rest and while it lists everything afresh, and how long it takes until
//! its first decision.

use super::Plan;
use super::shape::{self, Shape};
use crate::bed::{Bed, run, until};
use crate::etcd::{self, Etcd};
use crate::report::{Report, Target, median};
use crate::{Result, api, audit};
use jiff::Timestamp;
use serde_json::json;
use std::time::{Duration, Instant};

/// Tenants that the runs are spread over.
const TENANTS: usize = 1_000;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (completed, active) = (plan.size(100_000, 200), plan.size(1_000, 20));
    let mut report = Report::new("The controller's memory", "", plan.quick);
    let history = fill(bed, completed, active).await?;
    report.how = format!(
        "{completed} completed and {active} active runs in {TENANTS} tenants, each with the Job it had or has: one of each written through the API server, the others as copies of it in etcd. A completed run has {} bytes as JSON with 5 failures, an \
         active one {}, a Job {}. The operator is started anew, lists all of it, and idles: its pod's process, by /proc: peak (VmHWM) from its start, \
         and what it holds 30 s later. To its first decision, by the audit log: from its first request after it leads to its first create of a Job, for a run that waits for it. Bare: a client \
         that lists the same runs and Jobs at the same time, in pages of 500, and reads the bytes.",
        history.completed, history.active, history.job
    );
    let (mut peaks, mut resting) = (Vec::new(), Vec::new());
    let (mut first, mut bare) = (Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        bed.stop_operator().await?;
        bare.push(list(bed).await?);
        let waiting = run(&format!("first-{repetition}"), &history.operation_type, &json!({ "first": repetition }));
        api::create(&bed.client, &api::runs(&history.namespace), &waiting).await?;
        let stopped = Timestamp::now();
        let process = bed.start_operator().await?;
        first.push(first_decision(bed, stopped)?);
        tokio::time::sleep(Duration::from_secs(plan.size(30, 3) as u64)).await;
        peaks.push(process.peak_memory()?);
        resting.push(process.memory()?);
        eprintln!("   peak {:.1} MiB, at rest {:.1} MiB", peaks[peaks.len() - 1], resting[resting.len() - 1]);
    }
    let most = peaks.iter().copied().fold(0.0, f64::max);
    report.against(
        "peak, the list at its start included, the most of all repetitions",
        most,
        "MiB",
        Target::AtMost(128.0),
    );
    report.against(
        "to the first decision, times a bare list",
        median(&first) / median(&bare),
        "×",
        Target::AtMost(1.3),
    );
    report.figure("at rest, median", median(&resting), "MiB");
    report.samples("peak", "MiB", &peaks);
    report.samples("at rest", "MiB", &resting);
    report.samples("to the first decision", "ms", &first);
    report.samples("bare list", "ms", &bare);
    Ok(report)
}

/// Milliseconds from a new leader's first request about what it works on to its first Job.
fn first_decision(bed: &Bed, since: Timestamp) -> Result<f64> {
    let mut requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
    requests.retain(|request| request.arrived > since);
    let list = |request: &&audit::Request| request.what() == "operationruns" && request.read();
    let begun = requests.iter().filter(list).map(|request| request.arrived).min().ok_or("no list of runs")?;
    let create = |request: &&audit::Request| request.what() == "jobs" && request.wrote();
    let made = requests.iter().filter(create).map(|request| request.arrived).min().ok_or("no Job was made")?;
    Ok((made - begun).total(jiff::Unit::Millisecond)?)
}

/// Milliseconds that a bare client takes to list all runs and Jobs.
async fn list(bed: &Bed) -> Result<f64> {
    let begun = Instant::now();
    let pages = async |path: &str| {
        let mut next = String::new();
        loop {
            let uri = format!("{path}?limit=500&continue={next}");
            let page = bed.client.request_text(http::Request::get(uri).body(Vec::new())?).await?;
            match api::continue_token(&page) {
                Some(token) => next = token,
                None => return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(()),
            }
        }
    };
    let (runs, jobs) = tokio::join!(pages("/apis/tenantatlas.io/v1alpha1/operationruns"), pages("/apis/batch/v1/jobs"));
    runs.and(jobs)?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// How large the objects of a history are, in bytes as JSON.
pub struct History {
    operation_type: String,
    namespace: String,
    completed: usize,
    active: usize,
    job: usize,
}

/// Makes a history: one completed and one active run by the API server, all others as copies of
/// these two in etcd, each with its own names, uids and identity. The operator is stopped.
pub async fn fill(bed: &Bed, completed: usize, active: usize) -> Result<History> {
    let operation_type = bed.stub_type("history").await?;
    let shape = Shape::record(bed, &operation_type).await?.with_failures();
    bed.stop_operator().await?;
    let mut namespaces = Vec::new();
    for number in 0..TENANTS {
        namespaces.push(bed.tenant(&format!("history{number:04}"), false).await?);
    }
    eprintln!("   making {completed} completed and {active} active runs");
    let etcd = Etcd::from_environment()?;
    let mut history = History { operation_type, namespace: namespaces[0].clone(), completed: 0, active: 0, job: 0 };
    for (numbers, size) in
        [(0..completed, &mut history.completed), (completed..completed + active, &mut history.active)]
    {
        if numbers.is_empty() {
            continue;
        }
        let first = numbers.start;
        let to_its_end = first < completed;
        let clients = [&bed.client, &bed.as_operator, &bed.as_job_controller];
        shape.write(clients, &namespaces[first % TENANTS], first, to_its_end).await?;
        let original = Original::read(bed, &etcd, &namespaces[first % TENANTS], first).await?;
        *size = original.run_size;
        history.job = original.job_size;
        let copies = numbers.skip(1).flat_map(|number| original.copy(&namespaces[number % TENANTS], number));
        etcd.put(copies).await?;
        // Its caches lag behind so many writes, and it refuses to read until they have caught up.
        for path in ["/apis/tenantatlas.io/v1alpha1/operationruns?limit=1", "/apis/batch/v1/jobs?limit=1"] {
            let caught_up = async || Ok(api::get(&bed.client, path).await.ok().map(drop));
            until("the API server to know the copies", Duration::from_mins(3), caught_up).await?;
        }
    }
    Ok(history)
}

/// A run and its Job as they lie in etcd.
struct Original {
    run: Vec<u8>,
    job: Vec<u8>,
    /// Names, uids and the identity of the two.
    words: Vec<String>,
    run_size: usize,
    job_size: usize,
}

impl Original {
    async fn read(bed: &Bed, etcd: &Etcd, namespace: &str, number: usize) -> Result<Self> {
        let (name, job_name) = (shape::run_name(number), shape::job_name(number));
        let run = api::get(&bed.client, &format!("{}/{name}", api::runs(namespace))).await?;
        let job = api::get(&bed.client, &format!("{}/{job_name}", api::jobs(namespace))).await?;
        let mut words = vec![namespace.to_owned(), name, job_name, shape::number(number)];
        // The beginning of the hash is the label of a completed run, too.
        let identity = run["status"]["identityHash"].as_str().and_then(|hash| hash.get(..40));
        for word in [run["metadata"]["uid"].as_str(), job["metadata"]["uid"].as_str(), identity] {
            words.push(word.ok_or("the original lacks a uid or its identity")?.to_owned());
        }
        Ok(Self {
            run: etcd.get(&run_key(&words[0], &words[1])).await?,
            job: etcd.get(&job_key(&words[0], &words[2])).await?,
            run_size: run.to_string().len(),
            job_size: job.to_string().len(),
            words,
        })
    }

    /// The keys and values of another run and its Job.
    fn copy(&self, namespace: &str, number: usize) -> [Result<(String, Vec<u8>)>; 2] {
        let (name, job_name) = (shape::run_name(number), shape::job_name(number));
        let uid = |of: char| format!("{of}0000000-0000-4000-8000-{number:012x}");
        let identity = format!("{number:040x}");
        let (run, job) = (run_key(namespace, &name), job_key(namespace, &job_name));
        let own = [namespace.to_owned(), name, job_name, shape::number(number), uid('a'), uid('b'), identity];
        let words: Vec<(String, String)> = self.words.iter().cloned().zip(own).collect();
        let copied = |key: String, original: &[u8]| Ok((key, etcd::copy(original, &words)?));
        [copied(run, &self.run), copied(job, &self.job)]
    }
}

fn run_key(namespace: &str, name: &str) -> String {
    format!("/registry/tenantatlas.io/operationruns/{namespace}/{name}")
}

fn job_key(namespace: &str, name: &str) -> String {
    format!("/registry/jobs/{namespace}/{name}")
}
