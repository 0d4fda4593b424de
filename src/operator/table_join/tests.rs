//! Table-table joins: the truth table of the reference, and random changes against two maps, one row at a time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::port::tests::{Disturb, Kept, Row, Shown, columns, drive, keep, random_rows, row, schema};
use super::*;
use crate::state::encoding::tests::Chance;

const KINDS: [JoinKind; 4] = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full];

fn make(kind: JoinKind, emit_old: bool) -> impl Fn() -> Box<dyn Operator> {
    let (left, right) = (schema("L_"), schema("R_"));
    let (left_store, right_store) = ("left".to_owned(), "right".to_owned());
    let spec = JoinSpec { kind, left_store, right_store, left, right, key_count: 1, emit_old };
    move || Box::new(TableTableJoin::new(&spec).unwrap())
}

/// The joined row of two rows, in words; `∅` if the join has none.
fn joined(kind: JoinKind, left: Option<&Row>, right: Option<&Row>) -> String {
    let exists = match kind {
        JoinKind::Inner => left.is_some() && right.is_some(),
        JoinKind::Left => left.is_some(),
        JoinKind::Right => right.is_some(),
        JoinKind::Full => left.is_some() || right.is_some(),
    };
    if exists { format!("{},{}", columns(left), columns(right)) } else { "∅".into() }
}

fn reference(kind: JoinKind, rows: &[Row]) -> Vec<Shown> {
    let mut tables = [Kept::new(), Kept::new()];
    let mut out = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let Some(key) = row.key.clone() else { continue };
        let old = keep(&mut tables[row.port], row).map(|(_, row)| row);
        let other = tables[1 - row.port].get(&key);
        let new = Some(row).filter(|r| r.value.is_some());
        // Kafka Streams: an outer side is silent if nothing is and was there; any other side needs a partner.
        let outer = kind == JoinKind::Full || (kind == JoinKind::Left) == (row.port == 0) && kind != JoinKind::Inner;
        if other.is_none() && (!outer || (new.is_none() && old.is_none())) {
            continue;
        }
        let partner = other.map(|(_, row)| row);
        let pair = |this: Option<&Row>| match row.port {
            0 => joined(kind, this, partner),
            _ => joined(kind, partner, this),
        };
        out.push(Shown {
            offset: i as i64,
            time: row.time.max(other.map_or(i64::MIN, |(time, _)| *time)),
            key,
            new: pair(new),
            old: pair(old.as_ref()),
            header: row.header,
        });
    }
    out
}

#[test]
fn the_truth_table_of_the_reference() {
    let steps = [
        (0, Some(1), ["–", "A–", "–", "A–"]),
        (1, Some(2), ["Aa", "Aa", "Aa", "Aa"]),
        (0, Some(3), ["Aa", "Aa", "Aa", "Aa"]),
        (1, Some(4), ["Aa", "Aa", "Aa", "Aa"]),
        (0, None, ["∅", "∅", "–a", "–a"]),
        (1, None, ["–", "–", "∅", "∅"]),
        (0, Some(5), ["–", "A–", "–", "A–"]),
        (1, Some(6), ["Aa", "Aa", "Aa", "Aa"]),
        (1, None, ["∅", "A–", "∅", "A–"]),
        (0, None, ["–", "∅", "–", "∅"]),
        (1, None, ["–", "–", "–", "–"]),
        (1, Some(7), ["–", "–", "–a", "–a"]),
        (0, Some(8), ["Aa", "Aa", "Aa", "Aa"]),
    ];
    let rows: Vec<Row> = steps.iter().map(|(port, value, _)| row(*port, 0, "k", *value)).collect();
    for (n, kind) in KINDS.into_iter().enumerate() {
        let mut ctx = StepContext::new();
        let out = drive(&make(kind, false), &rows, &mut Chance(3), Disturb::Never, &mut ctx);
        let mut said: BTreeMap<i64, String> = BTreeMap::new();
        for shown in out {
            let cells: Vec<&str> = shown.new.split(',').collect();
            let side = |at: usize, letter: &str| if cells[at] == "–" { "–".into() } else { letter.to_owned() };
            let short = if shown.new == "∅" { "∅".into() } else { side(0, "A") + &side(3, "a") };
            assert!(said.insert(shown.offset, short).is_none());
        }
        for (i, (_, _, expected)) in steps.iter().enumerate() {
            let short = said.get(&(i as i64)).map_or("–", String::as_str);
            assert_eq!(short, expected[n], "{kind} step {i}");
        }
    }
}

#[test]
fn the_time_is_the_later_of_both_and_the_key_is_there_without_a_left_row() {
    let rows = [row(1, 50, "k", Some(1)), row(0, 20, "k", Some(2)), row(0, 70, "k", None)];
    let out = drive(&make(JoinKind::Full, true), &rows, &mut Chance(0), Disturb::Never, &mut StepContext::new());
    let words: Vec<_> = out.iter().map(|s| format!("{}: {} → {} @{}", s.key, s.old, s.new, s.time)).collect();
    let expected =
        ["k: ∅ → –,–,–,k,1,s1 @50", "k: –,–,–,k,1,s1 → k,2,s2,k,1,s1 @50", "k: k,2,s2,k,1,s1 → –,–,–,k,1,s1 @70"];
    assert_eq!(words, expected);
}

