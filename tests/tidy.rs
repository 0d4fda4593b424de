//! The rules of the house, held by a test: import directions, lengths, module comments, module names.
//!
//! Reads the sources as text. A file that breaks a rule is named with the line; the remedy is to move the code, not the limit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 700;
const MAX_FN_LINES: usize = 70;
const FORBIDDEN_NAMES: [&str; 5] = ["util", "utils", "common", "misc", "helpers"];

/// Which rooms a room may import from `crate::`. Its own files are always allowed.
const IMPORTS: &[(&str, &[&str])] = &[
    ("diagnostic", &[]),
    ("clock", &[]),
    ("types", &[]),
    ("config", &["diagnostic"]),
    ("storage", &["clock"]),
    ("topic", &["diagnostic", "types", "clock", "storage"]),
    ("state", &["diagnostic", "types", "topic"]),
    ("format", &["diagnostic", "types"]),
    ("sql", &["diagnostic", "types"]),
    ("function", &["diagnostic", "types", "format"]),
    // `plan` and `catalog` name each other's data: a scan holds its source, a source its key window.
    ("catalog", &["diagnostic", "types", "format", "plan"]),
    ("plan", &["diagnostic", "types", "format", "function", "catalog"]),
    ("analyzer", &["diagnostic", "types", "format", "function", "sql", "catalog", "plan", "topic"]),
    ("operator", &["diagnostic", "types", "topic", "state", "function", "plan"]),
    ("runtime", &["diagnostic", "types", "clock", "topic", "state", "format", "function", "plan", "operator"]),
    (
        "engine",
        &[
            "diagnostic",
            "types",
            "clock",
            "config",
            "topic",
            "state",
            "format",
            "function",
            "sql",
            "catalog",
            "plan",
            "analyzer",
            "operator",
            "runtime",
        ],
    ),
    ("wire", &["diagnostic", "types", "engine", "config"]),
    ("client", &["diagnostic", "types", "engine", "wire", "sql", "config"]),
    ("server", &["diagnostic", "types", "engine", "wire", "config", "sql"]),
    ("shell", &["diagnostic", "types", "engine", "wire", "client", "sql", "config"]),
    (
        "sqltest",
        &[
            "diagnostic",
            "types",
            "clock",
            "config",
            "topic",
            "format",
            "sql",
            "catalog",
            "plan",
            "runtime",
            "engine",
            "analyzer",
            "function",
            "wire",
        ],
    ),
    ("datagen", &["diagnostic", "types", "format"]),
    (
        "cli",
        &[
            "datagen",
            "diagnostic",
            "types",
            "config",
            "engine",
            "wire",
            "client",
            "server",
            "shell",
            "sqltest",
            "sql",
            "topic",
            "format",
        ],
    ),
];

