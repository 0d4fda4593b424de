//! Stream-table joins against a map, one row at a time.

use proptest::prelude::*;

use super::super::port::tests::{Disturb, Kept, Row, Shown, columns, drive, keep, random_rows, row, schema};
use super::*;
use crate::state::encoding::tests::Chance;

fn spec(kind: JoinKind) -> JoinSpec {
    let (left_store, right_store) = ("left".to_owned(), "right".to_owned());
    let (left, right) = (schema("L_"), schema("R_"));
    JoinSpec { kind, left_store, right_store, left, right, key_count: 1, emit_old: false }
}

fn make(kind: JoinKind) -> impl Fn() -> Box<dyn Operator> {
    move || Box::new(StreamTableJoin::new(&spec(kind)).unwrap())
}

fn reference(kind: JoinKind, rows: &[Row]) -> Vec<Shown> {
    let mut table = Kept::new();
    let mut out = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        if row.port == TABLE {
            if row.key.is_some() {
                keep(&mut table, row);
            }
            continue;
        }
        let found = row.key.as_ref().and_then(|key| table.get(key)).map(|(_, row)| row);
        if row.value.is_some() && (found.is_some() || kind == JoinKind::Left) {
            out.push(Shown {
                offset: i as i64,
                time: row.time,
                key: row.key.clone().unwrap_or("–".into()),
                new: format!("{},{}", columns(Some(row)), columns(found)),
                old: String::new(),
                header: row.header,
            });
        }
    }
    out
}

fn words(kind: JoinKind, rows: &[Row]) -> Vec<String> {
    let mut ctx = StepContext::new();
    let out = drive(&make(kind), rows, &mut Chance(0), Disturb::Never, &mut ctx);
    out.into_iter().map(|s| format!("{} @{}", s.new, s.time)).collect()
}

#[test]
fn the_table_is_as_it_arrived_and_never_triggers() {
    let rows = [
        row(0, 10, "a", Some(1)),
        row(1, 50, "a", Some(100)),
        row(0, 20, "a", Some(2)),
        row(1, 5, "a", Some(101)),
        row(0, 30, "a", Some(3)),
        row(1, 60, "a", None),
        row(0, 40, "a", Some(4)),
    ];
    let inner = ["a,2,s2,a,100,s100 @20", "a,3,s3,a,101,s101 @30"];
    assert_eq!(words(JoinKind::Inner, &rows), inner);
    let left = ["a,1,s1,–,–,– @10", inner[0], inner[1], "a,4,s4,–,–,– @40"];
    assert_eq!(words(JoinKind::Left, &rows), left);
}

#[test]
fn null_keys_and_null_values() {
    let rows = [row(1, 0, "", Some(100)), row(0, 1, "", Some(1)), row(0, 2, "", None), row(0, 3, "a", None)];
    assert!(words(JoinKind::Inner, &rows).is_empty());
    assert_eq!(words(JoinKind::Left, &rows), ["–,1,s1,–,–,– @1"]);
    let mut ctx = StepContext::new();
    drive(&make(JoinKind::Inner), &rows, &mut Chance(0), Disturb::Never, &mut ctx);
    let lost: Vec<_> = ctx.losses.iter().map(|l| (l.offset, l.reason.as_str())).collect();
    assert_eq!(lost[0], (0, "a record of a table needs a key, but 'R_K' is NULL"));
    assert_eq!(lost[1], (1, "a join needs a key, but 'L_K' is NULL"));
    assert_eq!(lost.len(), 2);
}

#[test]
fn other_kinds_are_refused() {
    assert!(StreamTableJoin::new(&spec(JoinKind::Right)).is_err());
    assert!(StreamTableJoin::new(&spec(JoinKind::Full)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_the_map_whatever_the_cuts(seed: u64, left: bool, page_rows in 1usize..6, disturb in 0usize..3) {
        let mut chance = Chance(seed);
        let rows = random_rows(&mut chance, 200);
        let kind = if left { JoinKind::Left } else { JoinKind::Inner };
        let mut ctx = StepContext { page_rows, ..StepContext::new() };
        let disturb = [Disturb::Never, Disturb::Evict, Disturb::Crash][disturb];
        prop_assert_eq!(drive(&make(kind), &rows, &mut chance, disturb, &mut ctx), reference(kind, &rows));
    }
}
