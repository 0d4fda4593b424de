//! The table against a plain map, under commits, write-behind, eviction and crashes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::state::encoding::tests::Chance;

/// A keyed store in memory that counts its look-ups.
#[derive(Default)]
pub(crate) struct MapStore {
    pub(crate) entries: BTreeMap<Vec<u8>, Bytes>,
    pub(crate) gets: AtomicUsize,
}

impl MapStore {
    /// The store with `writes` on top.
    pub(crate) fn written(&self, writes: KeyedWrites) -> Self {
        let mut entries = self.entries.clone();
        for (key, row) in writes {
            match row {
                Some(row) => entries.insert(key.to_vec(), row),
                None => entries.remove(key.as_ref()),
            };
        }
        Self { entries, gets: AtomicUsize::new(0) }
    }
}

impl KeyedSnapshot for MapStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        Ok(self.entries.get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        for (key, row) in &self.entries {
            let inside = key.as_slice() >= from && to.is_none_or(|to| key.as_slice() < to);
            if inside && !visit(key, row) {
                break;
            }
        }
        Ok(())
    }
}

fn text(table: &mut KeyedTable, key: &str) -> Option<String> {
    let row = table.get(key.as_bytes()).unwrap();
    row.map(|row| String::from_utf8(table.row(row).to_vec()).unwrap())
}

fn store_of(entries: &[(&str, &str)]) -> Arc<MapStore> {
    let entries = entries.iter().map(|(k, v)| (k.as_bytes().to_vec(), Bytes::copy_from_slice(v.as_bytes())));
    Arc::new(MapStore { entries: entries.collect(), gets: AtomicUsize::new(0) })
}

#[test]
fn a_store_known_to_be_empty_is_never_asked() {
    let behind = store_of(&[]);
    let mut table = KeyedTable::new("t");
    table.attach(behind.clone());
    assert_eq!(text(&mut table, "a"), None);
    table.put(b"a", b"1");
    assert_eq!(table.replace(b"b", None).unwrap(), None);
    assert_eq!(behind.gets.load(Ordering::Relaxed), 0);
    assert_eq!(table.resident(), 1);
}

#[test]
fn a_miss_is_looked_up_once_also_if_there_is_nothing() {
    let behind = store_of(&[("a", "1")]);
    let mut table = KeyedTable::new("t");
    table.attach(behind.clone());
    for _ in 0..3 {
        assert_eq!(text(&mut table, "a").as_deref(), Some("1"));
        assert_eq!(text(&mut table, "b"), None);
    }
    assert_eq!(behind.gets.load(Ordering::Relaxed), 2);
    assert!(table.take_block().unwrap().is_none());
}

#[test]
fn rows_stay_readable_after_they_were_replaced() {
    let mut table = KeyedTable::new("t");
    table.put(b"a", b"old");
    let old = table.get(b"a").unwrap().unwrap();
    assert_eq!(table.replace(b"a", Some(b"new")).unwrap(), Some(old));
    table.delete(b"a");
    (0..10_000u32).for_each(|i| table.put(&i.to_be_bytes(), &[0; 100]));
    assert_eq!(table.row(old), b"old");
}

#[test]
fn a_block_holds_the_last_state_of_each_changed_key() {
    let mut table = KeyedTable::new("t");
    table.put(b"a", b"1");
    table.put(b"b", b"1");
    table.put(b"a", b"2");
    table.replace(b"b", None).unwrap();
    let block = Block::open(&table.take_block().unwrap().unwrap()).unwrap();
    assert_eq!(block.iter().collect::<Vec<_>>(), [(&b"a"[..], Some(&b"2"[..])), (b"b", None)]);
    assert_eq!(table.dirty_bytes(), 0);
    assert!(table.take_block().unwrap().is_none());
}

#[test]
fn writes_never_run_ahead_of_the_blocks() {
    let mut table = KeyedTable::new("t");
    table.put(b"a", b"1");
    table.put(b"b", b"1");
    table.take_block().unwrap();
    table.put(b"a", b"2");
    table.delete(b"b");
    table.put(b"c", b"1");
    let one = || Some(Bytes::from_static(b"1"));
    assert_eq!(table.take_writes(), [(Bytes::from_static(b"a"), one()), (Bytes::from_static(b"b"), one())]);
    table.take_block().unwrap();
    let writes = table.take_writes();
    assert_eq!(writes[0], (Bytes::from_static(b"a"), Some(Bytes::from_static(b"2"))));
    assert_eq!(writes[1], (Bytes::from_static(b"b"), None));
    assert_eq!(writes[2], (Bytes::from_static(b"c"), one()));
    assert!(table.take_writes().is_empty());
}

#[test]
fn only_what_is_attached_may_leave_memory() {
    let mut table = KeyedTable::new("t");
    for i in 0..1000u32 {
        table.put(&i.to_be_bytes(), &[7; 50]);
    }
    let full = table.memory();
    assert!(full > 1000 * 54);
    table.evict(0);
    table.take_block().unwrap();
    table.evict(0);
    let behind = MapStore::default().written(table.take_writes());
    table.evict(0);
    assert_eq!(table.resident(), 1000);
    let behind = Arc::new(behind);
    table.attach(behind.clone());
    let held = table.evict(full / 2);
    assert!(held <= full / 2 && held > full / 8, "{held} of {full}");
    assert!((100..=500).contains(&table.resident()), "{}", table.resident());
    assert!(table.evict(0) < 4096);
    let row = table.get(&5u32.to_be_bytes()).unwrap().unwrap();
    assert_eq!(table.row(row), [7; 50]);
    assert_eq!(behind.gets.load(Ordering::Relaxed), 1);
}

