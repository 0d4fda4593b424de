//! Commands of the shell itself, which are no SQL: one table, from which help and recognition are made.
//!
//! A command may go without `;` and is taken in any case. What it does is a function of its row; nothing else knows its name.

use std::path::{Path, PathBuf};

use super::editor::LineEditor;
use super::layout::Overflow;
use super::{Output, Shell};
use crate::client::HttpClient;
use crate::diagnostic::Diagnostic;
use crate::wire::VERSION;

/// Whether the shell goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// reads the next line
    Continue,
    /// ends
    Exit,
}

type Run = fn(&mut Shell, &[String], &LineEditor) -> Result<After, Diagnostic>;

/// One command.
pub struct Command {
    /// its words, lower case
    pub words: &'static str,
    /// its arguments, for help
    pub arguments: &'static str,
    /// least and most arguments
    pub count: (usize, usize),
    /// one sentence
    pub help: &'static str,
    /// what it does
    pub run: Run,
}

/// All commands.
pub const COMMANDS: &[Command] = &[
    Command { words: "help", arguments: "", count: (0, 0), help: "Shows this help", run: help },
    Command { words: "clear", arguments: "", count: (0, 0), help: "Clears the screen", run: clear },
    Command {
        words: "output",
        arguments: "[TABULAR|JSON]",
        count: (0, 1),
        help: "Shows or sets how results are written",
        run: output,
    },
    Command { words: "history", arguments: "", count: (0, 0), help: "Shows the lines entered so far", run: history },
    Command { words: "version", arguments: "", count: (0, 0), help: "Shows the version", run: version },
    Command {
        words: "run script",
        arguments: "'file'",
        count: (1, 1),
        help: "Executes the statements of a file",
        run: run_script,
    },
    Command {
        words: "server",
        arguments: "[URL]",
        count: (0, 1),
        help: "Shows what the shell is connected to, or connects to a server",
        run: server,
    },
    Command {
        words: "spool",
        arguments: "'file'|OFF",
        count: (1, 1),
        help: "Copies all input and output to a file",
        run: spool,
    },
    Command {
        words: "set cli",
        arguments: "WRAP ON|OFF, COLUMN-WIDTH n",
        count: (2, 2),
        help: "Sets how long values are shown, and the width of columns (0: by the terminal)",
        run: set_cli,
    },
    Command { words: "exit", arguments: "", count: (0, 0), help: "Ends the shell", run: exit },
    Command { words: "quit", arguments: "", count: (0, 0), help: "Ends the shell", run: exit },
];

/// The command a line is, with its arguments; `None` for SQL.
pub fn find(line: &str) -> Option<(&'static Command, Vec<String>)> {
    let words = split_words(line.trim().trim_end_matches(';'));
    COMMANDS.iter().find_map(|command| {
        let names: Vec<&str> = command.words.split(' ').collect();
        let named = words.len() >= names.len() && names.iter().zip(&words).all(|(n, w)| n.eq_ignore_ascii_case(w));
        named.then(|| (checked(command, words.len() - names.len()), words[names.len()..].to_vec()))
    })
}

