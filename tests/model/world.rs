//! The world of the model: runs of one identity, one Job name, controllers with views of their own.
//!
//! The state holds what later steps depend on and nothing else: each bit more would double what there is to explore.

mod objects;

use objects::{IDENTITY, TYPE, brief, job_object, now, pod_object, run_object, sibling};
use std::{
    hash::Hash,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use tenantatlas::{
    api::{Outcome, Phase, Reason},
    runs::{
        decide::{Action, decide},
        observed::{JobView, JoinedView, Observed, Slot, Tenant},
        prepare::Prepared,
    },
};

/// Room for runs; the oldest first.
const RUNS: usize = 3;

/// What is explored: how many controllers, and how often things go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Explored {
    pub runs: usize,
    pub controllers: usize,
    pub crashes: u8,
    pub cancels: u8,
    pub deletes: u8,
    /// Answers of the API server that get lost, and calls that never reach it: the controller lives on with its old view.
    pub losses: u8,
    /// Workers that fail.
    pub failures: u8,
    /// Whether workers report their results, and pods end before their Jobs do. It multiplies the states.
    pub ends_early: bool,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    SeeRuns(usize),
    SeeJob(usize),
    Decide(usize, usize),
    Write(usize),
    Crash(usize),
    CallLost(usize),
    AnswerLost(usize),
    PodStarts,
    /// The worker reports its result on its run. It may die before its container has ended well.
    WorkerTells,
    /// The pod's container exits well; the Job is not complete yet.
    PodEnds,
    JobEnds,
    JobFails,
    JobGoes,
    GarbageCollected,
    Cancel(usize),
    Delete(usize),
}

