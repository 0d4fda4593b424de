//! Both sides of a foreign-key join over several partitions, against a table held in a map.
//!
//! The topics between are queues that are read at random, some rows at a time, so that answers are late in every way. The subtle thing: what
//! is given out between depends on that; what the table is at the end does not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::logical_expr::col;

use super::left::ForeignKeyLeft;
use super::right::ForeignKeyRight;
use crate::operator::{LossKind, Operator, Progress, StepContext};
use crate::plan::foreign_key::ForeignKeySpec;
use crate::plan::topology::JoinKind;
use crate::state::Store;
use crate::state::encoding::KeyCodec;
use crate::state::encoding::tests::Chance;
use crate::state::keyed::tests::MapStore;
use crate::types::{ChangeBatch, RowMeta};

const PARTITIONS: usize = 3;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect::<Vec<_>>()))
}

/// Left: `LK BIGINT KEY, F STRING, N BIGINT, P INT`; right: `RK STRING KEY, V BIGINT`; `F = RK`.
fn spec(kind: JoinKind) -> ForeignKeySpec {
    ForeignKeySpec {
        kind,
        left_store: "left".into(),
        right_store: "right".into(),
        subscription_store: "subscriptions".into(),
        left: schema(&[("LK", DataType::Int64), ("F", DataType::Utf8), ("N", DataType::Int64), ("P", DataType::Int32)]),
        left_keys: 1,
        partition: 3,
        right: schema(&[("RK", DataType::Utf8), ("V", DataType::Int64)]),
        foreign_key: col("\"F\""),
    }
}

fn meta(offset: i64, time: i64) -> RowMeta {
    let (rowtime, seq, offset) = (vec![time].into(), vec![0].into(), vec![offset].into());
    RowMeta { rowtime, seq, offset, window: None, headers: None, keyed: None }
}

/// A left row; `value`: what it refers to, and N.
fn left_row(key: i64, value: Option<(Option<&str>, i64)>, partition: i32, offset: i64, time: i64) -> ChangeBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![key])),
        Arc::new(StringArray::from(vec![value.map_or(Some("garbage"), |v| v.0)])),
        Arc::new(Int64Array::from(vec![value.map_or(-1, |v| v.1)])),
        Arc::new(Int32Array::from(vec![partition])),
    ];
    let present = value.is_none().then(|| [false].iter().copied().collect());
    ChangeBatch { columns, present, old: None, meta: meta(offset, time) }
}

fn right_row(key: &str, value: Option<i64>, offset: i64, time: i64) -> ChangeBatch {
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec![key])), Arc::new(Int64Array::from(vec![value.unwrap_or(-1)]))];
    let present = value.is_none().then(|| [false].iter().copied().collect());
    ChangeBatch { columns, present, old: None, meta: meta(offset, time) }
}

/// An operator, what stands behind its stores, and its inputs.
struct Side {
    operator: Box<dyn Operator>,
    behind: Vec<Arc<MapStore>>,
    blocks: Vec<Vec<Bytes>>,
    inputs: [VecDeque<ChangeBatch>; 2],
}

impl Side {
    fn new(operator: Box<dyn Operator>) -> Self {
        let mut side = Self { operator, behind: Vec::new(), blocks: Vec::new(), inputs: Default::default() };
        let count = side.operator.stores().len();
        (side.behind, side.blocks) = ((0..count).map(|_| Arc::default()).collect(), vec![Vec::new(); count]);
        side.attach();
        side
    }

    fn attach(&mut self) {
        for ((store, behind), blocks) in self.operator.stores().into_iter().zip(&self.behind).zip(&self.blocks) {
            let store: &mut dyn Store = store;
            store.attach(behind.clone());
            blocks.iter().for_each(|block| store.apply_block(block).expect("a block of its own"));
        }
    }

    /// Commits; perhaps writes behind and lets everything leave memory.
    fn commit(&mut self, write: bool) {
        for (n, store) in self.operator.stores().into_iter().enumerate() {
            self.blocks[n].extend(store.take_block().expect("it encodes"));
            if write {
                self.behind[n] = Arc::new(self.behind[n].written(store.take_writes()));
                self.blocks[n].clear();
                store.attach(self.behind[n].clone());
                store.evict(0);
            }
        }
    }

