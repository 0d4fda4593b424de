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
