//! What the tests of keyed operators share: rows in words, steps cut at random, and a driver that commits, evicts and crashes.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::*;
use crate::operator::{Operator, Progress, StepContext};
use crate::state::Store;
use crate::state::encoding::tests::Chance;
use crate::state::keyed::tests::MapStore;

/// A row of `K STRING key, N BIGINT, S STRING`; `value` is `None` where it is absent.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Row {
    pub(in crate::operator) port: usize,
    pub(in crate::operator) time: i64,
    pub(in crate::operator) key: Option<String>,
    pub(in crate::operator) value: Option<(Option<i64>, Option<String>)>,
    pub(in crate::operator) header: bool,
}

/// A row in short: `value` is N, or `None` if it is absent.
pub(in crate::operator) fn row(port: usize, time: i64, key: &str, value: Option<i64>) -> Row {
    let key = Some(key).filter(|k| !k.is_empty()).map(str::to_owned);
    Row { port, time, key, value: value.map(|n| (Some(n), Some(format!("s{n}")))), header: false }
}

/// A random sequence of rows over few keys.
pub(in crate::operator) fn random_rows(chance: &mut Chance, rows: usize) -> Vec<Row> {
    let random = |i: usize| {
        let key = (chance.below(15) != 0).then(|| "k".repeat(chance.below(6) as usize));
        let n = (chance.below(8) != 0).then_some(i as i64);
        let value = (chance.below(4) != 0).then(|| (n, (chance.below(8) != 0).then(|| format!("s{i}"))));
        let header = chance.below(20) == 0;
        Row { port: chance.below(2) as usize, time: chance.below(1000) as i64, key, value, header }
    };
    (0..rows).map(random).collect()
}

/// The schema of [`Row`] with that prefix of names.
pub(in crate::operator) fn schema(prefix: &str) -> SchemaRef {
    let field = |name: &str, ty| Field::new(format!("{prefix}{name}"), ty, true);
    Arc::new(Schema::new(vec![field("K", DataType::Utf8), field("N", DataType::Int64), field("S", DataType::Utf8)]))
}

/// Rows as a batch; (seq, offset) of each are given. What stands in columns of absent rows is not NULL, and means nothing.
pub(in crate::operator) fn batch(rows: &[(u32, i64, &Row)]) -> Option<ChangeBatch> {
    let n = |r: &Row| r.value.as_ref().map_or(Some(-99), |v| v.0);
    let s = |r: &Row| r.value.as_ref().map_or(Some("garbage".to_owned()), |v| v.1.clone());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(_, _, r)| r.key.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(_, _, r)| n(r)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(_, _, r)| s(r)).collect::<StringArray>()),
    ];
    let meta = RowMeta {
        rowtime: rows.iter().map(|(_, _, r)| r.time).collect(),
        seq: rows.iter().map(|(seq, _, _)| *seq).collect(),
        offset: rows.iter().map(|(_, offset, _)| *offset).collect(),
        window: None,
        headers: headers(rows),
        keyed: None,
    };
    let present = Some(rows.iter().map(|(_, _, r)| r.value.is_some()).collect());
    (!rows.is_empty()).then_some(ChangeBatch { columns, present, old: None, meta })
}

fn headers(rows: &[(u32, i64, &Row)]) -> Option<ArrayRef> {
    if !rows.iter().any(|(_, _, r)| r.header) {
        return None;
    }
    let DataType::List(item) = crate::topic::headers_type() else { panic!("headers are a list") };
    let DataType::Struct(fields) = item.data_type() else { panic!("of structs") };
    let with: Vec<String> = rows.iter().filter(|(_, _, r)| r.header).map(|(_, offset, _)| offset.to_string()).collect();
    let keys: ArrayRef = Arc::new(StringArray::from(with.clone()));
    let values: ArrayRef = Arc::new(BinaryArray::from_iter_values(with));
    let structs = StructArray::new(fields.clone(), vec![keys, values], None);
    let lengths = OffsetBuffer::from_lengths(rows.iter().map(|(_, _, r)| usize::from(r.header)));
    let valid: Vec<bool> = rows.iter().map(|(_, _, r)| r.header).collect();
    Some(Arc::new(ListArray::new(item, lengths, Arc::new(structs), Some(valid.into()))))
}