    /// A few rows of the inputs in a random order, with a restart between pages, or after them. Gives results and what was told.
    fn step(
        &mut self,
        make: &dyn Fn() -> Box<dyn Operator>,
        chance: &mut Chance,
        ctx: &mut StepContext,
    ) -> (Vec<ChangeBatch>, Vec<ChangeBatch>) {
        let mut taken = [Vec::new(), Vec::new()];
        for seq in 0..1 + chance.below(4) as u32 {
            let port = chance.below(2) as usize;
            if let Some(mut row) = self.inputs[port].pop_front() {
                row.meta.seq = vec![seq].into();
                taken[port].push(row);
            }
        }
        let step = taken.into_iter().map(join).collect();
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let mut progress = self.operator.process(step, ctx, &mut out).expect("no failure");
        loop {
            let seqs: Vec<u32> = out.iter().flat_map(|page| page.meta.seq.iter().copied()).collect();
            assert!(seqs.is_sorted(), "{seqs:?}");
            told.extend(self.operator.side());
            assert!(out.iter().all(|page| page.len() <= ctx.page_rows));
            let what = chance.below(6);
            if what > 0 {
                self.commit(what > 3);
            }
            let rest = match progress {
                Progress::More => Some(self.operator.rest().expect("no failure").expect("a commit can fall here")),
                Progress::Done => None,
            };
            if what == 3 || what == 5 {
                self.operator = make();
                self.attach();
            }
            match rest {
                None => return (out, told),
                Some(rest) if what == 3 || what == 5 => self.operator.reopen(rest, ctx).expect("its own"),
                Some(_) => {}
            }
            progress = self.operator.resume(ctx, &mut out).expect("no failure");
        }
    }
}

/// These rows as one batch.
fn join(rows: Vec<ChangeBatch>) -> Option<ChangeBatch> {
    let first = rows.first()?;
    let column =
        |i: usize| concat(&rows.iter().map(|row| row.columns[i].as_ref()).collect::<Vec<_>>()).expect("one type");
    Some(ChangeBatch {
        columns: (0..first.columns.len()).map(column).collect(),
        present: Some(rows.iter().map(|row| row.is_present(0)).collect()),
        old: None,
        meta: RowMeta {
            rowtime: rows.iter().map(|row| row.meta.rowtime[0]).collect(),
            seq: rows.iter().map(|row| row.meta.seq[0]).collect(),
            offset: rows.iter().map(|row| row.meta.offset[0]).collect(),
            window: None,
            headers: None,
            keyed: None,
        },
    })
}

fn rows(batch: &ChangeBatch) -> impl Iterator<Item = ChangeBatch> + '_ {
    (0..batch.len() as u32).map(|row| batch.take(&[row]).expect("in range"))
}

fn text(column: &ArrayRef) -> Option<String> {
    let column = column.as_string::<i32>();
    column.is_valid(0).then(|| column.value(0).to_owned())
}

fn long(column: &ArrayRef) -> Option<i64> {
    let column = column.as_primitive::<Int64Type>();
    column.is_valid(0).then(|| column.value(0))
}

/// Where a right row's task is.
fn place(key: &str) -> usize {
    key.bytes().map(usize::from).sum::<usize>() % PARTITIONS
}

/// What a joined row holds: the reference, N, the right row.
type Joined = (Option<String>, Option<i64>, Option<(String, i64)>);

/// All tasks of a join, and what the table of their results is so far.
struct World {
    kind: JoinKind,
    lefts: Vec<Side>,
    rights: Vec<Side>,
    table: BTreeMap<i64, Joined>,
    chance: Chance,
    ctx: StepContext,
}

impl World {
    fn new(kind: JoinKind, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let sides = |make: fn(JoinKind) -> Box<dyn Operator>| (0..PARTITIONS).map(|_| Side::new(make(kind))).collect();
        let ctx = StepContext { page_rows: 1 + chance.below(3) as usize, ..StepContext::new() };
        Self { kind, lefts: sides(make_left), rights: sides(make_right), table: BTreeMap::new(), chance, ctx }
    }

