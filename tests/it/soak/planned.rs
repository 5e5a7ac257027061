//! The plan is a function of the seed, and leaves nothing out.

use super::dice::Dice;
use super::plan::{Act, PARTS, act, disturbance};
use std::collections::BTreeSet;

#[test]
fn a_seed_repeats_its_plan_and_another_seed_or_user_has_another() {
    let plan = |seed, user| {
        let mut dice = Dice::new(seed, user);
        (0..50).map(|_| format!("{:?} {:?}", act(&mut dice, 1), disturbance(&mut dice))).collect::<Vec<_>>()
    };
    assert_eq!(plan(7, "acme"), plan(7, "acme"));
    assert_ne!(plan(7, "acme"), plan(8, "acme"));
    assert_ne!(plan(7, "acme"), plan(7, "bolt"));
}

#[test]
fn every_act_and_every_disturbance_comes() {
    let mut dice = Dice::new(1, "all");
    let word = |text: String| text.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    let acts: BTreeSet<_> = (0..2_000).map(|_| word(format!("{:?}", act(&mut dice, 1).1))).collect();
    assert_eq!(acts.len(), 12, "{acts:?}");
    let disturbances: BTreeSet<_> = (0..2_000).map(|_| disturbance(&mut dice).1.kind()).collect();
    assert_eq!(disturbances.len(), 14, "{disturbances:?}");
    let parts: BTreeSet<_> = (0..2_000).map(|_| disturbance(&mut dice).1.part()).collect();
    assert_eq!(parts, BTreeSet::from(PARTS));
}

#[test]
fn a_slower_pace_stretches_the_waits_and_changes_nothing_else() {
    let (mut one, mut other) = (Dice::new(3, "acme"), Dice::new(3, "acme"));
    for _ in 0..100 {
        let ((wait, what), (longer, same)) = (act(&mut one, 1), act(&mut other, 4));
        assert_eq!((wait * 4, what), (longer, same));
    }
}

#[test]
fn choices_stay_within_their_bounds_and_of_none_there_is_none() {
    let mut dice = Dice::new(0, "bounds");
    let seen: BTreeSet<u64> = (0..500).map(|_| dice.between(3, 5)).collect();
    assert_eq!(seen, BTreeSet::from([3, 4, 5]));
    assert_eq!(dice.one_of::<u8>(&[]), None);
    assert_eq!(dice.weighted::<Act>(&[]), None);
    assert!((0..500).all(|_| dice.weighted(&[(0, Act::Check), (1, Act::Change)]) == Some(Act::Change)));
}
