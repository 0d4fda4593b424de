//! Where a command works: an engine on a data directory or on Kafka in this process, or a server.
//!
//! On Kafka the data directory holds this node's copy of state; only a server keeps it from one start to the next. The subtle thing: a folder that nobody named is printed, so that it is never a riddle where the data went; a temporary one is
//! removed when its [`Opened`] goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;

use super::door::Door;
use crate::client::{Client, EmbeddedClient, HttpClient};
use crate::config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::{Engine, EngineConfig};

/// What the program wants to do before an engine is opened on a cluster.
static BEFORE_KAFKA: OnceLock<fn()> = OnceLock::new();

/// Sets what is called before an engine is opened on a cluster; the first call counts.
pub(super) fn before_kafka(call: fn()) {
    BEFORE_KAFKA.get_or_init(|| call);
}

/// `--data-dir`, `--bootstrap-servers` and `--server`, which every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// Keep topics and state in this folder, in this process
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "server")]
    pub data_dir: Option<PathBuf>,
    /// Keep topics in the Kafka cluster of these brokers
    #[arg(long, value_name = "HOST:PORT,…", global = true, conflicts_with = "server")]
    pub bootstrap_servers: Option<String>,
    /// Read properties from this file, as ksqlDB's server does
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "server")]
    pub config: Option<PathBuf>,
    /// Talk to the server at this URL
    #[arg(long, value_name = "URL", global = true)]
    pub server: Option<String>,
}

/// Which folder a command takes when none is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// `$RIVERRUN_DATA_DIR`, else the user's data folder
    Own,
    /// one that goes when the command ends
    Temporary,
}

/// A client, and what must outlive it.
pub(super) struct Opened {
    pub(super) client: Box<dyn Client>,
    kept: Kept,
}

/// What a client needs until its end.
#[derive(Default)]
pub(super) struct Kept {
    door: Option<Door>,
    temporary: Option<tempfile::TempDir>,
}

impl Opened {
    /// Closes the client, then removes a temporary folder.
    pub(super) fn close(self) -> Result<(), Diagnostic> {
        self.client.close()?;
        drop(self.kept.door);
        match self.kept.temporary.map(tempfile::TempDir::close) {
            Some(Err(error)) => Err(super::system_error("A temporary folder cannot be removed", &error)),
            _ => Ok(()),
        }
    }

    /// The client alone; a temporary folder and the door to other nodes stay until the second part is dropped.
    pub(super) fn into_parts(self) -> (Box<dyn Client>, Kept) {
        (self.client, self.kept)
    }
}

