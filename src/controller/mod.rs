//! Reconcilers: observe reads, decide decides (no client, no clock), act writes.