    /// Lets a random task take a step; false if none has anything to read.
    fn turn(&mut self) -> bool {
        let waits = |side: &Side| side.inputs.iter().any(|input| !input.is_empty());
        let ready: Vec<usize> =
            self.lefts.iter().chain(&self.rights).enumerate().filter(|(_, side)| waits(side)).map(|(n, _)| n).collect();
        if ready.is_empty() {
            return false;
        }
        let kind = self.kind;
        let n = ready[self.chance.below(ready.len() as u64) as usize];
        if n < PARTITIONS {
            let (results, told) = self.lefts[n].step(&|| make_left(kind), &mut self.chance, &mut self.ctx);
            results.iter().flat_map(rows).for_each(|row| self.result(&row));
            for row in told.iter().flat_map(rows) {
                let key = text(&row.columns[0]).expect("nothing is told of NULL");
                self.rights[place(&key)].inputs[0].push_back(row);
            }
        } else {
            let (answers, _) = self.rights[n - PARTITIONS].step(&|| make_right(kind), &mut self.chance, &mut self.ctx);
            for row in answers.iter().flat_map(rows) {
                let partition = row.columns[1].as_primitive::<Int32Type>().value(0);
                self.lefts[partition as usize].inputs[1].push_back(row);
            }
        }
        true
    }

    fn result(&mut self, row: &ChangeBatch) {
        let key = long(&row.columns[0]).expect("a key");
        if !row.is_present(0) {
            self.table.remove(&key);
            return;
        }
        let right = text(&row.columns[4]).map(|key| (key, long(&row.columns[5]).expect("a value")));
        self.table.insert(key, (text(&row.columns[1]), long(&row.columns[2]), right));
    }
}

/// Stored keys of the subscriptions that a task keeps.
fn subscriptions(right: &mut Side) -> BTreeSet<Vec<u8>> {
    right.commit(true);
    right.behind[1].entries.keys().cloned().collect()
}

/// The key of a subscription.
fn subscription(reference: &str, left: i64) -> Vec<u8> {
    let encode = |ty: DataType, column: ArrayRef| {
        let codec = KeyCodec::new(&[ty]).expect("a key type");
        codec.encode(&[column], 1).expect("one type").row(0).to_vec()
    };
    let reference = encode(DataType::Utf8, Arc::new(StringArray::from(vec![reference])));
    [reference, encode(DataType::Int64, Arc::new(Int64Array::from(vec![left])))].concat()
}

fn make_left(kind: JoinKind) -> Box<dyn Operator> {
    Box::new(ForeignKeyLeft::new(&spec(kind)).expect("a good spec"))
}

fn make_right(kind: JoinKind) -> Box<dyn Operator> {
    Box::new(ForeignKeyRight::new(&spec(kind)).expect("a good spec"))
}

/// Random changes of both tables, read in random order; at the end the table is the join of what the two tables are, and right tasks know
/// just those left rows that refer to something now (a forgotten one would only be answered in vain, which no result shows).
fn check(kind: JoinKind, seed: u64) {
    let mut world = World::new(kind, seed);
    let (mut left_table, mut right_table) = (BTreeMap::new(), BTreeMap::new());
    for n in 0..30 + world.chance.below(60) as i64 {
        let right = ["a", "b", "c", "d"][world.chance.below(4) as usize];
        if world.chance.below(3) == 0 {
            let value = (world.chance.below(3) != 0).then_some(n);
            world.rights[place(right)].inputs[1].push_back(right_row(right, value, n, n));
            right_table.insert(right, value);
        } else {
            let key = world.chance.below(5) as i64;
            let reference = (world.chance.below(4) != 0).then_some(right);
            let value = (world.chance.below(4) != 0).then(|| (reference, world.chance.below(2) as i64));
            let partition = key as usize % PARTITIONS;
            world.lefts[partition].inputs[0].push_back(left_row(key, value, partition as i32, n, n));
            left_table.insert(key, value);
        }
        for _ in 0..world.chance.below(4) {
            world.turn();
        }
    }
    while world.turn() {}
    let mut want: BTreeMap<i64, Joined> = BTreeMap::new();
    for (key, value) in &left_table {
        let Some((reference, n)) = *value else { continue };
        let right = reference.and_then(|key: &str| Some((key.to_owned(), (*right_table.get(key)?)?)));
        if kind == JoinKind::Left || right.is_some() {
            want.insert(*key, (reference.map(str::to_owned), Some(n), right));
        }
    }
    assert_eq!(world.table, want, "{kind:?}, seed {seed}");
    let mut subscribed = vec![BTreeSet::new(); PARTITIONS];
    for (key, value) in &left_table {
        if let Some((Some(reference), _)) = value {
            subscribed[place(reference)].insert(subscription(reference, *key));
        }
    }
    let kept: Vec<_> = world.rights.iter_mut().map(subscriptions).collect();
    assert_eq!(kept, subscribed, "{kind:?}, seed {seed}");
}

