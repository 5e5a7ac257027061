//! The decision about runs, explored exhaustively: the function of production between two controllers with stale views
//! that crash between any two writes, users who cancel and delete, and Jobs that end whenever they like.
//!
//! The world's rules are the API server's: a Job's name is taken once, a patch of a vanished run does nothing, a
//! completed run never changes its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use stateright::{Checker, Model, Property};
use std::sync::atomic::Ordering::Relaxed;
use world::{Explored, NAMES_TAKEN, State, Step};

impl Model for Explored {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        state.steps(actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.take(step).then_some(next)
    }

    /// A controller that never looks again would make a Job for a deleted run, and another once that is gone, for ever.
    fn within_boundary(&self, state: &State) -> bool {
        state.jobs_made() <= 4
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no run's work is done twice", |_, state: &State| {
                state.effects().iter().all(|count| *count <= 1)
            }),
            Property::always(
                "a run that succeeded has its work done, by its own Job or by the one it joined",
                |_, state: &State| state.successes_are_real(),
            ),
            Property::always(
                "a run fails only where that very run was cancelled or its work failed",
                |_, state: &State| state.failures_have_a_cause(),
            ),
            Property::always("no decision tries to change an end", |_, state: &State| !state.end_refused),
            Property::always("a run ends as its worker has reported", |_, state: &State| !state.result_ignored),
            Property::always(
                "from every state the next passes settle, and the last writes nothing",
                |_, state: &State| state.settles(),
            ),
            Property::sometimes("a run joins another", |_, state: &State| state.a_run_joined()),
            Property::sometimes("a run succeeds", |_, state: &State| state.a_run_succeeded()),
        ]
    }
}

/// One controller and two runs, where nothing goes wrong.
const CALM: Explored =
    Explored { runs: 2, controllers: 1, crashes: 0, cancels: 0, deletes: 0, losses: 0, failures: 0, ends_early: false };

/// How many states a test looks at where not all of them are asked for: what fewest steps lead to, in seconds.
const QUICK: usize = 60_000;

/// How many it looks at where all are asked for: more than there are with one controller. With two there are more than
/// a machine of this kind holds.
const ALL: usize = 4_000_000;

/// Explores breadth first: everything where `ATLAS_PROOF_ALL` is set, which takes minutes, else what is nearest.
fn explore(model: Explored) {
    let limit = if std::env::var_os("ATLAS_PROOF_ALL").is_some() { ALL } else { QUICK };
    let checker = model.checker().threads(2).target_state_count(limit).spawn_bfs().join();
    println!(
        "{model:?}: {} states, {} of them different, depth {}, {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        if checker.state_count() < limit { "all" } else { "the nearest" },
    );
    checker.assert_properties();
}

#[test]
fn a_controller_that_crashes_between_any_two_writes_loses_and_doubles_nothing() {
    explore(Explored { crashes: 2, ..CALM });
}

#[test]
fn calls_and_answers_that_get_lost_lose_and_double_nothing() {
    explore(Explored { losses: 2, ..CALM });
}

#[test]
fn cancelled_runs_lose_and_double_nothing() {
    explore(Explored { cancels: 1, ..CALM });
}

#[test]
fn deleted_runs_lose_and_double_nothing() {
    explore(Explored { deletes: 1, ..CALM });
}

#[test]
fn workers_that_fail_fail_their_run_and_who_joined_it() {
    explore(Explored { failures: 1, crashes: 1, ..CALM });
}

#[test]
fn of_three_runs_the_oldest_joiner_takes_over_from_one_that_is_cancelled() {
    explore(Explored { runs: 3, cancels: 1, ..CALM });
}

#[test]
fn a_crash_beside_a_cancellation_loses_and_doubles_nothing() {
    explore(Explored { crashes: 1, cancels: 1, ..CALM });
}

#[test]
fn two_controllers_with_stale_views_lose_and_double_nothing() {
    explore(Explored { controllers: 2, ..CALM });
    assert!(NAMES_TAKEN.load(Relaxed) > 0, "no create ever met a taken name: the races were not explored");
}

#[test]
fn two_controllers_and_a_cancellation_lose_and_double_nothing() {
    explore(Explored { controllers: 2, cancels: 1, ..CALM });
}

#[test]
fn a_result_that_a_worker_reports_is_how_its_run_ends_though_the_worker_dies_after_it() {
    explore(Explored { ends_early: true, failures: 1, crashes: 1, ..CALM });
}

#[test]
fn ends_that_come_before_a_job_s_beside_cancellations_lose_and_double_nothing() {
    explore(Explored { ends_early: true, cancels: 1, ..CALM });
}

#[test]
fn two_controllers_see_ends_that_come_before_a_job_s_and_lose_and_double_nothing() {
    explore(Explored { ends_early: true, controllers: 2, ..CALM });
}
