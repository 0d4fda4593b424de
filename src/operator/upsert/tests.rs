//! Upserts against a map, one row at a time.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::port::tests::{Disturb, Kept, Row, Shown, drive, keep, random_rows, row, schema, values};
use super::*;
use crate::state::block::Block;
use crate::state::encoding::tests::Chance;

fn make(emit_old: bool, keep: bool) -> impl Fn() -> Box<dyn Operator> {
    move || Box::new(UpsertOperator::new("upsert", (emit_old, keep), &schema(""), 1).unwrap())
}

fn reference(rows: &[Row]) -> Vec<Shown> {
    let mut table = Kept::new();
    let mut out = Vec::new();
    for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.key.is_some()) {
        let old = keep(&mut table, row);
        let shown = |row: Option<&Row>| row.map_or("∅".into(), |r| values(Some(r)));
        out.push(Shown {
            offset: i as i64,
            time: row.time,
            key: row.key.clone().unwrap(),
            new: shown(Some(row).filter(|r| r.value.is_some())),
            old: shown(old.as_ref().map(|(_, row)| row)),
            header: row.header,
        });
    }
    out
}

fn one_port(chance: &mut Chance, rows: usize) -> Vec<Row> {
    random_rows(chance, rows).into_iter().map(|row| Row { port: 0, ..row }).collect()
}

#[test]
fn changes_of_one_key_in_one_batch_see_each_other() {
    let rows = [
        row(0, 1, "a", None),
        row(0, 2, "a", Some(1)),
        row(0, 1, "a", Some(2)),
        row(0, 3, "", Some(9)),
        row(0, 3, "a", None),
    ];
    let mut ctx = StepContext::new();
    let numbered: Vec<_> = rows.iter().enumerate().map(|(i, r)| (i as u32, i as i64, r)).collect();
    let batch = super::super::port::tests::batch(&numbered);
    let mut out = Vec::new();
    let mut operator = make(true, true)();
    assert_eq!(operator.process(vec![batch], &mut ctx, &mut out).unwrap(), Progress::Done);
    let shown: Vec<_> = super::super::port::tests::show(&out[0]).into_iter().map(|s| (s.old, s.new)).collect();
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    assert_eq!(shown, [pair("∅", "∅"), pair("∅", "1,s1"), pair("1,s1", "2,s2"), pair("2,s2", "∅")]);
    assert_eq!((ctx.losses.len(), ctx.losses[0].offset, ctx.losses[0].kind), (1, 3, LossKind::NullKey));
    assert_eq!(ctx.losses[0].reason, "a record of a table needs a key, but 'K' is NULL");
}

#[test]
fn without_old_rows_nothing_is_stored() {
    let mut operator = make(false, false)();
    assert!(operator.stores().is_empty());
    let rows = one_port(&mut Chance(1), 50);
    let out = drive(&make(false, false), &rows, &mut Chance(2), Disturb::Never, &mut StepContext::new());
    let expected: Vec<_> = reference(&rows).into_iter().map(|s| Shown { old: String::new(), ..s }).collect();
    assert_eq!(out, expected);
}

/// What readers find of a store: its blocks in order over nothing.
fn stored(operator: &mut dyn Operator, entries: &mut BTreeMap<Vec<u8>, Bytes>) {
    for store in operator.stores() {
        let Some(block) = store.take_block().unwrap() else { continue };
        for (key, row) in Block::open(&block).unwrap().iter() {
            match row {
                Some(row) => entries.insert(key.to_vec(), Bytes::copy_from_slice(row)),
                None => entries.remove(key),
            };
        }
    }
}

#[test]
fn what_readers_find_does_not_depend_on_who_else_asks() {
    let rows = one_port(&mut Chance(3), 200);
    let numbered: Vec<_> = rows.iter().enumerate().map(|(i, r)| (i as u32, i as i64, r)).collect();
    let found = [true, false].map(|emit_old| {
        let (mut operator, mut entries) = (make(emit_old, true)(), BTreeMap::new());
        for some in numbered.chunks(7) {
            let batch = super::super::port::tests::batch(some);
            let (mut ctx, mut out) = (StepContext::new(), Vec::new());
            assert_eq!(operator.process(vec![batch], &mut ctx, &mut out).unwrap(), Progress::Done);
            assert!(out.iter().all(|batch| batch.old.is_some() == emit_old));
            stored(operator.as_mut(), &mut entries);
        }
        entries
    });
    assert!(!found[0].is_empty());
    assert_eq!(found[0], found[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_the_map_whatever_the_cuts(seed: u64, page_rows in 1usize..6, disturb in 0usize..3) {
        let mut chance = Chance(seed);
        let rows = one_port(&mut chance, 150);
        let mut ctx = StepContext { page_rows, ..StepContext::new() };
        let disturb = [Disturb::Never, Disturb::Evict, Disturb::Crash][disturb];
        prop_assert_eq!(drive(&make(true, true), &rows, &mut chance, disturb, &mut ctx), reference(&rows));
        prop_assert_eq!(ctx.losses.len(), rows.iter().filter(|r| r.key.is_none()).count());
    }
}