/// Foreign crates that only some rooms may name.
const FOREIGN: &[(&str, &[&str])] = &[
    ("sqlparser", &["sql"]),
    ("fjall", &["storage"]),
    ("rdkafka", &["topic"]),
    ("axum", &["server"]),
    ("rustyline", &["shell"]),
    ("datafusion", &["function", "analyzer", "plan", "operator", "engine", "runtime"]),
    ("reqwest", &["client", "server", "format"]),
];

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&root).expect("below src").to_owned();
                let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
                let room = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("text");
                files.push(Source { path: inside, room, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The text without comments and the insides of strings and chars, line for line.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let chars: Vec<char> = text.chars().collect();
    let mut i = 0;
    let keep_lines = |out: &mut String, from: &[char]| out.extend(from.iter().filter(|c| **c == '\n'));
    while i < chars.len() {
        let rest = &chars[i..];
        let skipped = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => {
                (2..rest.len()).find(|&j| rest[j - 1] == '*' && rest[j] == '/' && j > 2).map_or(rest.len(), |j| j + 1)
            }
            ['r', '"', ..] => (2..rest.len()).find(|&j| rest[j] == '"').map_or(rest.len(), |j| j + 1),
            ['r', '#', '"', ..] => {
                (3..rest.len() - 1).find(|&j| rest[j] == '"' && rest[j + 1] == '#').map_or(rest.len(), |j| j + 2)
            }
            ['"', ..] => string_end(rest),
            ['\'', '\\', ..] => (2..rest.len()).skip(1).find(|&j| rest[j] == '\'').map_or(rest.len(), |j| j + 1),
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if skipped == 0 {
            out.push(chars[i]);
            i += 1;
        } else {
            keep_lines(&mut out, &rest[..skipped]);
            i += skipped;
        }
    }
    out
}

fn string_end(rest: &[char]) -> usize {
    let mut j = 1;
    while j < rest.len() {
        match rest[j] {
            '\\' => j += 2,
            '"' => return j + 1,
            _ => j += 1,
        }
    }
    rest.len()
}

/// Lines before the inline tests: limits are for the product's code.
fn product(text: &str) -> &str {
    let test_module = text.match_indices("#[cfg(test)]\nmod ").find(|(i, _)| {
        let line = text[*i..].lines().nth(1).unwrap_or("");
        line.ends_with('{')
    });
    test_module.map_or(text, |(i, _)| &text[..i])
}

#[test]
fn rooms_import_downward_only() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.room != "lib" && s.room != "main") {
        let Some(rooms) = allowed.get(source.room.as_str()) else {
            wrong.push(format!("{}: room '{}' has no row in IMPORTS", source.path.display(), source.room));
            continue;
        };
        for (number, line) in blanked(product(&source.text)).lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let names: Vec<&str> = match rest.strip_prefix('{') {
                    Some(list) => list.split(',').map(str::trim).collect(),
                    None => vec![rest],
                };
                for name in names {
                    let room: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if room.is_empty()
                        || room == source.room
                        || rooms.contains(&room.as_str())
                        || room.chars().all(char::is_uppercase)
                    {
                        continue;
                    }
                    wrong.push(format!(
                        "{}:{}: {} may not import crate::{room}",
                        source.path.display(),
                        number + 1,
                        source.room
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for source in sources() {
        let text = blanked(product(&source.text));
        for (name, rooms) in FOREIGN {
            let used = text
                .lines()
                .any(|l| l.trim_start().starts_with(&format!("use {name}::")) || l.contains(&format!(" {name}::")));
            if used && !rooms.contains(&source.room.as_str()) {
                wrong.push(format!("{}: {name} belongs in {rooms:?}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = product(&source.text).lines().count();
        if lines > MAX_FILE_LINES {
            wrong.push(format!("{}: {lines} lines, more than {MAX_FILE_LINES}", source.path.display()));
        }
        if !source.text.starts_with("//!") {
            wrong.push(format!("{}: opens without //!", source.path.display()));
        }
        let name = source.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if FORBIDDEN_NAMES.contains(&name.as_str()) {
            wrong.push(format!("{}: '{name}' is no room; name it by what it holds", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn functions_fit_a_screen() {
    let mut wrong = Vec::new();
    for source in sources() {
        let text = blanked(product(&source.text));
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let words = line.trim_start();
            let is_fn = [
                "fn ",
                "pub fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "const fn ",
                "pub const fn ",
            ]
            .iter()
            .any(|p| words.starts_with(p));
            if is_fn
                && let Some(length) = body_lines(&lines[start..])
                && length > MAX_FN_LINES
            {
                wrong.push(format!(
                    "{}:{}: {length} lines, more than {MAX_FN_LINES}",
                    source.path.display(),
                    start + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Lines from a `fn` to its closing brace; `None` for a declaration without body.
fn body_lines(lines: &[&str]) -> Option<usize> {
    let (mut depth, mut opened) = (0usize, false);
    for (i, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '{' => {
                    depth += 1;
                    opened = true;
                }
                '}' => depth = depth.saturating_sub(1),
                ';' if !opened && depth == 0 => return None,
                _ => {}
            }
            if opened && depth == 0 {
                return Some(i + 1);
            }
        }
    }
    None
}

#[test]
fn paths_in_module_comments_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for source in sources() {
        for line in source.text.lines().take_while(|l| l.starts_with("//!")) {
            for word in line.split(['`', ' ', '(', ')', ',', ';']).filter(|w| w.ends_with(".rs") && w.contains('/')) {
                if !root.join(word).exists() && !root.join("src").join(word).exists() {
                    wrong.push(format!("{}: {word} does not exist", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