/// How often a create met a taken name, over all that was explored: what says that the races are in there.
pub static NAMES_TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The part of a run that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    exists: bool,
    cancel: bool,
    phase: Phase,
    outcome: Outcome,
    reason: Option<String>,
    job: Option<u8>,
    joined: Option<usize>,
    waiting: Option<String>,
    /// The Job whose worker has reported its result.
    told: Option<u8>,
    labelled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Job {
    uid: u8,
    owner: usize,
    pod: Pod,
    terminating: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pod {
    Starting,
    Running,
    Exited,
    Done,
    Failed,
    Fenced,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Write {
    Start(Run),
    DeleteJob(u8),
    Status(Run),
    Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Controller {
    runs: [Run; RUNS],
    job: Option<Job>,
    /// The run being written, as it was observed, and the writes still to do, last first.
    pending: Option<(usize, Run, Vec<Write>)>,
}

/// The world at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    runs: [Run; RUNS],
    job: Option<Job>,
    next_uid: u8,
    effects: [u8; RUNS],
    controllers: Vec<Controller>,
    crashes: u8,
    cancels: u8,
    deletes: u8,
    losses: u8,
    failures: u8,
    ends_early: bool,
    /// A controller tried to change an end that it knew of.
    pub end_refused: bool,
    /// A run that was not cancelled ended otherwise than its worker had reported.
    pub result_ignored: bool,
}

impl Run {
    fn new() -> Self {
        Self {
            exists: true,
            cancel: false,
            phase: Phase::Queued,
            outcome: Outcome::Pending,
            reason: None,
            job: None,
            joined: None,
            waiting: None,
            told: None,
            labelled: false,
        }
    }
}

impl State {
    pub fn new(explored: &Explored) -> Self {
        let runs = std::array::from_fn(|at| Run { exists: at < explored.runs, ..Run::new() });
        let controller = Controller { runs: runs.clone(), job: None, pending: None };
        Self {
            runs,
            job: None,
            next_uid: 1,
            effects: [0; RUNS],
            controllers: vec![controller; explored.controllers],
            crashes: explored.crashes,
            cancels: explored.cancels,
            deletes: explored.deletes,
            losses: explored.losses,
            failures: explored.failures,
            ends_early: explored.ends_early,
            end_refused: false,
            result_ignored: false,
        }
    }

    pub fn effects(&self) -> [u8; RUNS] {
        self.effects
    }

    pub fn jobs_made(&self) -> u8 {
        self.next_uid - 1
    }

    pub fn a_run_joined(&self) -> bool {
        self.runs.iter().any(|run| run.joined.is_some())
    }

    pub fn a_run_succeeded(&self) -> bool {
        self.runs.iter().any(|run| run.outcome == Outcome::Succeeded)
    }

    pub fn successes_are_real(&self) -> bool {
        // A run may have joined one that had joined another.
        let winners = |at: usize| std::iter::successors(Some(at), |at| self.runs[*at].joined).take(RUNS);
        self.runs
            .iter()
            .enumerate()
            .all(|(at, run)| run.outcome != Outcome::Succeeded || winners(at).any(|winner| self.effects[winner] > 0))
    }

    /// Or its worker, or that of the run it joined, failed.
    pub fn failures_have_a_cause(&self) -> bool {
        self.runs.iter().all(|run| {
            run.outcome != Outcome::Failed || run.cancel || run.reason.as_deref() == Some(Reason::JobFailed.as_str())
        })
    }

    pub fn steps(&self, steps: &mut Vec<Step>) {
        for (at, controller) in self.controllers.iter().enumerate() {
            if controller.runs != self.runs {
                steps.push(Step::SeeRuns(at));
            }
            if controller.job != self.job {
                steps.push(Step::SeeJob(at));
            }
            if controller.pending.is_none() {
                steps.extend((0..RUNS).filter(|run| controller.runs[*run].exists).map(|run| Step::Decide(at, run)));
                continue;
            }
            steps.push(Step::Write(at));
            if self.crashes > 0 {
                steps.push(Step::Crash(at));
            }
            if self.losses > 0 {
                steps.extend([Step::CallLost(at), Step::AnswerLost(at)]);
            }
        }
        steps.extend([Step::PodStarts, Step::JobEnds, Step::JobGoes, Step::GarbageCollected]);
        if self.ends_early {
            steps.extend([Step::WorkerTells, Step::PodEnds]);
        }
        if self.failures > 0 {
            steps.push(Step::JobFails);
        }
        if self.cancels > 0 {
            steps.extend((0..RUNS).map(Step::Cancel));
        }
        if self.deletes > 0 {
            steps.extend((0..RUNS).map(Step::Delete));
        }
    }

    /// Takes a step; whether it changed anything.
    pub fn take(&mut self, step: Step) -> bool {
        match step {
            Step::SeeRuns(at) => self.controllers[at].runs = self.runs.clone(),
            Step::SeeJob(at) => self.controllers[at].job.clone_from(&self.job),
            Step::Decide(at, run) => return self.decide(at, run),
            Step::Write(at) => self.write(at),
            Step::Crash(at) => {
                self.crashes -= 1;
                self.controllers[at] = Controller { runs: self.runs.clone(), job: self.job.clone(), pending: None };
            }
            Step::CallLost(at) => {
                self.losses -= 1;
                self.controllers[at].pending = None;
            }
            Step::AnswerLost(at) => {
                self.losses -= 1;
                self.write(at);
                self.controllers[at].pending = None;
            }
            Step::PodStarts => return self.pod_starts(),
            Step::WorkerTells => return self.worker_tells(),
            Step::PodEnds => return self.pod_ends(Pod::Exited),
            Step::JobEnds => {
                let Some(job) = self.job.as_mut().filter(|job| job.pod == Pod::Exited && !job.terminating) else {
                    return self.pod_ends(Pod::Done);
                };
                job.pod = Pod::Done;
            }
            Step::JobFails => {
                self.failures -= 1;
                return self.pod_ends(Pod::Failed);
            }
            Step::JobGoes => {
                if !self.job.as_ref().is_some_and(|job| job.terminating) {
                    return false;
                }
                self.job = None;
            }
            Step::GarbageCollected => {
                let runs = &self.runs;
                let Some(job) = self.job.as_mut().filter(|job| !job.terminating && !runs[job.owner].exists) else {
                    return false;
                };
                job.terminating = true;
            }
            Step::Cancel(at) => {
                let run = &mut self.runs[at];
                if !run.exists || run.cancel || run.phase == Phase::Completed {
                    return false;
                }
                run.cancel = true;
                self.cancels -= 1;
            }
            Step::Delete(at) => {
                if !self.runs[at].exists {
                    return false;
                }
                self.runs[at].exists = false;
                self.deletes -= 1;
            }
        }
        true
    }

    fn pod_ends(&mut self, end: Pod) -> bool {
        let Some(job) = self.job.as_mut().filter(|job| job.pod == Pod::Running && !job.terminating) else {
            return false;
        };
        job.pod = end;
        true
    }

    /// Admission lets the pod of the recorded Job write, until the run is completed.
    fn worker_tells(&mut self) -> bool {
        let Some(job) = self.job.as_ref().filter(|job| job.pod == Pod::Running) else { return false };
        let run = &mut self.runs[job.owner];
        if !run.exists || run.phase == Phase::Completed || run.job != Some(job.uid) || run.told.is_some() {
            return false;
        }
        run.told = Some(job.uid);
        true
    }

    /// Our fence, which every pod passes first.
    fn pod_starts(&mut self) -> bool {
        let Some(job) = self.job.as_mut().filter(|job| job.pod == Pod::Starting && !job.terminating) else {
            return false;
        };
        let run = &self.runs[job.owner];
        if run.exists && run.phase != Phase::Completed && run.job.is_none_or(|recorded| recorded == job.uid) {
            if run.cancel {
                job.pod = Pod::Cancelled;
                return true;
            }
            job.pod = Pod::Running;
            self.effects[job.owner] += 1;
        } else {
            job.pod = Pod::Fenced;
        }
        true
    }

    fn decide(&mut self, at: usize, run: usize) -> bool {
        let observed = self.observe(at, run);
        let before = self.controllers[at].runs[run].clone();
        let mut writes: Vec<Write> = decide(&observed, now())
            .actions
            .into_iter()
            .map(|action| match action {
                Action::Start(start) => Write::Start(brief(&before, &start.status)),
                Action::WriteStatus(status) => Write::Status(brief(&before, &status)),
                Action::DeleteJob(job) => Write::DeleteJob(job.uid.parse().unwrap()),
                Action::WriteLabels(_) => Write::Labels,
                other => panic!("not in this model: {other:?}"),
            })
            .collect();
        writes.reverse();
        if writes.is_empty() {
            return false;
        }
        self.controllers[at].pending = Some((run, before, writes));
        true
    }

    /// Does the next write of a controller, as the API server would take it.
    fn write(&mut self, at: usize) {
        let Some((run, before, mut writes)) = self.controllers[at].pending.take() else { return };
        let Some(write) = writes.pop() else { return };
        let mut given_up = false;
        match write {
            Write::Start(mut next) => {
                if self.job.is_none() {
                    let uid = self.next_uid;
                    self.next_uid += 1;
                    self.job = Some(Job { uid, owner: run, pod: Pod::Starting, terminating: false });
                    next.job = Some(uid);
                    writes.push(Write::Status(next));
                } else {
                    NAMES_TAKEN.fetch_add(1, Relaxed);
                    // The next look asks the API server itself.
                    self.controllers[at].job.clone_from(&self.job);
                    given_up = true;
                }
            }
            Write::DeleteJob(uid) => {
                if let Some(job) = self.job.as_mut().filter(|job| job.uid == uid) {
                    job.terminating = true;
                }
            }
            Write::Status(next) => self.write_status(run, &before, &next),
            Write::Labels => self.runs[run].labelled = self.runs[run].exists,
        }
        if !given_up && !writes.is_empty() {
            self.controllers[at].pending = Some((run, before, writes));
        }
    }

    /// A patch of the version that was observed: refused if the run changed since. A completed run keeps its end.
    fn write_status(&mut self, at: usize, before: &Run, next: &Run) {
        let run = &mut self.runs[at];
        if run != before || !run.exists {
            return;
        }
        if run.phase == Phase::Completed && (next.phase, next.outcome) != (run.phase, run.outcome) {
            self.end_refused = true;
            return;
        }
        let told = run.told.is_some() && !run.cancel;
        self.result_ignored |= told && next.phase == Phase::Completed && next.outcome != Outcome::Succeeded;
        *run = next.clone();
    }

    /// What `observe` reads, with this controller's view and the questions it asks the API server itself.
    fn observe(&self, at: usize, run: usize) -> Observed {
        let view = &self.controllers[at];
        let own = &view.runs[run];
        let open = own.phase != Phase::Completed;
        let started = own.job.is_some() || own.joined.is_some();
        let seen = match (&view.job, own.job) {
            (None, None) => None,
            (Some(seen), None) => Some(seen),
            (Some(seen), Some(recorded)) if seen.uid == recorded => Some(seen),
            (_, Some(_)) => self.job.as_ref(),
        };
        let job = match seen.filter(|_| open) {
            None => JobView::Absent,
            Some(job) if job.owner == run => JobView::Own(job_object(job)),
            Some(job) => {
                let owner = &view.runs[job.owner];
                let object = job_object(job);
                if owner.exists && owner.phase != Phase::Completed {
                    JobView::Others { job: object, owner: sibling(job.owner, owner.cancel || job.terminating) }
                } else {
                    JobView::Orphan(object)
                }
            }
        };
        let joined = match own.joined.filter(|_| open).map(|winner| (winner, &view.runs[winner])) {
            None => JoinedView::None,
            Some((_, winner)) if !winner.exists => JoinedView::Gone,
            Some((at, winner)) if winner.phase == Phase::Completed => JoinedView::Completed(run_object(at, winner)),
            Some(_) => JoinedView::Active,
        };
        let is_open = |run: &Run| run.exists && run.phase != Phase::Completed;
        let older = view.runs[..run]
            .iter()
            .enumerate()
            .filter(|(_, older)| {
                let waits_for_another = older.joined.is_some_and(|winner| is_open(&view.runs[winner]));
                open && !started && is_open(older) && !waits_for_another
            })
            .map(|(at, older)| sibling(at, older.cancel))
            .collect();
        let pods = seen.filter(|_| open).map(pod_object).into_iter().collect();
        Observed {
            run: run_object(run, own),
            tenant: Some(Tenant { uid: "tenant".into(), workspace: "team".into(), terminating: false }),
            operation_type: Some(TYPE.clone()),
            prepared: Ok(Prepared {
                tenant_uid: "tenant".into(),
                operation_type: TYPE.clone(),
                identity: IDENTITY.clone(),
                inputs: tenantatlas::api::Inputs::default(),
                account: "account".into(),
                repository: None,
            }),
            job,
            job_asked: false,
            pods,
            joined,
            older,
            slot: Slot::Free,
            waiting_since: None,
            beyond_history: false,
            awaited: false,
            parent: None,
        }
    }

    /// Whether, left alone with one controller that sees everything, all runs end and the last pass writes nothing.
    pub fn settles(&self) -> bool {
        let mut state = self.clone();
        state.controllers.truncate(1);
        state.controllers[0].pending = None;
        for _ in 0..60 {
            let before = state.clone();
            let mut written = false;
            for run in 0..RUNS {
                state.take(Step::SeeRuns(0));
                state.take(Step::SeeJob(0));
                if state.controllers[0].runs[run].exists && state.decide(0, run) {
                    written = true;
                    while state.controllers[0].pending.is_some() {
                        state.write(0);
                    }
                }
            }
            for step in [Step::GarbageCollected, Step::JobGoes, Step::PodStarts] {
                state.take(step);
            }
            // A cancellation does not wait for the work to end by itself.
            if state.job.as_ref().is_some_and(|job| !state.runs[job.owner].cancel) {
                state.take(Step::JobEnds);
            }
            if !written && state.runs == before.runs && state.job == before.job {
                return state.runs.iter().all(|run| !run.exists || (run.phase == Phase::Completed && run.labelled));
            }
        }
        false
    }
}
