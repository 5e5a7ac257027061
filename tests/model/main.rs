//! The decision about runs, explored exhaustively: the function of production between two controllers with stale views
//! that crash between any two writes, users who cancel and delete, and Jobs that end whenever they like.
//!
//! The world's rules are the API server's: a Job's name is taken once, a patch of a vanished run does nothing, a
//! completed run never changes its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use stateright::{Checker, Model, Property};
use world::{Event, Explored, State, Step};

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

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no run's work is done twice", |_, state: &State| {
                state.effects().iter().all(|count| *count <= 1)
            }),
            Property::always(
                "a run that succeeded has its work done, by its own Job or by the one it joined",
                |_, state: &State| state.successes_are_real(),
            ),
            Property::always("a run fails only where that very run was cancelled", |_, state: &State| {
                state.failures_were_asked_for()
            }),
            Property::always("no decision tries to change an end", |_, state: &State| {
                !state.happened(Event::EndRefused)
            }),
            Property::always(
                "from every state the next passes settle, and the last writes nothing",
                |_, state: &State| state.settles(),
            ),
            Property::sometimes("a run joins another", |_, state: &State| state.happened(Event::Joined)),
            Property::sometimes("a Job's name is found taken", |_, state: &State| state.happened(Event::NameTaken)),
            Property::sometimes("a run succeeds", |_, state: &State| state.happened(Event::Succeeded)),
        ]
    }
}

/// Explores breadth first, to a number of states that takes seconds; what is reached first is what fewest steps lead to.
fn explore(model: Explored, states: usize) {
    let checker = model.checker().threads(2).target_state_count(states).spawn_bfs().join();
    println!(
        "{} states, {} of them different, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

#[test]
fn a_controller_that_crashes_between_any_two_writes_loses_and_doubles_nothing() {
    explore(Explored { controllers: 1, crashes: 1, cancels: 0, deletes: 0 }, 60_000);
}

#[test]
fn cancelled_runs_lose_and_double_nothing() {
    explore(Explored { controllers: 1, crashes: 0, cancels: 1, deletes: 0 }, 60_000);
}

#[test]
fn deleted_runs_lose_and_double_nothing() {
    explore(Explored { controllers: 1, crashes: 0, cancels: 0, deletes: 1 }, 60_000);
}

#[test]
fn two_controllers_with_stale_views_lose_and_double_nothing() {
    explore(Explored { controllers: 2, crashes: 0, cancels: 0, deletes: 0 }, 60_000);
}