#[test]
fn the_table_is_the_join_whatever_the_order_of_delivery() {
    for seed in 0..400 {
        check(JoinKind::Inner, seed);
        check(JoinKind::Left, seed);
    }
}

#[test]
fn answers_come_in_order_of_left_keys_page_by_page() {
    let mut right = Side::new(make_right(JoinKind::Inner));
    let mut left = Side::new(make_left(JoinKind::Inner));
    let mut ctx = StepContext { page_rows: 10, ..StepContext::new() };
    for key in (0..95).rev() {
        let mut out = Vec::new();
        let row = left_row(key, Some((Some("a"), key)), 0, key, 0);
        left.operator.process(vec![Some(row), None], &mut ctx, &mut out).unwrap();
        let told = left.operator.side();
        assert!(out.is_empty() && told.len() == 1);
        right.operator.process(vec![told.into_iter().next(), None], &mut ctx, &mut out).unwrap();
        assert!(out.is_empty(), "an INNER join says nothing without a right row");
        right.commit(key % 7 == 0);
    }
    let mut pages = Vec::new();
    let change = right_row("a", Some(7), 1000, 50);
    let mut progress = right.operator.process(vec![None, Some(change)], &mut ctx, &mut pages).unwrap();
    while progress == Progress::More {
        let rest = right.operator.rest().unwrap().expect("a commit can fall here");
        right.commit(pages.len() % 2 == 0);
        right.operator = make_right(JoinKind::Inner);
        right.attach();
        right.operator.reopen(rest, &mut ctx).unwrap();
        progress = right.operator.resume(&mut ctx, &mut pages).unwrap();
    }
    assert_eq!(pages.iter().filter(|page| page.len() == 10).count(), 9);
    let keys: Vec<i64> =
        pages.iter().flat_map(|page| page.columns[0].as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(keys, (0..95).collect::<Vec<i64>>());
    assert!(pages.iter().all(|page| page.meta.rowtime.iter().all(|&time| time == 50)));
}

#[test]
fn a_null_reference_is_told_and_takes_the_result_of_an_inner_join_away() {
    let mut left = Side::new(make_left(JoinKind::Inner));
    let (mut ctx, mut out) = (StepContext::new(), Vec::new());
    for (n, reference) in [(0, Some("a")), (1, None), (2, None)] {
        let row = left_row(1, Some((reference, 5)), 0, n, n);
        left.operator.process(vec![Some(row), None], &mut ctx, &mut out).unwrap();
    }
    assert_eq!(out.len(), 1, "a tombstone when the reference goes, and none for what joined nothing");
    assert!(!out[0].is_present(0) && out[0].meta.rowtime[0] == 1);
    let lost: Vec<_> = ctx.losses.iter().map(|loss| (loss.offset, loss.kind)).collect();
    assert_eq!(lost, [(1, LossKind::NullKey), (2, LossKind::NullKey)]);
}

#[test]
fn an_older_right_row_gives_its_time_only_if_it_comes_after_the_left_one() {
    for right_first in [true, false] {
        let (mut left, mut right) = (make_left(JoinKind::Inner), make_right(JoinKind::Inner));
        let mut ctx = StepContext::new();
        let mut step = |operator: &mut Box<dyn Operator>, rows: [Option<ChangeBatch>; 2]| {
            let mut out = Vec::new();
            operator.process(rows.into(), &mut ctx, &mut out).unwrap();
            out.pop()
        };
        let row = left_row(1, Some((Some("a"), 5)), 0, 0, 10);
        assert!(step(&mut left, [Some(row), None]).is_none());
        let mut messages = [[left.side().pop(), None], [None, Some(right_row("a", Some(7), 0, 5))]];
        if right_first {
            messages.reverse();
        }
        let answers: Vec<ChangeBatch> = messages.into_iter().filter_map(|rows| step(&mut right, rows)).collect();
        let [answer] = &answers[..] else { panic!("one answer: {answers:?}") };
        let result = step(&mut left, [None, Some(answer.clone())]).expect("a result");
        assert_eq!(result.meta.rowtime[0], if right_first { 10 } else { 5 });
    }
}
