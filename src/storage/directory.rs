//! The data directory: made, locked by one process, of a known format, with space left.
//!
//! Knows files, not what the database in them holds. The subtle thing: the lock is on an open file, so it goes with the
//! process however that ends, while the process id beside it is only there to be told to the next one who comes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StorageError;

/// The format this program writes. Raise it when stored bytes change so that an older program would misread them.
pub(super) const FORMAT: u32 = 1;

const LOCK_FILE: &str = "lock";
const PID_FILE: &str = "pid";
const FORMAT_FILE: &str = "format";
const DATABASE_FOLDER: &str = "db";
/// There while the database is made for the first time.
const MAKING_FILE: &str = "making";
const FORMAT_PREFIX: &str = "riverrun ";

/// A data directory that is ours while this lives.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    /// held for its lock
    _lock: File,
}

impl DataDirectory {
    /// Makes `path` if it is not there, locks it, and checks its format.
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::Format`], or [`StorageError::Io`] with the remedy.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        std::fs::create_dir_all(path).map_err(|e| unusable(path, &e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(|e| unusable(path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path)),
            Err(TryLockError::Error(e)) => return Err(unusable(path, &e)),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        std::fs::write(path.join(PID_FILE), std::process::id().to_string()).map_err(|e| unusable(path, &e))?;
        directory.check_format()?;
        Ok(directory)
    }

    /// Where the database lies.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FOLDER)
    }

    /// To be called before the database is opened; [`Self::made`] after it. A process that ended between the two left a database that does
    /// not open and that nobody was told of: it is made anew.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub(super) fn make(&self) -> Result<(), StorageError> {
        let (making, database) = (self.path.join(MAKING_FILE), self.database());
        let unusable = |e| unusable(&self.path, &e);
        if making.exists() {
            match std::fs::remove_dir_all(&database) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unusable(e)),
                _ => return Ok(()),
            }
        }
        if database.exists() {
            return Ok(());
        }
        File::create(making).and_then(|_| self.sync()).map_err(unusable)
    }

    /// Notes that the database is there. It is durable that it is no longer being made before anything is written to it.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub(super) fn made(&self) -> Result<(), StorageError> {
        match std::fs::remove_file(self.path.join(MAKING_FILE)) {
            Ok(()) => self.sync().map_err(|e| unusable(&self.path, &e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(unusable(&self.path, &e)),
        }
    }

    /// Makes the names in the folder durable.
    fn sync(&self) -> std::io::Result<()> {
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// Its name for messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Fails if fewer than `limit` bytes are free for us; 0 is never reached.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`].
    pub(super) fn check_free(&self, limit: u64) -> Result<(), StorageError> {
        match free_bytes(&self.path) {
            Some(free) if free < limit => Err(StorageError::DiskFull { dir: self.name(), free, limit }),
            _ => Ok(()),
        }
    }

    fn check_format(&self) -> Result<(), StorageError> {
        let file = self.path.join(FORMAT_FILE);
        let found = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.database().exists() => {
                return self.write_format().map_err(|e| unusable(&self.path, &e));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => "none".to_owned(),
            Err(e) => return Err(unusable(&self.path, &e)),
        };
        let number = found.trim().strip_prefix(FORMAT_PREFIX).unwrap_or_else(|| found.trim());
        if number == FORMAT.to_string() {
            return Ok(());
        }
        Err(StorageError::Format { dir: self.name(), found: number.to_owned(), expected: FORMAT })
    }

    /// Written aside and renamed, so that a crash leaves no half of it.
    fn write_format(&self) -> std::io::Result<()> {
        let aside = self.path.join(format!("{FORMAT_FILE}.new"));
        let mut file = File::create(&aside)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
        file.sync_all()?;
        std::fs::rename(&aside, self.path.join(FORMAT_FILE))?;
        self.sync()
    }
}

/// The error for a directory that cannot be used, with the remedy.
pub(super) fn unusable(path: &Path, error: &std::io::Error) -> StorageError {
    StorageError::Io {
        what: format!("cannot use the data directory {}", path.display()),
        reason: format!("{error}; make it a folder that this user may write, or name another one with --data-dir"),
    }
}

fn locked(path: &Path) -> StorageError {
    let pid = std::fs::read_to_string(path.join(PID_FILE)).ok().map(|p| p.trim().to_owned());
    StorageError::Locked {
        dir: path.display().to_string(),
        pid: pid.filter(|p| !p.is_empty()).unwrap_or_else(|| "?".to_owned()),
    }
}

/// Bytes free for this user at `path`; `None` where the system does not tell.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes free for this user at `path`; `None` where the system does not tell.
#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