/// An output row in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operator) struct Shown {
    pub(in crate::operator) offset: i64,
    pub(in crate::operator) time: i64,
    pub(in crate::operator) key: String,
    /// the columns after the key, or "∅"
    pub(in crate::operator) new: String,
    /// the same of the old row; empty if there are no old rows
    pub(in crate::operator) old: String,
    pub(in crate::operator) header: bool,
}

/// Output rows in words; the first column is the key.
pub(in crate::operator) fn show(batch: &ChangeBatch) -> Vec<Shown> {
    let options = FormatOptions::default().with_null("–");
    let cells = |columns: &[ArrayRef], i: usize| {
        let cell = |c: &ArrayRef| ArrayFormatter::try_new(c, &options).unwrap().value(i).to_string();
        columns.iter().map(cell).collect::<Vec<_>>().join(",")
    };
    let row = |i: usize| {
        let shown = |present: bool, columns: &[ArrayRef]| if present { cells(columns, i) } else { "∅".into() };
        let old = batch.old.as_ref().map(|old| {
            assert_eq!(cells(&old.columns[..1], i), cells(&batch.columns[..1], i), "old and new rows have one key");
            shown(batch.old_is_present(i), &old.columns[1..])
        });
        Shown {
            offset: batch.meta.offset[i],
            time: batch.meta.rowtime[i],
            key: cells(&batch.columns[..1], i),
            new: shown(batch.is_present(i), &batch.columns[1..]),
            old: old.unwrap_or_default(),
            header: batch.meta.headers.as_ref().is_some_and(|h| h.is_valid(i)),
        }
    };
    (0..batch.len()).map(row).collect()
}

/// How a run is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::operator) enum Disturb {
    Never,
    /// commits, write-behind and eviction to nothing, between and within steps
    Evict,
    /// as well as a new operator restored from the log
    Crash,
}

struct Durable {
    behind: Arc<MapStore>,
    blocks: Vec<Bytes>,
}

/// Runs rows through an operator in steps cut at random; gives its output rows.
pub(in crate::operator) fn drive(
    make: &dyn Fn() -> Box<dyn Operator>,
    rows: &[Row],
    chance: &mut Chance,
    disturb: Disturb,
    ctx: &mut StepContext,
) -> Vec<Shown> {
    let mut operator = make();
    let mut durable: Vec<Durable> =
        operator.stores().iter().map(|_| Durable { behind: Arc::default(), blocks: Vec::new() }).collect();
    let (mut from, mut out) = (0, Vec::new());
    while from < rows.len() {
        let to = (from + 1 + chance.below(12) as usize).min(rows.len());
        let numbered = |i: usize| ((i - from) as u32, i as i64, &rows[i]);
        let port = |port| batch(&(from..to).filter(|&i| rows[i].port == port).map(numbered).collect::<Vec<_>>());
        let mut batches = Vec::new();
        let mut progress = operator.process(vec![port(0), port(1)], ctx, &mut batches).unwrap();
        while progress == Progress::More {
            assert!(!batches.is_empty(), "a page that is not the last has rows");
            if disturb != Disturb::Never && chance.below(2) == 0 {
                operator.flush(ctx, &mut batches).unwrap();
                commit(operator.as_mut(), &mut durable, true);
                if disturb == Disturb::Crash {
                    let rest = operator.rest().unwrap().expect("a commit can fall between pages");
                    operator = make();
                    restore(operator.as_mut(), &durable);
                    operator.reopen(rest, ctx).unwrap();
                }
            }
            progress = operator.resume(ctx, &mut batches).unwrap();
        }
        if disturb != Disturb::Never && chance.below(3) == 0 {
            operator.flush(ctx, &mut batches).unwrap();
            commit(operator.as_mut(), &mut durable, chance.below(2) == 0);
            if disturb == Disturb::Crash {
                operator = make();
                restore(operator.as_mut(), &durable);
            }
        }
        let seqs: Vec<u32> = batches.iter().flat_map(|b| b.meta.seq.iter().copied()).collect();
        assert!(ctx.coalesce || seqs.is_sorted(), "{seqs:?}");
        assert!(batches.iter().all(|b| b.len() <= ctx.page_rows && !b.is_empty()));
        out.extend(batches.iter().flat_map(show));
        from = to;
    }
    let mut batches = Vec::new();
    operator.flush(ctx, &mut batches).unwrap();
    out.extend(batches.iter().flat_map(show));
    out
}

