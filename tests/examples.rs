//! The scripts of `examples/` run through the product's own binary, so that they cannot rot.

use std::path::Path;
use std::process::Command;

fn run(script: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args(["run", script])
        .current_dir(root)
        .output()
        .expect("the binary runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    out
}

#[test]
fn the_quickstart_runs_twice_and_says_the_same() {
    let first = run("examples/quickstart.sql");
    assert!(first.contains("1707 rows inserted into QUAKES"), "{first}");
    assert!(first.contains("USGS National Earthquake Information Center"), "{first}");
    assert!(
        first.contains("2018-02-01") && first.contains("2018-02-07"),
        "every day of the pull query is there: {first}"
    );
    assert_eq!(pulled(&first), pulled(&run("examples/quickstart.sql")));
}

/// The rows of the pull query.
fn pulled(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("|ak ")).collect()
}
