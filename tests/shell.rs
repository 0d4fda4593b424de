//! The shell's executor over both kinds of client, and the program itself.
//!
//! Every scenario runs against an engine in this process and against a server, and must print the same.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output as Finished, Stdio};

use riverrun::client::{Client, EmbeddedClient, HttpClient};
use riverrun::config::Config;
use riverrun::diagnostic::Diagnostic;
use riverrun::engine::{Engine, EngineConfig};
use riverrun::server::{ServerState, serve};
use riverrun::shell::Output;
use riverrun::shell::interrupt::Interrupt;
use riverrun::shell::layout::{Layout, Overflow};
use riverrun::shell::script::{Script, ScriptMode};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const CREATE: &str =
    "CREATE STREAM s (k STRING KEY, v INT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=1);\n";

/// A client, and what it needs to live.
struct Door {
    client: Box<dyn Client>,
    server: Option<(Runtime, oneshot::Sender<()>)>,
}

fn engine() -> Engine {
    Engine::open(EngineConfig::default()).unwrap()
}

/// Both kinds of client, each over an engine of its own.
fn doors() -> [Door; 2] {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let state = ServerState::new(engine(), Config::new(&BTreeMap::new()).unwrap());
    runtime.spawn(serve(state, listener, async { _ = stopped.await }));
    let http = HttpClient::new(&url).unwrap();
    [
        Door { client: Box::new(EmbeddedClient::new(engine(), "memory")), server: None },
        Door { client: Box::new(http), server: Some((runtime, stop)) },
    ]
}

impl Door {
    fn run_as(
        &mut self,
        text: &str,
        output: Output,
        mode: ScriptMode,
        interrupt: &Interrupt,
    ) -> (String, Result<(), Diagnostic>) {
        let layout = Layout { width: 40, column_width: None, overflow: Overflow::Spill };
        let mut out = Vec::new();
        let mut script =
            Script { client: self.client.as_mut(), out: &mut out, output, layout: &layout, interrupt, mode };
        let result = script.run(text);
        (String::from_utf8(out).unwrap(), result)
    }

    fn run(&mut self, text: &str, output: Output) -> String {
        let (out, result) = self.run_as(text, output, ScriptMode::batch(), &Interrupt::default());
        result.unwrap_or_else(|error| panic!("{text}: {error}"));
        out
    }

    fn end(self) {
        self.client.close().unwrap();
        if let Some((runtime, stop)) = self.server {
            stop.send(()).unwrap();
            runtime.shutdown_background();
        }
    }
}

#[test]
fn rows_are_tables_for_people_and_lines_for_programs() {
    for mut door in doors() {
        door.run(CREATE, Output::Table);
        door.run("INSERT INTO s VALUES ('a', 1); INSERT INTO s (k) VALUES ('b');", Output::Table);
        let table = door.run("SELECT * FROM s;", Output::Table);
        let want = concat!(
            "+------------------+------------------+\n",
            "|K                 |V                 |\n",
            "+------------------+------------------+\n",
            "|a                 |1                 |\n",
            "|b                 |null              |\n",
            "Query Completed\n",
        );
        assert_eq!(table, want);
        assert_eq!(door.run("SELECT * FROM s;", Output::Json), "{\"K\":\"a\",\"V\":1}\n{\"K\":\"b\",\"V\":null}\n");
        door.end();
    }
}

#[test]
fn session_statements_hold_for_what_follows() {
    for mut door in doors() {
        door.run(CREATE, Output::Table);
        door.run("INSERT INTO s VALUES ('a', 1);", Output::Table);
        let text = "DEFINE n = '1'; SET 'auto.offset.reset'='earliest'; SELECT * FROM s EMIT CHANGES LIMIT ${n};";
        assert_eq!(door.run(text, Output::Json), "{\"K\":\"a\",\"V\":1}\n");
        let variables = door.run("SHOW VARIABLES;", Output::Json);
        assert_eq!(variables.to_lowercase(), "{\"name\":\"n\",\"value\":\"1\"}\n");
        let (_, result) =
            door.run_as("SET 'auto.ofset.reset'='x';", Output::Table, ScriptMode::batch(), &Interrupt::default());
        assert!(result.unwrap_err().to_string().contains("auto.offset.reset"));
        door.end();
    }
}

#[test]
fn errors_stop_the_text_at_the_right_line() {
    for mut door in doors() {
        let text = format!("{CREATE}SELECT * FROM s;\n\nSELECT * FROM missing;\nDROP STREAM s;");
        let (out, result) = door.run_as(&text, Output::Table, ScriptMode::batch(), &Interrupt::default());
        assert!(out.contains("Stream created") && out.contains("Query Completed"), "{out}");
        let error = result.unwrap_err().to_string();
        assert!(error.to_uppercase().contains("MISSING"), "{error}");
        assert!(door.run("SHOW STREAMS;", Output::Table).contains(" S "), "what follows the error did not run");
        door.end();
    }
}