#[test]
fn rows_without_key_are_lost_with_a_reason() {
    let rows = [row(0, 0, "", Some(1)), row(1, 0, "", Some(1))];
    let mut ctx = StepContext::new();
    assert!(drive(&make(JoinKind::Full, true), &rows, &mut Chance(0), Disturb::Never, &mut ctx).is_empty());
    let reasons: Vec<_> = ctx.losses.iter().map(|l| l.reason.as_str()).collect();
    assert_eq!(reasons[0], "a record of a table needs a key, but 'L_K' is NULL");
    assert_eq!(reasons[1], "a record of a table needs a key, but 'R_K' is NULL");
}

/// The last word on each key between two flushes, from the words one by one.
fn coalesced(words: &[Shown]) -> Vec<Shown> {
    let mut keys: BTreeMap<&str, (usize, &Shown, &Shown)> = BTreeMap::new();
    for (n, shown) in words.iter().enumerate() {
        let slot = keys.entry(&shown.key).or_insert((n, shown, shown));
        (slot.0, slot.2) = (n, shown);
    }
    let mut slots: Vec<_> = keys.into_values().collect();
    slots.sort_by_key(|slot| slot.0);
    let merged = slots.into_iter().map(|(_, first, last)| Shown { old: first.old.clone(), ..last.clone() });
    merged.filter(|s| s.old != "∅" || s.new != "∅").collect()
}

#[test]
fn coalescing_keeps_the_first_old_and_the_last_new_row() {
    for kind in KINDS {
        let rows = random_rows(&mut Chance(9), 300);
        let mut ctx = StepContext { coalesce: true, page_rows: 4, ..StepContext::new() };
        let out = drive(&make(kind, true), &rows, &mut Chance(4), Disturb::Never, &mut ctx);
        assert_eq!(out, coalesced(&reference(kind, &rows)), "{kind}");
    }
}

#[test]
fn coalescing_gives_out_early_when_it_is_full() {
    let rows: Vec<Row> = (0..70_000).map(|i| row(0, i, "k", Some(i))).collect();
    let numbered: Vec<_> = rows.iter().enumerate().map(|(i, r)| (i as u32, i as i64, r)).collect();
    let mut ctx = StepContext { coalesce: true, ..StepContext::new() };
    let mut join = make(JoinKind::Left, true)();
    let mut out = Vec::new();
    let input = super::super::port::tests::batch(&numbered);
    assert_eq!(join.process(vec![input, None], &mut ctx, &mut out).unwrap(), Progress::More);
    assert_eq!((out.len(), out[0].len()), (1, 1));
    assert_eq!(join.resume(&mut ctx, &mut out).unwrap(), Progress::Done);
    join.flush(&mut ctx, &mut out).unwrap();
    assert_eq!(out.len(), 2);
    assert_eq!(out[1].meta.offset[0], 69_999);
    assert!(out[1].old_is_present(0) && !out[0].old_is_present(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_is_two_maps_whatever_the_cuts(
        seed: u64,
        kind in 0usize..4,
        page_rows in 1usize..6,
        disturb in 0usize..3,
        emit_old: bool,
    ) {
        let mut chance = Chance(seed);
        let rows = random_rows(&mut chance, 200);
        let mut ctx = StepContext { page_rows, ..StepContext::new() };
        let disturb = [Disturb::Never, Disturb::Evict, Disturb::Crash][disturb];
        let out = drive(&make(KINDS[kind], emit_old), &rows, &mut chance, disturb, &mut ctx);
        let mut expected = reference(KINDS[kind], &rows);
        if !emit_old {
            expected.iter_mut().for_each(|shown| shown.old.clear());
        }
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn coalescing_leaves_the_same_table(seed: u64, kind in 0usize..4, page_rows in 1usize..6, emit_old: bool) {
        let mut chance = Chance(seed);
        let rows = random_rows(&mut chance, 200);
        let mut ctx = StepContext { page_rows, coalesce: true, ..StepContext::new() };
        let out = drive(&make(KINDS[kind], emit_old), &rows, &mut chance, Disturb::Crash, &mut ctx);
        let last = |words: Vec<Shown>| -> BTreeMap<String, String> {
            words.into_iter().map(|s| (s.key, s.new)).filter(|(_, new)| new != "∅").collect()
        };
        let mut table = BTreeMap::new();
        for shown in &out {
            if emit_old {
                let before = table.get(&shown.key).map_or("∅", |s: &String| s.as_str());
                prop_assert_eq!(before, shown.old.as_str());
            }
            match shown.new.as_str() {
                "∅" => table.remove(&shown.key),
                new => table.insert(shown.key.clone(), new.to_owned()),
            };
        }
        let mut by_key: BTreeMap<String, Shown> = BTreeMap::new();
        reference(KINDS[kind], &rows).into_iter().for_each(|s| drop(by_key.insert(s.key.clone(), s)));
        prop_assert_eq!(table, last(by_key.into_values().collect()));
    }
}
