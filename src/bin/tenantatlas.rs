//! The operator's one binary.
fn main() {}