/// The command, or the one that says that the number of arguments is wrong.
fn checked(command: &'static Command, count: usize) -> &'static Command {
    const TOO_FEW: &Command = &Command { words: "", arguments: "", count: (0, 0), help: "", run: too_few };
    const TOO_MANY: &Command = &Command { words: "", arguments: "", count: (0, 0), help: "", run: too_many };
    match count {
        n if n < command.count.0 => TOO_FEW,
        n if n > command.count.1 => TOO_MANY,
        _ => command,
    }
}

/// Words, with quotes around those that have blanks.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match rest[first.len_utf8()..].find(first).filter(|_| first == '\'') {
            Some(end) => (&rest[1..=end], &rest[end + 2..]),
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

fn too_few(_: &mut Shell, _: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    Err(Diagnostic::user("Too few parameters").help("'help' lists the commands"))
}

fn too_many(_: &mut Shell, _: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    Err(Diagnostic::user("Too many parameters").help("'help' lists the commands"))
}

fn help(_: &mut Shell, _: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    println!("Statements end with ';' and may go over several lines; Tab completes, Ctrl-R searches the history,");
    println!("Ctrl-C ends a running query, Ctrl-D ends the shell. Commands of the shell:\n");
    for command in COMMANDS {
        println!("  {:34} {}", format!("{} {}", command.words, command.arguments), command.help);
    }
    Ok(After::Continue)
}

fn clear(_: &mut Shell, _: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    print!("\x1b[H\x1b[2J");
    Ok(After::Continue)
}

fn output(shell: &mut Shell, arguments: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    let Some(format) = arguments.first() else {
        println!("Current output format: {}", shell.output.name());
        return Ok(After::Continue);
    };
    shell.output = match format.to_ascii_uppercase().as_str() {
        "JSON" => Output::Json,
        "TABULAR" | "TABLE" => Output::Table,
        _ => {
            return Err(Diagnostic::user(format!(
                "Invalid output format: '{format}' (valid formats: 'JSON', 'TABULAR')"
            )));
        }
    };
    println!("Output format set to {}", shell.output.name());
    Ok(After::Continue)
}

fn history(_: &mut Shell, _: &[String], editor: &LineEditor) -> Result<After, Diagnostic> {
    for (i, line) in editor.history().enumerate() {
        println!("{:4}: {line}", i + 1);
    }
    Ok(After::Continue)
}

fn version(_: &mut Shell, _: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    println!("Version: {VERSION}");
    Ok(After::Continue)
}

fn run_script(shell: &mut Shell, arguments: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    let path = arguments.first().map(String::as_str).unwrap_or_default();
    // What is wrong in the script has been shown.
    let _ = shell.execute(&format!("RUN SCRIPT '{}';", path.replace('\'', "''")));
    Ok(After::Continue)
}

fn server(shell: &mut Shell, arguments: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    if let Some(url) = arguments.first() {
        let mut client = HttpClient::new(url)?;
        crate::client::Client::info(&mut client)?;
        let before = std::mem::replace(&mut shell.client, Box::new(client));
        before.close()?;
    }
    let info = shell.client.info()?;
    println!("Server: {} (version {}, service {})", info.location, info.version, info.service_id);
    Ok(After::Continue)
}

fn spool(shell: &mut Shell, arguments: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    let target = arguments.first().map(String::as_str).unwrap_or_default();
    if target.eq_ignore_ascii_case("OFF") {
        let message = if shell.spool.take().is_some() { "Spooling stopped" } else { "No session is being spooled" };
        println!("{message}");
        return Ok(After::Continue);
    }
    if let Some((path, _)) = &shell.spool {
        return Err(Diagnostic::user(format!("The session is already spooled to {}", path.display()))
            .help("SPOOL OFF ends that"));
    }
    let path = PathBuf::from(target);
    let file = open_spool(&path)?;
    println!("Session will be spooled to {}\nEnter SPOOL OFF to disable", path.display());
    shell.spool = Some((path, file));
    Ok(After::Continue)
}

fn open_spool(path: &Path) -> Result<std::fs::File, Diagnostic> {
    std::fs::File::create(path).map_err(|error| Diagnostic::user(format!("Cannot write {}: {error}", path.display())))
}

fn set_cli(shell: &mut Shell, arguments: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    let [name, value] = arguments else { return Ok(After::Continue) };
    let wrong = || Diagnostic::user(format!("Invalid value '{value}' for {name}"));
    match name.to_ascii_uppercase().as_str() {
        "WRAP" => {
            shell.layout.overflow = match value.to_ascii_uppercase().as_str() {
                "ON" => Overflow::Wrap,
                "OFF" => Overflow::Clip,
                _ => return Err(wrong().help("use ON or OFF")),
            };
        }
        "COLUMN-WIDTH" => {
            let width: usize = value.parse().map_err(|_| wrong().help("use a number of columns, 0 for none"))?;
            shell.layout.column_width = Some(width).filter(|width| *width > 0);
        }
        _ => {
            return Err(Diagnostic::user(format!(
                "Undefined property: {name}. Valid properties are: [COLUMN-WIDTH, WRAP]"
            )));
        }
    }
    Ok(After::Continue)
}

fn exit(_: &mut Shell, _: &[String], _: &LineEditor) -> Result<After, Diagnostic> {
    Ok(After::Exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<(&'static str, Vec<String>)> {
        find(line).map(|(command, arguments)| (command.words, arguments))
    }

    #[test]
    fn commands_are_found_in_any_case_with_or_without_their_end() {
        assert_eq!(found(" EXIT; "), Some(("exit", vec![])));
        assert_eq!(found("Run Script 'a b.sql';"), Some(("run script", vec!["a b.sql".into()])));
        assert_eq!(found("set cli wrap off"), Some(("set cli", vec!["wrap".into(), "off".into()])));
        assert_eq!(found("SET 'a'='b';"), None);
        assert_eq!(found("SELECT 1;"), None);
    }

    #[test]
    fn wrong_counts_are_told() {
        assert_eq!(found("spool"), Some(("", vec![])));
        assert_eq!(found("exit now"), Some(("", vec!["now".into()])));
    }

    #[test]
    fn the_table_is_fit_for_help() {
        for command in COMMANDS {
            assert_eq!(command.words, command.words.to_lowercase());
            assert!(command.count.0 <= command.count.1 && !command.help.is_empty());
        }
    }
}
