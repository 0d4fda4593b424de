//! Ctrl-C while something runs: ends the query, not the shell.
//!
//! The signal's thread sets a flag and calls the canceller of the running query; nobody polls. The subtle thing: a second Ctrl-C while
//! the first is not yet obeyed ends the process, as a user of a stuck program expects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Canceller = Arc<dyn Fn() + Send + Sync>;

/// Presses without effect after which the process ends.
const PRESSES_TO_END: usize = 3;
/// Exit code of a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

#[derive(Default)]
struct Inner {
    pressed: AtomicBool,
    presses: AtomicUsize,
    running: Mutex<Option<Canceller>>,
    changed: Condvar,
}

/// Whether Ctrl-C was pressed, and what it ends.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Inner>);

impl Interrupt {
    /// Takes SIGINT over for this process.
    pub fn install() -> Self {
        Self::install_for(&[SIGINT])
    }

    /// Takes SIGINT and SIGTERM over for this process: for a program that ends by them, in order.
    pub fn install_for_ends() -> Self {
        Self::install_for(&[SIGINT, SIGTERM])
    }

    fn install_for(kinds: &[i32]) -> Self {
        let interrupt = Self::default();
        let handled = interrupt.clone();
        // Without the handler Ctrl-C ends the whole shell: worse, but no reason not to start.
        if let Ok(mut signals) = Signals::new(kinds) {
            std::thread::spawn(move || signals.forever().for_each(|_| handled.press()));
        }
        interrupt
    }

    /// What a signal does.
    pub fn press(&self) {
        self.0.pressed.store(true, Ordering::SeqCst);
        if self.0.presses.fetch_add(1, Ordering::SeqCst) + 1 >= PRESSES_TO_END {
            std::process::exit(EXIT_INTERRUPTED);
        }
        let running = self.0.running.lock().clone();
        self.0.changed.notify_all();
        if let Some(cancel) = running {
            cancel();
        }
    }

    /// Waits so long, or until Ctrl-C is pressed.
    pub fn wait(&self, time: Duration) {
        let mut running = self.0.running.lock();
        if !self.is_pressed() {
            self.0.changed.wait_for(&mut running, time);
        }
    }

    /// Forgets what was pressed before.
    pub fn clear(&self) {
        self.0.pressed.store(false, Ordering::SeqCst);
        self.0.presses.store(0, Ordering::SeqCst);
    }

    /// True if Ctrl-C was pressed since [`Self::clear`].
    pub fn is_pressed(&self) -> bool {
        self.0.pressed.load(Ordering::SeqCst)
    }

    /// Ctrl-C calls `cancel` until the returned guard is dropped.
    pub fn while_running(&self, cancel: Canceller) -> Running {
        *self.0.running.lock() = Some(cancel);
        Running(self.clone())
    }
}

/// A query that Ctrl-C ends.
pub struct Running(Interrupt);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.0.running.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_ends_what_runs_and_only_that() {
        let interrupt = Interrupt::default();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let running = interrupt.while_running(Arc::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        interrupt.press();
        drop(running);
        interrupt.press();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(interrupt.is_pressed());
        interrupt.clear();
        assert!(!interrupt.is_pressed());
    }
}
