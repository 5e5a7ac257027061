//! The pure parts of `tests/soak`, which is a program and has no tests of its own: what is planned, and what breaks the
//! ledger.

#[path = "../../soak/dice.rs"]
mod dice;
#[path = "../../soak/ledger/mod.rs"]
mod ledger;
#[path = "../../soak/plan.rs"]
mod plan;

mod broken;
mod planned;
