//! An engine inside a program of your own: make a stream, insert rows, read them back as Arrow batches.
//!
//! `cargo run --example embed`

use std::time::Duration;

use riverrun::diagnostic::Diagnostic;
use riverrun::engine::{Engine, EngineConfig, NextRows, ScriptError};
use riverrun::wire::value::display_value;

fn main() -> Result<(), Diagnostic> {
    // No data directory: everything is in memory and gone at the end. Give one to keep it.
    let engine = Engine::open(EngineConfig::default())?;
    let mut session = engine.session();
    let what_is_wrong = |error: ScriptError| error.diagnostic;

    session
        .execute(
            "CREATE STREAM readings (sensor STRING KEY, celsius INT)
                 WITH (KAFKA_TOPIC='readings', VALUE_FORMAT='JSON', PARTITIONS=1);
             INSERT INTO readings VALUES ('cellar', 11);
             INSERT INTO readings VALUES ('attic', 31);",
        )
        .map_err(what_is_wrong)?;

    // A pull query on a stream ends by itself. With EMIT CHANGES it would go on; dropping `rows` ends it.
    let mut rows = session.query("SELECT sensor, celsius FROM readings;").map_err(what_is_wrong)?;
    loop {
        match rows.source.next(Duration::from_secs(1)) {
            NextRows::Batch { batch, .. } => {
                for row in 0..batch.num_rows() {
                    let values: Vec<String> = batch.columns().iter().map(|c| display_value(c, row)).collect();
                    println!("{}", values.join(", "));
                }
            }
            NextRows::Idle => {}
            NextRows::Done(_) => break,
            NextRows::Failed(error) => return Err(error),
        }
    }
    drop((rows, session));
    engine.close()
}
