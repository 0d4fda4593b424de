//! The thread that makes commits survive a power cut: it syncs the journal now and then, off the commit path.
//!
//! Opens the journal file by itself, because fjall's own sync holds the lock that commits need. The subtle thing: a
//! journal that was sealed meanwhile was synced by whoever sealed it, so the newest one is the only one to sync.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::fault::{Fault, FaultHook, Write};
use super::{Poison, StorageError};

/// What is synced, by whom it may be asked.
pub(super) struct JournalSync {
    folder: PathBuf,
    fault: Option<FaultHook>,
    poison: Arc<Poison>,
    /// something was committed since the last sync
    unsynced: AtomicBool,
    /// the journal synced last; kept open, so that an error of an earlier write-back is reported to us
    newest: Mutex<Option<(u64, File)>>,
}

impl JournalSync {
    /// For the journals in `folder`.
    pub(super) fn new(folder: PathBuf, fault: Option<FaultHook>, poison: Arc<Poison>) -> Self {
        Self { folder, fault, poison, unsynced: AtomicBool::new(false), newest: Mutex::new(None) }
    }

    /// Notes that there is something to sync.
    pub(super) fn touch(&self) {
        self.unsynced.store(true, Ordering::Release);
    }

    /// Forgets the open file, for the journals are about to be opened anew.
    pub(super) fn forget(&self) {
        *self.newest.lock() = None;
        self.touch();
    }

    /// Returns when everything committed before the call is on disk.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`], now and from then on, if the disk says no.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.poison.check()?;
        let mut newest = self.newest.lock();
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let fault = self.fault.as_ref().and_then(|hook| hook(Write::Sync));
        let outcome = match fault {
            Some(Fault::Before | Fault::After) => Err(std::io::Error::other("injected fault")),
            None => self.sync_newest(&mut newest),
        };
        outcome.map_err(|e| self.poison.set(format!("syncing the journal in {}: {e}", self.folder.display())))
    }

    fn sync_newest(&self, newest: &mut Option<(u64, File)>) -> std::io::Result<()> {
        // A journal may be sealed and removed between listing and opening; then there is a newer one.
        for _ in 0..10 {
            let Some((number, path)) = newest_journal(&self.folder)? else { return Ok(()) };
            if newest.as_ref().is_none_or(|(open, _)| *open != number) {
                match OpenOptions::new().append(true).open(path) {
                    Ok(file) => *newest = Some((number, file)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e),
                }
            }
            return newest.as_ref().map_or(Ok(()), |(_, file)| file.sync_data());
        }
        Err(std::io::Error::other("the journal is replaced faster than it can be synced"))
    }
}

fn newest_journal(folder: &Path) -> std::io::Result<Option<(u64, PathBuf)>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "jnl") {
            continue;
        }
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
        if let Some(number) = number.filter(|n| newest.as_ref().is_none_or(|(m, _)| n > m)) {
            newest = Some((number, path));
        }
    }
    Ok(newest)
}

/// The thread; it ends when this is dropped.
pub(super) struct Syncer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Syncs `journal` every `interval`.
    ///
    /// # Errors
    /// [`StorageError::Io`] if the system gives no thread.
    pub(super) fn start(journal: Arc<JournalSync>, interval: Duration) -> Result<Self, StorageError> {
        let (stop, stopped) = channel::<()>();
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                // An error has poisoned the storage already, and the next commit will say so.
                if let Err(error) = journal.sync() {
                    tracing::debug!(%error, "journal not synced");
                }
            }
        };
        let thread = std::thread::Builder::new().name("journal-sync".into()).spawn(run).map_err(|e| {
            StorageError::Io { what: "starting the thread that syncs the journal".into(), reason: e.to_string() }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}
