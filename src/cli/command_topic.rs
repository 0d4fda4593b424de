//! `riverrun command-topic`: what a service declared, into a file and back.
//!
//! On a data directory or on Kafka; no query runs meanwhile. The subtle thing: data are not in the file; topics and consumer groups are
//! where they were, so a service goes on where it stood if they still are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::place::{Place, Unnamed, brokers};
use super::shell::assignments;
use crate::diagnostic::Diagnostic;
use crate::engine::EngineConfig;
use crate::engine::command_backup::{CommandTopic, CommandsCopied};

const EXAMPLES: &str = "\
Examples:
  riverrun command-topic backup commands.jsonl --bootstrap-servers kafka:9092 --service-id orders_
  riverrun command-topic restore commands.jsonl --bootstrap-servers kafka:9092 --service-id orders_
  riverrun command-topic restore commands.jsonl --replace --data-dir /var/lib/riverrun   (no node may be running)";

/// Arguments of `command-topic`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CommandTopicArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The service whose commands they are [default: default_]
    #[arg(long, value_name = "ID", global = true)]
    service_id: Option<String>,
    /// Set a property over the file's; may come several times
    #[arg(long, value_name = "PROPERTY=VALUE", global = true)]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the commands of a service to a file
    Backup {
        /// The file to write; it must not be there yet
        file: PathBuf,
    },
    /// Put the commands of a file into the service's empty command topic
    Restore {
        /// The file to read
        file: PathBuf,
        /// Put them in the place of those that are there
        #[arg(long)]
        replace: bool,
    },
}

/// Copies the command topic.
pub(super) fn command_topic(place: &Place, arguments: &CommandTopicArgs) -> Result<(), Diagnostic> {
    if place.server.is_some() {
        return Err(Diagnostic::user("The command topic is copied where it is, not through a server")
            .help("give --bootstrap-servers or --data-dir"));
    }
    let mut properties = place.properties(&assignments(&arguments.set)?)?;
    if let Some(id) = &arguments.service_id {
        properties.insert(crate::config::SERVICE_ID.to_owned(), id.clone());
    }
    // A node that runs may go on while its commands are copied from Kafka: they are read, not its folder.
    let unnamed = if brokers(&properties).is_some() { Unnamed::Temporary } else { Unnamed::Own };
    let (dir, _temporary) = match unnamed {
        Unnamed::Temporary => Place::default().data_dir(unnamed)?,
        Unnamed::Own => place.data_dir(unnamed)?,
    };
    let topic = open(dir, properties)?;
    match &arguments.verb {
        Verb::Backup { file } => backup(&topic, file),
        Verb::Restore { file, replace } => {
            let input = File::open(file).map_err(|error| {
                super::system_error(&format!("Cannot read {}", file.display()), &error)
                    .help("give the path of a file of 'riverrun command-topic backup'")
            })?;
            let copied = topic.restore(&mut BufReader::new(input), *replace)?;
            told("restored", &copied);
            Ok(())
        }
    }
}

fn open(dir: PathBuf, properties: BTreeMap<String, String>) -> Result<CommandTopic, Diagnostic> {
    CommandTopic::open(&EngineConfig { data_dir: Some(dir), properties, ..EngineConfig::default() })
}

fn backup(topic: &CommandTopic, file: &Path) -> Result<(), Diagnostic> {
    let cannot = |error: &std::io::Error| {
        super::system_error(&format!("Cannot write {}", file.display()), error)
            .help("give the path of a file that is not there yet, in a folder that you may write")
    };
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(|error| cannot(&error))?;
    let copied = topic.backup(&mut BufWriter::new(aside.as_file_mut()))?;
    aside.as_file().sync_all().map_err(|error| cannot(&error))?;
    aside.persist_noclobber(file).map_err(|error| cannot(&error.error))?;
    told("written", &copied);
    Ok(())
}

fn told(verb: &str, copied: &CommandsCopied) {
    eprintln!("{} entries {verb}", copied.entries);
    copied.left_out.iter().for_each(|reason| eprintln!("left out: {reason}"));
    copied.void.iter().for_each(|reason| eprintln!("does not apply: {reason}"));
}
