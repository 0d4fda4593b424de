//! From paths to tests: `.sql` test files and `.jsonl` query cases, folders recursively and in order of name.
//!
//! Runs nothing. The subtle thing: a file that cannot be read as tests is itself a failed test, so that the others still run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::case::QueryCase;
use super::failure::Failure;
use super::mode::Mode;
use super::script::{self, ScriptTest};
use super::{query_case, script_run};
use crate::diagnostic::Diagnostic;

/// A test and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Test {
    /// its name
    pub name: String,
    /// its file
    pub file: Arc<Path>,
    /// from 1
    pub line: usize,
    /// it must be refused
    pub refusal: bool,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Script(ScriptTest),
    Query(Box<QueryCase>),
    Broken(Failure),
}

/// What was found.
#[derive(Default)]
pub(super) struct Loaded {
    /// tests in order
    pub tests: Vec<Test>,
    /// cases that only the HTTP API can run
    pub rest_cases: usize,
}

impl Test {
    /// Runs it.
    ///
    /// # Errors
    /// Why it failed.
    pub fn run(&self, mode: &Mode, seed: u64) -> Result<(), Failure> {
        match &self.body {
            Body::Script(test) => script_run::run(test, mode, seed),
            Body::Query(case) => query_case::run(case, mode, seed),
            Body::Broken(failure) => Err(failure.clone()),
        }
    }
}

/// Loads all tests of the paths.
///
/// # Errors
/// A path that is not there, cannot be read, or is a file of another kind.
pub(super) fn load(paths: &[PathBuf]) -> Result<Loaded, Diagnostic> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() && kind(path).is_none() && path.exists() {
            let error = Diagnostic::user(format!("{} is no test file", path.display()));
            return Err(error.help("test files end in .sql or .jsonl"));
        }
        collect(path, &mut files)?;
    }
    let mut loaded = Loaded::default();
    for file in files {
        load_file(&file, &mut loaded)?;
    }
    Ok(loaded)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sql,
    Lines,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "sql" => Some(Kind::Sql),
        "jsonl" => Some(Kind::Lines),
        _ => None,
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::user(format!("cannot read {}: {error}", path.display())).help("give test files or folders of them")
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Diagnostic> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries: Vec<PathBuf> =
        entries.map_err(|e| unreadable(path, &e))?.iter().map(std::fs::DirEntry::path).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else if kind(&entry).is_some() {
            files.push(entry);
        }
    }
    Ok(())
}

fn load_file(path: &Path, loaded: &mut Loaded) -> Result<(), Diagnostic> {
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    let file: Arc<Path> = Arc::from(path);
    if kind(path) == Some(Kind::Lines) {
        load_lines(&text, &file, loaded);
        return Ok(());
    }
    match script::tests(&text, path) {
        Ok(tests) => loaded.tests.extend(tests.into_iter().map(|test| Test {
            name: format!("{}/{}", stem(path), test.name),
            file: file.clone(),
            line: test.line,
            refusal: script_run::expects_error(&test),
            body: Body::Script(test),
        })),
        Err(error) => loaded.tests.push(broken(stem(path), &file, 1, Failure::of("the file cannot be read", &error))),
    }
    Ok(())
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or(String::new(), |s| s.to_string_lossy().into_owned())
}

fn broken(name: String, file: &Arc<Path>, line: usize, failure: Failure) -> Test {
    Test { name, file: file.clone(), line, refusal: false, body: Body::Broken(failure) }
}

fn load_lines(text: &str, file: &Arc<Path>, loaded: &mut Loaded) {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        match QueryCase::parse(line) {
            Ok(case) if case.responses.is_some() || is_rest(file) => loaded.rest_cases += 1,
            Ok(case) => loaded.tests.push(Test {
                name: case.name.clone(),
                file: file.clone(),
                line: number,
                refusal: case.is_refusal(),
                body: Body::Query(Box::new(case)),
            }),
            Err(error) => {
                let name = format!("{}/line {number}", stem(file));
                loaded.tests.push(broken(name, file, number, Failure::new(format!("the line is no case: {error}"))));
            }
        }
    }
}

/// True for files of the folder whose cases go over the HTTP API.
fn is_rest(file: &Path) -> bool {
    file.parent().and_then(Path::file_name).is_some_and(|folder| folder == "rest")
}
