//! Waiting, so that a test can do without.

use std::time::Duration;

/// Whatever can wait.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns after this long.
    fn sleep(&self, time: Duration);
}

/// The clock of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
