//! Runs tests on a few threads, each with its own engine; one that does not end is given up.
//!
//! Knows nothing of what a test is. The subtle thing: a thread that hangs cannot be stopped, so it is left behind and replaced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::{Failure, guarded};

/// Plans of long statements are deep; in builds without optimization a frame is large.
const STACK_BYTES: usize = 32 << 20;

/// How often the threads are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

struct Shared<T> {
    items: Vec<T>,
    next: AtomicUsize,
    /// thread → item and when it began
    running: Mutex<BTreeMap<usize, (usize, Instant)>>,
}

type Run<T> = fn(&T) -> Result<(), Failure>;

/// Runs all `items` on `threads` threads; gives results in the order of the items. One that takes longer than `limit` has failed.
pub(super) fn run<T: Send + Sync + 'static>(
    items: Vec<T>,
    threads: usize,
    limit: Duration,
    run: Run<T>,
) -> Vec<Result<(), Failure>> {
    let count = items.len();
    let shared = Arc::new(Shared { items, next: AtomicUsize::new(0), running: Mutex::default() });
    let (sender, results) = mpsc::channel();
    let mut threads_made = 0;
    let mut start = || {
        spawn(threads_made, &shared, &sender, run);
        threads_made += 1;
    };
    (0..threads.clamp(1, count.max(1))).for_each(|_| start());
    let mut done: Vec<Option<Result<(), Failure>>> = (0..count).map(|_| None).collect();
    while done.iter().any(Option::is_none) {
        match results.recv_timeout(LOOK_EVERY) {
            Ok((item, result)) => {
                // one that was given up may still end
                let place: &mut Option<_> = &mut done[item];
                place.get_or_insert(result);
            }
            Err(RecvTimeoutError::Timeout) => {
                for item in overdue(&shared, limit) {
                    done[item].get_or_insert(Err(Failure::new(format!("did not end within {} s", limit.as_secs()))));
                    start();
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let lost = || Err(Failure::new("its thread could not be started"));
    done.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

fn spawn<T: Send + Sync + 'static>(
    number: usize,
    shared: &Arc<Shared<T>>,
    sender: &Sender<(usize, Result<(), Failure>)>,
    run: Run<T>,
) {
    let (shared, sender) = (shared.clone(), sender.clone());
    let work = move || {
        loop {
            let item = shared.next.fetch_add(1, Ordering::SeqCst);
            let Some(test) = shared.items.get(item) else { return };
            shared.running().insert(number, (item, Instant::now()));
            let result = guarded(|| run(test));
            let given_up = shared.running().remove(&number).is_none();
            if sender.send((item, result)).is_err() || given_up {
                return;
            }
        }
    };
    // if no thread can be had, the others go on; if none can, `run` sees that nobody sends
    let _ = std::thread::Builder::new().name(format!("test-{number}")).stack_size(STACK_BYTES).spawn(work);
}

fn overdue<T>(shared: &Shared<T>, limit: Duration) -> Vec<usize> {
    let mut running = shared.running();
    let late: Vec<(usize, usize)> = running
        .iter()
        .filter(|(_, (_, began))| began.elapsed() > limit)
        .map(|(thread, (item, _))| (*thread, *item))
        .collect();
    late.into_iter()
        .map(|(thread, item)| {
            running.remove(&thread);
            item
        })
        .collect()
}

impl<T> Shared<T> {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, (usize, Instant)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_and_one_that_hangs_is_given_up() {
        let run_one = |n: &u64| match n {
            0 => Ok(()),
            1 => panic!("one"),
            n => {
                std::thread::park_timeout(Duration::from_secs(*n));
                Ok(())
            }
        };
        let results = run(vec![60, 1, 0], 1, Duration::from_millis(50), run_one);
        assert!(results[0].as_ref().expect_err("hangs").headline.starts_with("did not end"));
        assert!(results[1].as_ref().expect_err("panics").headline.starts_with("panicked: one"));
        assert_eq!(results[2], Ok(()));
    }
}
