//! Tests of the storage that need to see its tables in memory; what users of it see is tested with the embedded log.

use super::*;

#[test]
fn what_waits_for_the_disk_is_bounded() {
    const LIMIT: u64 = MIB;
    const VALUE: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions {
        records_memtable_bytes: LIMIT,
        keyed_memtable_bytes: LIMIT,
        min_free_bytes: 0,
        ..StorageOptions::default()
    };
    let storage = Storage::open(dir.path(), options).unwrap();
    let mut most = 0;
    for n in 0..400_u32 {
        let mut batch = Batch::default();
        for space in [Space::Records, Space::Keyed] {
            batch.put(space, n.to_be_bytes().to_vec(), vec![n as u8; VALUE]);
        }
        storage.write(batch).unwrap();
        let open = storage.opened().unwrap();
        for space in [Space::Records, Space::Keyed] {
            let tree = &open.space(space).tree;
            // those that are being written into tables, the one that fills, and one that old views may still hold
            let held = tree.active_memtable().size() + LIMIT * tree.sealed_memtable_count() as u64;
            most = most.max(held);
        }
    }
    assert!(most <= 3 * LIMIT + VALUE as u64, "{most} bytes");
    assert!(most > LIMIT / 2, "the test is too small: {most} bytes");
    let snapshot = storage.snapshot().unwrap();
    let value = |n: u32| snapshot.get(Space::Keyed, &n.to_be_bytes()).unwrap().unwrap();
    assert!((0..400).all(|n| value(n) == vec![n as u8; VALUE]));
}

#[test]
fn who_is_in_no_hurry_takes_a_memtable_and_a_half() {
    const LIMIT: u64 = MIB;
    const VALUE: usize = 2 << 10;
    const ROWS: u32 = 32;
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions { keyed_memtable_bytes: LIMIT, min_free_bytes: 0, ..StorageOptions::default() };
    let storage = Storage::open(dir.path(), options).unwrap();
    let mut most = 0;
    for n in 0..400_u32 {
        let mut batch = Batch::default();
        (0..ROWS)
            .for_each(|row| batch.put(Space::Keyed, (n * ROWS + row).to_be_bytes().to_vec(), vec![n as u8; VALUE]));
        storage.pace(Space::Keyed).unwrap();
        storage.write(batch).unwrap();
        let open = storage.opened().unwrap();
        let tree = &open.space(Space::Keyed).tree;
        // only flushing lowers what waits, and only this thread adds to what fills
        let filling = tree.active_memtable().size();
        most = most.max(filling + LIMIT * tree.sealed_memtable_count() as u64);
    }
    let write = u64::from(ROWS) * (VALUE as u64 + 2 * ENTRY_BYTES);
    assert!(most <= LIMIT + LIMIT / 2 + write, "{most} bytes");
    assert!(most > LIMIT, "the test is too small: {most} bytes");
    let snapshot = storage.snapshot().unwrap();
    let value = |key: u32| snapshot.get(Space::Keyed, &key.to_be_bytes()).unwrap().unwrap();
    assert!((0..400 * ROWS).all(|key| value(key) == vec![(key / ROWS) as u8; VALUE]));
}

#[test]
fn a_process_that_ended_while_it_made_its_database_is_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    // all that is made before fjall's own mark, as `kill -9` leaves it
    let database = dir.path().join("db");
    std::fs::create_dir_all(database.join("keyspaces")).unwrap();
    std::fs::write(database.join("0.jnl"), []).unwrap();
    std::fs::write(dir.path().join("format"), "riverrun 1\n").unwrap();
    let refused = Storage::open(dir.path(), StorageOptions::default()).err().expect("it was not made to its end");
    assert!(refused.to_string().contains("exists"), "{refused}");
    std::fs::write(dir.path().join("making"), []).unwrap();
    for opened in 0..2_u8 {
        let storage = Storage::open(dir.path(), StorageOptions::default()).unwrap();
        assert!(!dir.path().join("making").exists(), "it is made");
        let before = storage.snapshot().unwrap().get(Space::Meta, b"key").unwrap();
        assert_eq!(before.map(|value| value.to_vec()), (opened > 0).then(|| vec![0]), "what was written stays");
        let mut batch = Batch::default();
        batch.put(Space::Meta, b"key".to_vec(), vec![opened]);
        storage.write(batch).unwrap();
    }
}