#[test]
fn eviction_spares_what_was_used() {
    let mut table = KeyedTable::new("t");
    (0..1000u32).for_each(|i| table.put(&i.to_be_bytes(), &[7; 50]));
    table.take_block().unwrap();
    let behind = Arc::new(MapStore::default().written(table.take_writes()));
    table.attach(behind.clone());
    table.evict(table.memory() * 9 / 10);
    for i in 0..50u32 {
        table.get(&i.to_be_bytes()).unwrap();
    }
    table.evict(table.memory() / 2);
    let before = behind.gets.load(Ordering::Relaxed);
    for i in 0..50u32 {
        table.get(&i.to_be_bytes()).unwrap();
    }
    assert_eq!(behind.gets.load(Ordering::Relaxed), before);
}

#[test]
fn deleted_keys_leave_memory_once_written() {
    let mut table = KeyedTable::new("t");
    table.put(b"a", b"1");
    table.replace(b"a", None).unwrap();
    table.take_block().unwrap();
    let behind = MapStore::default().written(table.take_writes());
    table.attach(Arc::new(behind));
    assert_eq!(table.resident(), 0);
}

#[test]
fn memory_of_replaced_rows_comes_back() {
    let mut table = KeyedTable::new("t");
    for round in 0..200u32 {
        (0..100u32).for_each(|i| table.put(&i.to_be_bytes(), &[round as u8; 200]));
        table.settle();
    }
    assert!(table.memory() < 400_000, "{}", table.memory());
    let row = table.get(&3u32.to_be_bytes()).unwrap().unwrap();
    assert_eq!(table.row(row), [199; 200]);
}

#[test]
fn numbers_live_beside_rows_and_are_restored() {
    let mut table = KeyedTable::new("t");
    assert_eq!(table.number("stream-time").unwrap(), None);
    table.set_number("stream-time", -7);
    table.put(&[1, 2], b"row");
    let block = table.take_block().unwrap().unwrap();
    let mut restored = KeyedTable::new("t");
    restored.apply_block(&block).unwrap();
    assert_eq!(restored.number("stream-time").unwrap(), Some(-7));
    assert!(reserved_key("x").as_slice() > super::super::encoding::ROWS_END);
}

#[test]
fn a_store_that_fails_fails_the_look_up() {
    struct Broken;
    impl KeyedSnapshot for Broken {
        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, TopicError> {
            Err(TopicError::Poisoned("disk".into()))
        }
        fn range(&self, _: &[u8], _: Option<&[u8]>, _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), TopicError> {
            Err(TopicError::Poisoned("disk".into()))
        }
    }
    let mut table = KeyedTable::new("t");
    table.attach(Arc::new(Broken));
    assert!(table.get(b"a").is_err());
    assert!(table.replace(b"a", Some(b"1")).is_err());
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A table, what it should hold, and what would survive a crash.
struct Run {
    table: KeyedTable,
    model: Model,
    committed: Model,
    behind: Arc<MapStore>,
    blocks: Vec<Bytes>,
}

impl Run {
    fn new() -> Self {
        let behind = Arc::new(MapStore::default());
        let mut table = KeyedTable::new("t");
        table.attach(behind.clone());
        Self { table, model: Model::new(), committed: Model::new(), behind, blocks: Vec::new() }
    }

    fn step(&mut self, chance: &mut Chance) {
        let key = vec![1, chance.below(40) as u8];
        match chance.below(100) {
            0..35 => {
                let row = vec![chance.next() as u8; 1 + chance.below(300) as usize];
                let old = self.model.insert(key.clone(), row.clone());
                if chance.below(2) == 0 {
                    self.table.put(&key, &row);
                } else {
                    let given = self.table.replace(&key, Some(&row)).unwrap();
                    assert_eq!(given.map(|r| self.table.row(r)), old.as_deref());
                }
            }
            35..50 => {
                let old = self.model.remove(&key);
                if chance.below(2) == 0 {
                    self.table.delete(&key);
                } else {
                    let given = self.table.replace(&key, None).unwrap();
                    assert_eq!(given.map(|r| self.table.row(r)), old.as_deref());
                }
            }
            50..80 => {
                let row = self.table.get(&key).unwrap();
                assert_eq!(row.map(|r| self.table.row(r)), self.model.get(&key).map(Vec::as_slice));
            }
            80..88 => {
                self.blocks.extend(self.table.take_block().unwrap());
                self.committed = self.model.clone();
            }
            88..92 => {
                self.behind = Arc::new(self.behind.written(self.table.take_writes()));
                self.blocks.clear();
                self.table.attach(self.behind.clone());
            }
            92..96 => drop(self.table.evict(chance.below(20_000) as usize)),
            96..98 => self.table.settle(),
            _ => self.crash(),
        }
    }

    fn crash(&mut self) {
        self.table = KeyedTable::new("t");
        self.table.attach(self.behind.clone());
        self.blocks.iter().for_each(|block| self.table.apply_block(block).unwrap());
        self.model = self.committed.clone();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_is_a_map_whatever_happens(seed: u64) {
        let mut chance = Chance(seed);
        let mut run = Run::new();
        for _ in 0..600 {
            run.step(&mut chance);
        }
        for key in 0..40 {
            let row = run.table.get(&[1, key]).unwrap();
            prop_assert_eq!(row.map(|r| run.table.row(r)), run.model.get(&vec![1, key]).map(Vec::as_slice));
        }
    }
}
