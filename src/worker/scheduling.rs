//! Tells the kernel's scheduler that a worker is a batch job, which wakes up without preempting
//! others.
//!
//! A tenant's node has more urgent work. Also, threads that hand work to each other would otherwise
//! preempt each other at every turn.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Sets the policy of this thread and of all threads that it will start. A sandbox that does not
/// allow it only costs speed.
pub fn be_a_batch_job() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    // The default nice value of a process.
    let told = ThreadPriority::from_posix(thread_priority::ScheduleParams { sched_priority: 0 });
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), told, policy) {
        tracing::debug!(?error, "the scheduler was not told that this is a batch job");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use thread_priority::thread_schedule_policy;

    #[test]
    fn a_thread_that_is_a_batch_job_starts_others_that_are_batch_jobs_too() {
        let policies = thread::spawn(|| {
            be_a_batch_job();
            (thread_schedule_policy(), thread::spawn(thread_schedule_policy).join().expect("it ends"))
        });
        let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
        assert_eq!(policies.join().expect("it ends"), (Ok(batch), Ok(batch)));
    }
}