impl Place {
    /// The file's properties, `set` over them, and the brokers.
    pub(super) fn properties(&self, set: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Diagnostic> {
        let mut properties = match &self.config {
            Some(path) => config::file::read(path)?,
            None => BTreeMap::new(),
        };
        properties.extend(set.clone());
        if let Some(brokers) = &self.bootstrap_servers {
            properties.insert(config::BOOTSTRAP_SERVERS.to_owned(), brokers.clone());
        }
        Ok(properties)
    }

    /// The data directory, and the temporary folder if it is one. One that nobody named is printed.
    pub(super) fn data_dir(&self, unnamed: Unnamed) -> Result<(PathBuf, Option<tempfile::TempDir>), Diagnostic> {
        if let Some(named) = &self.data_dir {
            return Ok((named.clone(), None));
        }
        if unnamed == Unnamed::Temporary {
            let folder = tempfile::Builder::new().prefix("riverrun-").tempdir().map_err(|error| {
                super::system_error("A temporary folder cannot be made", &error).help("name a folder with --data-dir")
            })?;
            return Ok((folder.path().to_owned(), Some(folder)));
        }
        let own = own_data_dir()?;
        eprintln!("data directory: {}", own.display());
        Ok((own, None))
    }

    /// Opens an engine on a data directory.
    pub(super) fn engine(data_dir: &Path, properties: BTreeMap<String, String>) -> Result<Engine, Diagnostic> {
        Self::engine_with(data_dir, properties, false)
    }

    fn engine_with(data_dir: &Path, properties: BTreeMap<String, String>, manual: bool) -> Result<Engine, Diagnostic> {
        let values = config::Config::new(&properties)?;
        for name in values.without_effect() {
            tracing::warn!("property {name} has no effect here");
        }
        check_writable(data_dir)?;
        let workers = values.limit(config::WORKER_THREADS);
        if let Some(call) = BEFORE_KAFKA.get().filter(|_| brokers(&properties).is_some()) {
            call();
        }
        Engine::open(EngineConfig {
            data_dir: Some(data_dir.to_owned()),
            properties,
            workers,
            manual,
            ..EngineConfig::default()
        })
    }

    /// The client of this place. `properties` are set: for an engine of our own as the server's, at a server as the session's.
    pub(super) fn open(&self, unnamed: Unnamed, properties: &BTreeMap<String, String>) -> Result<Opened, Diagnostic> {
        self.open_with(unnamed, properties, false)
    }

    /// The client of this place for records alone: on Kafka the service's queries do not run in this process.
    pub(super) fn open_for_records(&self) -> Result<Opened, Diagnostic> {
        self.open_with(Unnamed::Own, &BTreeMap::new(), true)
    }

    fn open_with(
        &self,
        unnamed: Unnamed,
        properties: &BTreeMap<String, String>,
        records: bool,
    ) -> Result<Opened, Diagnostic> {
        if let Some(url) = &self.server {
            let mut client = HttpClient::new(url)?;
            client.info()?;
            for (name, value) in properties {
                client.set(name, value)?;
            }
            return Ok(Opened { client: Box::new(client), kept: Kept::default() });
        }
        let mut properties = self.properties(properties)?;
        if let Some(brokers) = brokers(&properties).map(str::to_owned) {
            let (dir, temporary) = self.data_dir(Unnamed::Temporary)?;
            let mut door = if records { None } else { Some(Door::open(&mut properties)?) };
            let engine = Self::engine_with(&dir, properties.clone(), records)?;
            if let Some(door) = &mut door {
                door.serve(&engine, &properties)?;
            }
            let client = Box::new(EmbeddedClient::new(engine, format!("Kafka at {brokers}")));
            return Ok(Opened { client, kept: Kept { door, temporary } });
        }
        let (dir, temporary) = self.data_dir(unnamed)?;
        let engine = Self::engine(&dir, properties)?;
        let client = Box::new(EmbeddedClient::new(engine, dir.display().to_string()));
        Ok(Opened { client, kept: Kept { door: None, temporary } })
    }
}

/// The brokers that properties name.
pub(super) fn brokers(properties: &BTreeMap<String, String>) -> Option<&str> {
    let named =
        properties.iter().find(|(name, _)| config::canonical(name).is_ok_and(|n| n == config::BOOTSTRAP_SERVERS));
    named.map(|(_, brokers)| brokers.as_str()).filter(|brokers| !brokers.is_empty())
}

/// `$RIVERRUN_DATA_DIR`, else the user's data folder.
fn own_data_dir() -> Result<PathBuf, Diagnostic> {
    if let Some(dir) = std::env::var_os("RIVERRUN_DATA_DIR").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    directories::ProjectDirs::from("", "", "riverrun").map(|dirs| dirs.data_dir().to_owned()).ok_or_else(|| {
        Diagnostic::user("This user has no home folder to keep data in")
            .help("name a folder with --data-dir or RIVERRUN_DATA_DIR")
    })
}

/// Where the shell remembers its lines.
pub(super) fn history_file() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "riverrun").map(|dirs| dirs.data_dir().join("history"))
}

/// Says at once, and with its remedy, that a folder cannot be written.
fn check_writable(dir: &Path) -> Result<(), Diagnostic> {
    let cannot = |error: &std::io::Error| {
        Diagnostic::new(ErrorClass::Fatal, format!("The data directory {} cannot be written: {error}", dir.display()))
            .help("make it writable, or name another folder with --data-dir")
    };
    std::fs::create_dir_all(dir).map_err(|error| cannot(&error))?;
    tempfile::Builder::new().prefix(".writable-").tempfile_in(dir).map(drop).map_err(|error| cannot(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = check_writable(&file).unwrap_err();
        assert!(error.message.contains("cannot be written"), "{error}");
        assert!(error.help.unwrap().contains("--data-dir"));
        assert!(check_writable(&folder.path().join("new/one")).is_ok());
    }

    #[test]
    fn temporary_folders_go() {
        let (path, folder) = Place::default().data_dir(Unnamed::Temporary).unwrap();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