#[test]
fn errors_in_files_name_the_line_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = in_folder(folder.path(), "f.sql", "SHOW STREAMS;\n\n-- a comment\nSHOW\nSTRAEMS;\n");
    for mut door in doors() {
        let embedded = door.server.is_none();
        let text = format!("RUN SCRIPT '{file}';");
        let (_, result) = door.run_as(&text, Output::Table, ScriptMode::batch(), &Interrupt::default());
        let error = result.unwrap_err().to_string();
        assert!(error.contains("f.sql:4: "), "the line of the statement: {error}");
        assert!(!embedded || error.contains("line 5, column 1"), "the line of the word: {error}");
        door.end();
    }
}

#[test]
fn a_push_query_without_limit_ends_when_idle() {
    for mut door in doors() {
        door.run(CREATE, Output::Table);
        door.run("INSERT INTO s VALUES ('a', 1);", Output::Table);
        let text = "SET 'auto.offset.reset'='earliest'; SELECT * FROM s EMIT CHANGES;";
        let out = door.run(text, Output::Table);
        assert!(out.contains("|a ") && out.ends_with("Query terminated\n"), "{out}");
        door.end();
    }
}

#[test]
fn ctrl_c_ends_the_query_and_not_the_shell() {
    for mut door in doors() {
        door.run(CREATE, Output::Table);
        let interrupt = Interrupt::default();
        let pressed = interrupt.clone();
        let (started, wait) = std::sync::mpsc::channel();
        let presser = std::thread::spawn(move || {
            wait.recv().unwrap();
            pressed.press();
        });
        /// Presses the key when the head of the result is there.
        struct Watch(Vec<u8>, Option<std::sync::mpsc::Sender<()>>);
        impl Write for Watch {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.extend_from_slice(bytes);
                if let Some(sender) = self.1.take() {
                    sender.send(()).unwrap();
                }
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut out = Watch(Vec::new(), Some(started));
        let layout = Layout { width: 40, column_width: None, overflow: Overflow::Spill };
        let mut script = Script {
            client: door.client.as_mut(),
            out: &mut out,
            output: Output::Table,
            layout: &layout,
            interrupt: &interrupt,
            mode: ScriptMode::interactive(),
        };
        script.run("SELECT * FROM s EMIT CHANGES;").unwrap();
        presser.join().unwrap();
        assert!(String::from_utf8(out.0).unwrap().ends_with("Query terminated\n"));
        assert!(door.run("SHOW STREAMS;", Output::Table).contains(" S "));
        door.end();
    }
}

#[test]
fn copy_moves_rows_between_files_and_sources() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("in.json"), "{\"k\":\"a\",\"v\":1}\n\n{\"K\":\"b\",\"V\":null}\n").unwrap();
    std::fs::write(path("in.csv"), "V,K\n3,\"c,\"\"d\"\"\"\n,e\n").unwrap();
    std::fs::write(path("bad.json"), "{\"k\":\"f\",\"v\":6}\n{\"k\":\"g\",\n").unwrap();
    for mut door in doors() {
        door.run(CREATE, Output::Table);
        let message = door.run(&format!("COPY s FROM '{}';", path("in.json")), Output::Table);
        assert!(message.contains("2 rows inserted into S"), "{message}");
        door.run(&format!("COPY s FROM '{}' WITH (FORMAT='DELIMITED');", path("in.csv")), Output::Table);
        let (_, result) = door.run_as(
            &format!("COPY s FROM '{}';", path("bad.json")),
            Output::Table,
            ScriptMode::batch(),
            &Interrupt::default(),
        );
        let error = result.unwrap_err().to_string();
        assert!(error.contains("bad.json: line 2: ") && error.contains("1 rows were inserted before"), "{error}");
        door.run(&format!("COPY (SELECT * FROM s) TO '{}';", path("out.json")), Output::Table);
        let json = std::fs::read_to_string(path("out.json")).unwrap();
        assert_eq!(json.lines().next(), Some("{\"K\":\"a\",\"V\":1}"));
        assert_eq!(json.lines().count(), 5);
        door.run(&format!("COPY (SELECT * FROM s) TO '{}' WITH (FORMAT='DELIMITED');", path("out.csv")), Output::Table);
        let csv = std::fs::read_to_string(path("out.csv")).unwrap();
        assert_eq!(csv, "K,V\na,1\nb,\n\"c,\"\"d\"\"\",3\ne,\nf,6\n");
        door.end();
    }
}

