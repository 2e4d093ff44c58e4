//! Where a test ends or stops the process in the middle of a commit: a release build has no such place.
//!
//! `PGRING_FAIL_POINT=prepare:sent:kill` in the environment: a step (`decide`, `prepare`, `complete`, `commit`,
//! `commit-prepared`, `rollback-prepared`), a moment of it (`before`, `sent`, `after`) and what
//! happens the first time that is reached (`kill`, `stop`).

use crate::txn::commit::Work;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static REACHED: AtomicBool = AtomicBool::new(false);

/// A round's moment has come.
pub(super) fn reach(works: impl Iterator<Item = Work>, moment: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let Some(wanted) = WANTED.get_or_init(|| std::env::var("PGRING_FAIL_POINT").ok()) else { return };
    let mut parts = wanted.split(':');
    let (step, when, what) = (parts.next(), parts.next(), parts.next());
    let is_step = |work: Work| step == Some(name(work)) && when == Some(moment);
    if !works.into_iter().any(is_step) || REACHED.swap(true, Ordering::SeqCst) {
        return;
    }
    let signal = if what == Some("stop") { Signal::SIGSTOP } else { Signal::SIGKILL };
    tracing::warn!("fail point {wanted}");
    // Nobody to tell, if it cannot be: the test sees that.
    let _ = kill(Pid::this(), signal);
    // It takes a moment until all threads have stopped, and this one must not go on.
    std::thread::sleep(std::time::Duration::from_millis(200));
}

fn name(work: Work) -> &'static str {
    match work {
        Work::Decide => "decide",
        Work::Prepare => "prepare",
        Work::CommitReader | Work::CommitOne => "commit-one",
        Work::Complete => "complete",
        Work::CommitDecider => "commit",
        Work::CommitPrepared => "commit-prepared",
        Work::Rollback => "rollback",
        Work::RollbackPrepared => "rollback-prepared",
    }
}
