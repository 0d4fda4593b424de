//! `riverrun backup`, `restore` and `check` as commands, and the backup of a server that goes on.
//!
//! The subtle thing: a backup is taken while another process holds the data directory, so the program is really started here.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const SETUP: &str =
    "CREATE STREAM s (k INT KEY, v INT) WITH (kafka_topic = 's', value_format = 'JSON', partitions = 1);
CREATE TABLE t AS SELECT k, SUM(v) AS n FROM s GROUP BY k;
INSERT INTO s VALUES (1, 10), (2, 20), (1, 5);
SELECT * FROM t WHERE k = 1;
";

fn riverrun(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
    command.args(arguments).env("RIVERRUN_LOG", "error");
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn ok(arguments: &[&str]) -> String {
    let output = riverrun(arguments).output().expect("the program starts");
    let text = said(&output);
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn refused(arguments: &[&str], with: &[&str]) {
    let output = riverrun(arguments).output().expect("the program starts");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    with.iter().for_each(|part| assert!(text.contains(part), "{arguments:?}: '{part}' is not in {text}"));
}

/// A server, killed when the test ends.
struct Server(Child, String);

impl Server {
    fn start(dir: &str) -> Self {
        let mut child = riverrun(&["server", "--listen", "127.0.0.1:0", "--data-dir", dir])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdout = child.stdout.take().expect("is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("says where it listens");
        let url = line.trim().rsplit(' ').next().expect("a URL").to_owned();
        Self(child, url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn path(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

#[test]
fn a_server_that_goes_on_is_backed_up_restored_and_checked() {
    let root = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(root.path(), name);
    let (data, backup, copy) = (file("data"), file("a.backup"), file("copy"));
    std::fs::write(root.path().join("setup.sql"), SETUP).expect("is written");
    let before = ok(&["run", &file("setup.sql"), "--data-dir", &data]);
    assert!(before.contains("15"), "{before}");
    let server = Server::start(&data);
    refused(&["backup", &backup, "--data-dir", &data], &["in use by another riverrun", "--server URL"]);
    refused(&["check", "--data-dir", &data], &["in use by another riverrun"]);
    ok(&["backup", &backup, "--server", &server.1]);
    refused(&["backup", &backup, "--server", &server.1], &["is there already", "--overwrite"]);
    ok(&["backup", &backup, "--server", &server.1, "--overwrite"]);
    drop(server);
    ok(&["restore", &backup, "--data-dir", &copy]);
    refused(&["restore", &backup, "--data-dir", &copy], &["is not empty"]);
    let report = ok(&["check", "--data-dir", &copy]);
    assert!(
        report.contains("problems                      0") && !report.contains("records                       0"),
        "{report}"
    );
    let query = ["-e", "SELECT * FROM t WHERE k = 1;", "--data-dir", &copy];
    assert!(ok(&query).contains("15"));
}

#[test]
fn a_damaged_directory_and_a_damaged_backup_end_with_1() {
    let root = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(root.path(), name);
    let (data, backup) = (file("data"), file("a.backup"));
    std::fs::write(root.path().join("setup.sql"), SETUP).expect("is written");
    ok(&["run", &file("setup.sql"), "--data-dir", &data]);
    ok(&["backup", &backup, "--data-dir", &data]);
    let mut bytes = std::fs::read(&backup).expect("is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file("flipped"), &bytes).expect("is written");
    refused(&["restore", &file("flipped"), "--data-dir", &file("b")], &["checksum", "cannot be restored"]);
    assert!(!Path::new(&file("b")).exists());
    refused(
        &["restore", &file("setup.sql"), "--data-dir", &file("b")],
        &["does not begin as a file of 'riverrun backup'"],
    );
    refused(&["check", "--data-dir", &file("nowhere")], &["there is no data directory"]);
    std::fs::write(root.path().join("data/format"), "riverrun 7\n").expect("is written");
    refused(&["check", "--data-dir", &data], &["has format 7"]);
}
