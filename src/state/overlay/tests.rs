//! The overlay against a plain map, with old views held on to.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::state::block::BlockWriter;
use crate::state::encoding::tests::Chance;
use crate::state::keyed::tests::MapStore;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn block(changes: &Changes) -> Bytes {
    let mut writer = BlockWriter::default();
    changes.iter().rev().for_each(|(key, row)| writer.push(key, row.as_deref()).unwrap());
    writer.finish().unwrap()
}

fn apply(model: &mut Model, changes: &Changes) {
    for (key, row) in changes {
        match row {
            Some(row) => model.insert(key.clone(), row.clone()),
            None => model.remove(key),
        };
    }
}

fn store(model: &Model) -> Arc<MapStore> {
    let entries = model.iter().map(|(k, v)| (k.clone(), Bytes::copy_from_slice(v)));
    Arc::new(MapStore { entries: entries.collect(), ..MapStore::default() })
}

fn rows(view: &View, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    view.range(from, to, &mut |key, row| {
        rows.push((key.to_vec(), row.to_vec()));
        rows.len() < limit
    })
    .unwrap();
    rows
}

fn check(view: &View, model: &Model, chance: &mut Chance) {
    for key in 0..30 {
        assert_eq!(view.get(&[key]).unwrap().as_deref(), model.get(&vec![key]).map(Vec::as_slice));
    }
    let all: Vec<_> = model.clone().into_iter().collect();
    assert_eq!(rows(view, &[], None, usize::MAX), all);
    let (from, to) = (vec![chance.below(30) as u8], vec![chance.below(30) as u8]);
    let inside: Vec<_> = all.into_iter().filter(|(key, _)| *key >= from && *key < to).collect();
    assert_eq!(rows(view, &from, Some(&to), usize::MAX), inside);
    let limit = 1 + chance.below(4) as usize;
    assert_eq!(rows(view, &from, Some(&to), limit), inside[..inside.len().min(limit)]);
}

#[test]
fn a_block_that_the_store_holds_is_passed_over() {
    let overlay = Overlay::new(store(&Model::new()), 5);
    let changes = Changes::from([(vec![1], Some(vec![1]))]);
    overlay.apply_block(4, &block(&changes)).unwrap();
    assert_eq!(overlay.view().unwrap().get(&[1]).unwrap(), None);
    overlay.apply_block(5, &block(&changes)).unwrap();
    assert!(overlay.view().unwrap().get(&[1]).unwrap().is_some());
    assert!(overlay.memory() > 0);
    let held = overlay.memory();
    overlay.apply_block(5, &block(&changes)).unwrap();
    assert_eq!((overlay.memory(), overlay.next()), (held, 6), "a block is held once");
    overlay.rebase(store(&Model::new()), 8);
    assert_eq!((overlay.memory(), overlay.next()), (0, 8));
    overlay.apply_block(7, &block(&changes)).unwrap();
    assert_eq!(overlay.memory(), 0);
    assert!(overlay.apply_block(9, &Bytes::from_static(b"x")).is_err());
}

#[test]
fn layers_stay_few() {
    let overlay = Overlay::new(store(&Model::new()), 0);
    for number in 0..200u64 {
        let changes = Changes::from([(number.to_be_bytes().to_vec(), Some(vec![1]))]);
        overlay.apply_block(number, &block(&changes)).unwrap();
        assert!(overlay.view().unwrap().layers.len() <= 9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn views_are_the_state_as_of_their_block(seed: u64) {
        let mut chance = Chance(seed);
        let mut model = Model::new();
        let overlay = Overlay::new(store(&model), 0);
        let mut history = vec![model.clone()];
        let mut held: Vec<(View, Model)> = Vec::new();
        for number in 0..60u64 {
            let mut changes = Changes::new();
            for _ in 0..chance.below(6) {
                let row = (chance.below(3) != 0).then(|| vec![number as u8, chance.next() as u8]);
                changes.insert(vec![chance.below(30) as u8], row);
            }
            apply(&mut model, &changes);
            overlay.apply_block(number, &block(&changes)).unwrap();
            history.push(model.clone());
            if chance.below(8) == 0 {
                let upto = number + 1 - chance.below(number.min(3) + 1);
                overlay.rebase(store(&history[upto as usize]), upto);
            }
            if chance.below(3) == 0 {
                held.push((overlay.view().unwrap(), model.clone()));
            }
        }
        for (view, model) in &held {
            check(view, model, &mut chance);
        }
        check(&overlay.view().unwrap(), &model, &mut chance);
    }
}