#[test]
fn scripts_run_scripts_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outer.sql"), "RUN SCRIPT 'inner.sql'; SHOW STREAMS;").unwrap();
    std::fs::write(folder.path().join("inner.sql"), CREATE).unwrap();
    std::fs::write(folder.path().join("loop.sql"), "RUN SCRIPT 'loop.sql';").unwrap();
    for mut door in doors() {
        let outer = format!("RUN SCRIPT '{}';", folder.path().join("outer.sql").display());
        assert!(door.run(&outer, Output::Table).contains(" S "));
        let again = format!("RUN SCRIPT '{}';", folder.path().join("loop.sql").display());
        let (_, result) = door.run_as(&again, Output::Table, ScriptMode::batch(), &Interrupt::default());
        assert!(result.unwrap_err().message.contains("deep"));
        door.end();
    }
}

fn riverrun(arguments: &[&str], input: &str) -> Finished {
    let mut child = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it reads is one of the cases.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn in_folder(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn the_program_runs_files_and_says_success() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        in_folder(folder.path(), "a.sql", &format!("{CREATE}INSERT INTO s VALUES ('a', ${{n}});\nSELECT * FROM s;"));
    let done = riverrun(&["run", &file, "--define", "n=7", "--output", "json"], "");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout).lines().last(), Some("{\"K\":\"a\",\"V\":7}"));
    let bad = in_folder(folder.path(), "bad.sql", "SELCT 1;");
    let done = riverrun(&["run", &bad], "");
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("bad.sql:1: "), "{}", text(&done.stderr));
}

#[test]
fn the_program_says_what_stands_in_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("binary");
    std::fs::write(&binary, [0u8, 159, 146, 150]).unwrap();
    let said = |arguments: &[&str]| {
        let done = riverrun(arguments, "");
        assert_eq!(done.status.code(), Some(1), "{arguments:?}");
        text(&done.stderr)
    };
    let error = said(&["run", binary.to_str().unwrap()]);
    assert!(error.contains("is not SQL") && error.contains("Help: "), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = said(&["server", "--listen", &address, "--data-dir", folder.path().to_str().unwrap()]);
    assert!(error.contains(&address) && error.contains("--listen"), "{error}");
    let error = said(&["--data-dir", binary.to_str().unwrap(), "-e", "SHOW STREAMS;"]);
    assert!(error.contains("cannot be written") && error.contains("--data-dir"), "{error}");
    drop(taken);
    let error = said(&["--server", &address, "-e", "SHOW STREAMS;"]);
    assert!(error.contains("cannot be reached") && error.contains("riverrun server"), "{error}");
    assert_eq!(riverrun(&["--no-such-flag"], "").status.code(), Some(2));
    assert!(text(&riverrun(&["--version"], "").stdout).starts_with("riverrun "));
}

#[test]
fn the_server_program_serves_and_ends_on_sigterm() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let queries = in_folder(folder.path(), "q.sql", CREATE);
    let data = folder.path().join("data").display().to_string();
    let mut server = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args(["server", "--listen", "127.0.0.1:0", "--data-dir", &data, "--queries-file", &queries])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let url = lines
        .find_map(|line| line.unwrap().split_once("listens on ").map(|(_, url)| url.to_owned()))
        .expect("the server says where it listens");
    let produced = riverrun(&["produce", "s", "--key-separator", "=", "--server", &url], "a={\"V\":1}\nb={\"V\":2}\n");
    assert!(produced.status.success(), "{}", text(&produced.stderr));
    let consumed = riverrun(&["consume", "s", "--from-beginning", "--until-end", "--server", &url], "");
    let out = text(&consumed.stdout);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.starts_with("{\"partition\":0,\"offset\":0,\"timestamp\":") && out.contains("\"key\":\"a\""), "{out}");
    let raw = riverrun(&["consume", "s", "--from-beginning", "--max", "1", "--format", "raw", "--server", &url], "");
    assert_eq!(text(&raw.stdout), "{\"V\":1}\n");
    let missing = riverrun(&["produce", "none", "--server", &url], "x\n");
    assert!(text(&missing.stderr).contains("topic 'none' does not exist"));
    let listed = riverrun(&["--server", &url, "--output", "json"], "SHOW STREAMS;");
    assert!(text(&listed.stdout).contains("\"name\":\"S\""), "{}", text(&listed.stdout));
    // The child is ours, by its id.
    assert!(Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap().success());
    assert!(server.wait().unwrap().success(), "SIGTERM is a clean end");
}
