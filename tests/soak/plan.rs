//! What users do and what is disturbed, in which order and how far apart: a function of the seed. Pure.

use super::dice::Dice;
use std::fmt;
use std::time::Duration;

/// What a user of a tenant does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Changes, makes and deletes objects.
    Change,
    /// A capture of the whole tenant.
    Capture,
    /// The same capture twice at once; the second may ask to be refused.
    Duplicate,
    /// A capture that is cancelled after so many milliseconds.
    Cancel(u64),
    /// Deletes one of the runs that this user has made, in whatever state.
    DeleteRun,
    /// A preview, its restore and perhaps its undo.
    Restore { undo: bool },
    /// A restore without a preview.
    RestoreAtOnce,
    /// A run of the schedule, now.
    RunNow,
    /// Maintenance that waits for nothing.
    Maintain,
    /// A check.
    Check,
    /// A rehearsal.
    Rehearse,
    /// Deletes a backup set.
    DeleteSet,
}

/// The next act, and how long the user waits before it. `pace` stretches the waits: 1 for a machine that bears all.
pub fn act(dice: &mut Dice, pace: u64) -> (Duration, Act) {
    let pause = Duration::from_millis(dice.between(20_000, 90_000) * pace);
    let cancel = Act::Cancel(dice.between(0, 8_000));
    let restore = Act::Restore { undo: dice.between(0, 1) == 1 };
    let acts = [
        (30, Act::Change),
        (14, Act::Capture),
        (10, Act::Duplicate),
        (8, cancel),
        (6, Act::DeleteRun),
        (16, restore),
        (6, Act::RestoreAtOnce),
        (6, Act::RunNow),
        (4, Act::Maintain),
        (3, Act::Check),
        (3, Act::Rehearse),
        (4, Act::DeleteSet),
    ];
    (pause, dice.weighted(&acts).unwrap_or(Act::Change))
}

/// Parts of the whole that are disturbed independently of each other.
pub const PARTS: [&str; 5] = ["operator", "workers", "stopped workers", "API server", "store"];

/// What happens to a process. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The leader is killed.
    LeaderKilled,
    /// Both replicas are killed.
    ReplicasKilled,
    /// The leader stands still.
    LeaderStopped(u64),
    /// The leader's pod is deleted, which ends it by SIGTERM.
    LeaderDeleted,
    /// The processes of a working pod are killed.
    WorkerKilled,
    /// The processes of a working pod stand still.
    WorkerStopped(u64),
    /// A working pod is deleted.
    WorkerDeleted,
    /// The API server is killed, and away for so long.
    ApiServerKilled(u64),
    /// The API server stands still.
    ApiServerStopped(u64),
    /// etcd is killed, and away for so long.
    EtcdKilled(u64),
    /// The store is killed, and away for so long.
    StoreKilled(u64),
    /// The store closes every connection.
    StoreRefuses(u64),
    /// The store takes requests and does not answer.
    StoreSilent(u64),
    /// The store delays each piece of an answer by the second number.
    StoreSlow(u64, u64),
}

impl Disturbance {
    /// Its kind, as it is counted.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed",
            Self::ReplicasKilled => "both replicas killed",
            Self::LeaderStopped(_) => "leader stopped",
            Self::LeaderDeleted => "leader's pod deleted",
            Self::WorkerKilled => "worker killed",
            Self::WorkerStopped(_) => "worker stopped",
            Self::WorkerDeleted => "worker's pod deleted",
            Self::ApiServerKilled(_) => "API server killed",
            Self::ApiServerStopped(_) => "API server stopped",
            Self::EtcdKilled(_) => "etcd killed",
            Self::StoreKilled(_) => "store killed",
            Self::StoreRefuses(_) => "store refuses",
            Self::StoreSilent(_) => "store silent",
            Self::StoreSlow(..) => "store slow",
        }
    }

    /// Disturbances of the same part are not under way at once: one would undo the other.
    pub const fn part(self) -> &'static str {
        match self {
            Self::LeaderKilled | Self::ReplicasKilled | Self::LeaderStopped(_) | Self::LeaderDeleted => "operator",
            Self::WorkerKilled | Self::WorkerDeleted => "workers",
            Self::WorkerStopped(_) => "stopped workers",
            Self::ApiServerKilled(_) | Self::ApiServerStopped(_) | Self::EtcdKilled(_) => "API server",
            Self::StoreKilled(_) | Self::StoreRefuses(_) | Self::StoreSilent(_) | Self::StoreSlow(..) => "store",
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::StoreSlow(time, delay) => write!(f, " for {time} ms, {delay} ms a piece"),
            Self::LeaderStopped(time)
            | Self::WorkerStopped(time)
            | Self::ApiServerKilled(time)
            | Self::ApiServerStopped(time)
            | Self::EtcdKilled(time)
            | Self::StoreKilled(time)
            | Self::StoreRefuses(time)
            | Self::StoreSilent(time) => write!(f, " for {time} ms"),
            _ => Ok(()),
        }
    }
}

/// The next disturbance, and the time before it.
pub fn disturbance(dice: &mut Dice) -> (Duration, Disturbance) {
    let pause = Duration::from_millis(dice.between(3_000, 20_000));
    let mut time = |least, most| dice.between(least, most);
    let all = [
        (6, Disturbance::LeaderKilled),
        (2, Disturbance::ReplicasKilled),
        // A Lease lasts 15 s.
        (4, Disturbance::LeaderStopped(time(18_000, 35_000))),
        (3, Disturbance::LeaderDeleted),
        (34, Disturbance::WorkerKilled),
        // The Lease of a worker lasts a minute.
        (5, Disturbance::WorkerStopped(time(45_000, 90_000))),
        (10, Disturbance::WorkerDeleted),
        (4, Disturbance::ApiServerKilled(time(0, 10_000))),
        (3, Disturbance::ApiServerStopped(time(3_000, 20_000))),
        (2, Disturbance::EtcdKilled(time(0, 8_000))),
        (6, Disturbance::StoreKilled(time(500, 15_000))),
        (4, Disturbance::StoreRefuses(time(2_000, 20_000))),
        (3, Disturbance::StoreSilent(time(5_000, 45_000))),
        (5, Disturbance::StoreSlow(time(10_000, 40_000), time(50, 1_500))),
    ];
    (pause, dice.weighted(&all).unwrap_or(Disturbance::WorkerKilled))
}
