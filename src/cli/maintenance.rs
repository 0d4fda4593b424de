//! `riverrun backup`, `restore` and `check`: a data directory as a whole.
//!
//! The subtle thing: a backup file has its name only when it is whole and on disk, and a folder is restored beside its place and
//! renamed, so that what is there under its name can be trusted.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::place::{Place, Unnamed};
use super::shell::assignments;
use crate::client::HttpClient;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, ErrorClass};
use crate::engine::maintenance;

const BACKUP_EXAMPLES: &str = "\
Examples:
  riverrun backup monday.backup --data-dir /var/lib/riverrun      (no server may be using it)
  riverrun backup monday.backup --server http://localhost:8088    (a running server's, while it goes on)
  riverrun backup - --server http://localhost:8088 | zstd > monday.backup.zst";

const RESTORE_EXAMPLES: &str = "\
Examples:
  riverrun restore monday.backup --data-dir /var/lib/riverrun
  zstd -dc monday.backup.zst | riverrun restore - --data-dir /tmp/look";

const CHECK_EXAMPLES: &str = "\
Examples:
  riverrun check --data-dir /var/lib/riverrun
  riverrun check --data-dir /var/lib/riverrun --config ksql-server.properties";

/// Stands for standard input or output.
const STANDARD: &str = "-";

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(super) struct BackupArgs {
    /// The file to write; - is standard output
    file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    overwrite: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(super) struct RestoreArgs {
    /// The file to read; - is standard input
    file: PathBuf,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(super) struct CheckArgs {
    /// Fold the command log under the properties of this file, as the server is started with it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Fold the command log under this property; may come several times
    #[arg(long, value_name = "PROPERTY=VALUE")]
    set: Vec<String>,
}

/// Copies a data directory, or that of a server, into a file.
pub(super) fn backup(place: &Place, arguments: &BackupArgs) -> Result<(), Diagnostic> {
    if arguments.file == Path::new(STANDARD) {
        let bytes = copy(place, &mut BufWriter::new(std::io::stdout().lock()))?;
        eprintln!("{bytes} bytes written");
        return Ok(());
    }
    if arguments.file.exists() && !arguments.overwrite {
        return Err(Diagnostic::user(format!("{} is there already", arguments.file.display()))
            .help("give another name, or --overwrite"));
    }
    let folder = arguments.file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |error: &std::io::Error| {
        super::system_error(&format!("Cannot write {}", arguments.file.display()), error)
            .help("give the path of a file in a folder that you may write")
    };
    let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(|error| cannot(&error))?;
    let bytes = copy(place, &mut BufWriter::new(aside.as_file_mut()))?;
    aside.as_file().sync_all().map_err(|error| cannot(&error))?;
    aside.persist(&arguments.file).map_err(|error| cannot(&error.error))?;
    eprintln!("{bytes} bytes written to {}", arguments.file.display());
    Ok(())
}

fn copy(place: &Place, out: &mut dyn Write) -> Result<u64, Diagnostic> {
    let bytes = match &place.server {
        Some(url) => HttpClient::new(url)?.backup(out)?,
        None => maintenance::backup(&place.data_dir(Unnamed::Own)?.0, out)?.bytes,
    };
    out.flush().map_err(|error| super::system_error("Cannot write the backup", &error))?;
    Ok(bytes)
}

/// Makes a data directory out of a backup.
pub(super) fn restore(place: &Place, arguments: &RestoreArgs) -> Result<(), Diagnostic> {
    let (dir, _) = local(place, "restore")?;
    let input: Box<dyn Read> = match arguments.file == Path::new(STANDARD) {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(&arguments.file).map_err(|error| {
            super::system_error(&format!("Cannot read {}", arguments.file.display()), &error)
                .help("give the path of a file of 'riverrun backup'")
        })?),
    };
    let restored = maintenance::restore(&mut BufReader::new(input), &dir)?;
    eprintln!("{} entries, {} bytes restored into {}", restored.entries, restored.bytes, dir.display());
    Ok(())
}

/// Reads a whole data directory and reports.
pub(super) fn check(place: &Place, arguments: &CheckArgs) -> Result<(), Diagnostic> {
    let (dir, _) = local(place, "check")?;
    let mut properties = match &arguments.config {
        Some(path) => crate::config::file::read(path)?,
        None => Default::default(),
    };
    properties.extend(assignments(&arguments.set)?);
    let report = maintenance::check(&dir, &Config::new(&properties)?)?;
    println!("topics             {:>12} with {} partitions", report.topics, report.partitions);
    println!("records            {:>12} in {} blocks", report.records, report.blocks);
    println!("stores             {:>12} with {} entries", report.stores, report.entries);
    println!("changelog blocks   {:>12}", report.changelog_blocks);
    println!("positions          {:>12}", report.positions);
    println!("bytes              {:>12}", report.bytes);
    println!("problems           {:>12}", report.problem_count);
    for problem in &report.problems {
        println!("  {problem}");
    }
    let more = report.problem_count - report.problems.len() as u64;
    if more > 0 {
        println!("  and {more} more");
    }
    match report.problem_count {
        0 => Ok(()),
        n => Err(Diagnostic::new(ErrorClass::Fatal, format!("{} has {n} problems", dir.display()))
            .help("restore a backup into another folder: riverrun restore FILE --data-dir DIR")),
    }
}

fn local(place: &Place, command: &str) -> Result<(PathBuf, Option<tempfile::TempDir>), Diagnostic> {
    if place.server.is_some() {
        return Err(Diagnostic::user(format!("{command} works on a data directory, not on a server"))
            .help("leave --server away; a server's data is checked by checking a backup of it after restoring that"));
    }
    place.data_dir(Unnamed::Own)
}