fn commit(operator: &mut dyn Operator, durable: &mut [Durable], write: bool) {
    for (store, durable) in operator.stores().into_iter().zip(durable) {
        durable.blocks.extend(store.take_block().unwrap());
        if write {
            durable.behind = Arc::new(durable.behind.written(store.take_writes()));
            durable.blocks.clear();
            store.attach(durable.behind.clone());
            store.evict(0);
        }
    }
}

fn restore(operator: &mut dyn Operator, durable: &[Durable]) {
    for (store, durable) in operator.stores().into_iter().zip(durable) {
        let store: &mut dyn Store = store;
        store.attach(durable.behind.clone());
        durable.blocks.iter().for_each(|block| store.apply_block(block).unwrap());
    }
}

/// A table as it arrived: key → (row time, the row).
pub(in crate::operator) type Kept = BTreeMap<String, (i64, Row)>;

/// Puts or deletes `row`; gives the row before.
pub(in crate::operator) fn keep(table: &mut Kept, row: &Row) -> Option<(i64, Row)> {
    let key = row.key.clone().expect("rows without key are not kept");
    match row.value {
        Some(_) => table.insert(key, (row.time, row.clone())),
        None => table.remove(&key),
    }
}

/// The columns N, S of a row in words.
pub(in crate::operator) fn values(row: Option<&Row>) -> String {
    let value = row.and_then(|r| r.value.clone()).unwrap_or_default();
    format!("{},{}", value.0.map_or("–".into(), |n| n.to_string()), value.1.unwrap_or("–".into()))
}

/// The columns K, N, S of a row in words.
pub(in crate::operator) fn columns(row: Option<&Row>) -> String {
    let key = row.and_then(|r| r.key.clone()).unwrap_or("–".into());
    format!("{key},{}", values(row))
}

#[test]
fn ports_are_read_by_seq_and_port_0_first() {
    let (a, b) = (row(0, 0, "a", Some(1)), row(1, 0, "b", Some(2)));
    let keys = KeyCodec::new(&[DataType::Utf8]).unwrap();
    let open = |rows: &[(u32, i64, &Row)]| Port::open(batch(rows).unwrap(), &keys, None).unwrap();
    let left = open(&[(0, 0, &a), (3, 1, &a), (3, 2, &a)]);
    let right = open(&[(1, 0, &b), (3, 1, &b), (4, 2, &b)]);
    let mut ports = Ports([Some(left), Some(right)]);
    let mut order = Vec::new();
    while let Some(port) = ports.next() {
        order.push((port, ports.port(port).advance(&[])));
    }
    assert_eq!(order, [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (1, 2)]);
}

#[test]
fn picks_of_every_shape_gather_the_same() {
    let a: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2, 3]));
    let b: ArrayRef = Arc::new(Int64Array::from(vec![10, 11]));
    let gather = |picks: &[(usize, usize)]| {
        let out = Picks::new(picks.to_vec()).gather([from_ref(&a), from_ref(&b)]).unwrap();
        out[0].as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    assert_eq!(gather(&[(0, 1), (0, 2)]), [1, 2]);
    assert_eq!(gather(&[(0, 3), (0, 1)]), [3, 1]);
    assert_eq!(gather(&[(1, 1), (0, 0), (1, 0)]), [11, 0, 10]);
    assert_eq!(gather(&[]), [0; 0]);
}
