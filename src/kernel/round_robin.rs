//! A queue that is fair between namespaces: FIFO within a namespace, round robin over all. Pure.
//!
//! A tenant may touch all its objects at once. In one FIFO queue, every other tenant would wait for
//! as many reconciles.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{HashMap, VecDeque};

/// What waits, by namespace. `push` and `pop` take constant time.
pub struct RoundRobin<T> {
    /// Namespaces with something waiting, the next one first.
    ring: VecDeque<String>,
    waiting: HashMap<String, VecDeque<T>>,
}

impl<T> Default for RoundRobin<T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> RoundRobin<T> {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Appends to the queue of a namespace. A namespace with an empty queue is appended to the
    /// ring.
    pub fn push(&mut self, namespace: String, one: T) {
        let waiting = self.waiting.entry(namespace.clone()).or_default();
        if waiting.is_empty() {
            self.ring.push_back(namespace);
        }
        waiting.push_back(one);
    }

    /// Takes the first of the next namespace, which goes to the end of the ring.
    pub fn pop(&mut self) -> Option<T> {
        let namespace = self.ring.pop_front()?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let first = waiting.pop_front();
        if waiting.is_empty() {
            // An empty queue is not kept.
            self.waiting.remove(&namespace);
        } else {
            self.ring.push_back(namespace);
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nobody_waits_for_more_than_one_of_each_other_namespace_and_nothing_is_lost(
            // A namespace to push for, or `None` to pop.
            steps in proptest::collection::vec(proptest::option::of(0_usize..5), 0..200),
        ) {
            let mut turns = RoundRobin::default();
            let (mut pushed, mut popped): (Vec<_>, Vec<(usize, usize)>) = (Vec::new(), Vec::new());
            // For each waiting namespace, what was popped since its last turn, or since it began to
            // wait.
            let mut since: HashMap<usize, Vec<usize>> = HashMap::new();
            let rest = std::iter::repeat_n(None, 200);
            for (number, step) in steps.into_iter().chain(rest).enumerate() {
                if let Some(namespace) = step {
                    turns.push(namespace.to_string(), (namespace, number));
                    pushed.push((namespace, number));
                    since.entry(namespace).or_default();
                    continue;
                }
                let Some(taken) = turns.pop() else { continue };
                popped.push(taken);
                since.remove(&taken.0);
                for (waits, others) in &mut since {
                    others.push(taken.0);
                    let most = others.iter().map(|one| others.iter().filter(|other| *other == one).count()).max();
                    prop_assert!(most <= Some(1), "{waits} waited for {others:?}");
                }
                let left = |of: usize| pushed.iter().filter(|one| one.0 == of).count() - popped.iter().filter(|one| one.0 == of).count();
                if left(taken.0) > 0 {
                    since.insert(taken.0, Vec::new());
                }
            }
            prop_assert!(turns.is_empty() && turns.waiting.is_empty());
            for namespace in 0..5 {
                let of = |all: &[(usize, usize)]| all.iter().filter(|one| one.0 == namespace).copied().collect::<Vec<_>>();
                prop_assert_eq!(of(&popped), of(&pushed), "first in, first out");
            }
        }
    }
}
