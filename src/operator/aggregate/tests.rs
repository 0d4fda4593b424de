//! Aggregates against a slow reference that handles one row at a time, with random cuts, pages, commits, restarts and evictions.
//!
//! The reference is `reference.rs`. The subtle thing: whatever happens between steps, outputs must be the same, so one comparison covers
//! batching, restore, read-through and eviction.

mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::logical_expr::{Expr, col};
use datafusion::scalar::ScalarValue;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::reference::{Change, Group, Held, In, Out, Reference, big, reference_change, row_of};
use super::*;
use crate::function::aggregate::resolve;
use crate::operator::LossKind;
use crate::operator::session_aggregate::SessionAggregate;
use crate::operator::stateless::Regroup;
use crate::operator::window_aggregate::WindowAggregate;
use crate::plan::topology::AggregateCall;
use crate::state::block::Block;
use crate::state::encoding::ROWS_END;
use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};
use crate::types::{OldRows, RowMeta, SqlType, WindowKind, WindowSpec};

/// A keyed store in memory; snapshots are copies.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<BTreeMap<Vec<u8>, Bytes>>>);

impl Disk {
    fn write(&self, writes: KeyedWrites) {
        let mut map = self.0.lock();
        for (key, row) in writes {
            match row {
                Some(row) => drop(map.insert(key.to_vec(), row)),
                None => drop(map.remove(&key[..])),
            }
        }
    }

    fn snapshot(&self) -> Arc<dyn KeyedSnapshot> {
        Arc::new(Self(Arc::new(Mutex::new(self.0.lock().clone()))))
    }
}

impl KeyedSnapshot for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TopicError> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TopicError> {
        let map = self.0.lock();
        let mut rows = map.range(from.to_vec()..).take_while(|(key, _)| to.is_none_or(|to| &key[..] < to));
        rows.all(|(key, row)| visit(key, row));
        Ok(())
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![field("K"), field("V")]))
}

fn call(function: &str, args: Vec<Expr>) -> AggregateCall {
    let arg_types = vec![SqlType::BigInt; args.len()];
    let signature = resolve(function, &arg_types, &vec![None; args.len()]).expect("resolves");
    AggregateCall { function: function.into(), args, literals: Vec::new(), arg_types, ty: signature.ty }
}

fn spec(window: Option<WindowSpec>, table: bool, emit_final: bool) -> AggregateSpec {
    let mut calls =
        vec![call("COUNT", vec![]), call("SUM", vec![col("\"V\"")]), call("COLLECT_LIST", vec![col("\"V\"")])];
    if !table {
        calls.push(call("LATEST_BY_OFFSET", vec![col("\"V\"")]));
    }
    AggregateSpec {
        store: "Aggregate-Aggregate-Materialize".into(),
        key_count: 1,
        carried: vec![1],
        calls,
        window,
        table_input: table,
        emit_old: true,
        emit_final,
    }
}

fn make(spec: &AggregateSpec) -> Box<dyn Operator> {
    let limits = FunctionLimits::default();
    match spec.window.map(|window| window.size_ms()) {
        None => Box::new(Aggregate::new(spec, &limits, &schema()).expect("a good spec")),
        Some(Some(_)) => Box::new(WindowAggregate::new(spec, &limits, &schema()).expect("a good spec")),
        Some(None) => Box::new(SessionAggregate::new(spec, &limits, &schema()).expect("a good spec")),
    }
}

fn longs(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn meta(times: impl Iterator<Item = i64>, first: usize, rows: usize) -> RowMeta {
    RowMeta {
        rowtime: times.collect(),
        seq: (0..rows as u32).collect(),
        offset: (first as i64..(first + rows) as i64).collect(),
        window: None,
        headers: None,
        keyed: None,
    }
}

fn batch(rows: &[In], first: usize) -> ChangeBatch {
    ChangeBatch {
        columns: vec![longs(rows.iter().map(|r| r.key)), longs(rows.iter().map(|r| r.value))],
        present: Some(BooleanBuffer::collect_bool(rows.len(), |i| rows[i].present)),
        old: None,
        meta: meta(rows.iter().map(|r| r.time), first, rows.len()),
    }
}

fn read(batches: &[ChangeBatch], windowed: bool) -> Vec<Out> {
    let mut out = Vec::new();
    for batch in batches {
        let cell =
            |columns: &[ArrayRef], c: usize, i: usize| ScalarValue::try_from_array(&columns[c], i).expect("a cell");
        let values = 1..batch.columns.len() - if windowed { 2 } else { 0 };
        for i in 0..batch.len() {
            let ScalarValue::Int64(Some(key)) = cell(&batch.columns, 0, i) else { panic!("a key is NULL") };
            let window = batch.meta.window.as_ref().map_or((0, 0), |w| (w.start[i], w.end[i]));
            if windowed {
                let n = batch.columns.len();
                let bounds = (cell(&batch.columns, n - 2, i), cell(&batch.columns, n - 1, i));
                assert_eq!(bounds, (big(Some(window.0)), big(Some(window.1))));
            }
            let row = |columns: &[ArrayRef]| values.clone().map(|c| cell(columns, c, i)).collect();
            out.push(Out {
                group: (key, window),
                rowtime: batch.meta.rowtime[i],
                offset: batch.meta.offset[i],
                row: batch.is_present(i).then(|| row(&batch.columns)),
                old: batch.old_is_present(i).then(|| row(&batch.old.as_ref().expect("there").columns)),
            });
        }
    }
    out
}

/// An operator with all that stands behind its store.
struct Rig {
    spec: AggregateSpec,
    operator: Box<dyn Operator>,
    disk: Disk,
    blocks: Vec<Bytes>,
    ctx: StepContext,
    /// what happens after each page that is not the last, over and over
    between_pages: Vec<u8>,
    pages: usize,
}

impl Rig {
    fn new(spec: AggregateSpec, page_rows: usize, coalesce: bool) -> Self {
        let (operator, disk) = (make(&spec), Disk::default());
        let ctx = StepContext { page_rows, coalesce, ..StepContext::new() };
        let mut rig = Self { spec, operator, disk, blocks: Vec::new(), ctx, between_pages: vec![0], pages: 0 };
        rig.store().attach(Disk::default().snapshot());
        rig
    }

    fn store(&mut self) -> &mut dyn Store {
        self.operator.stores().pop().expect("it has a store")
    }

    fn step(&mut self, batch: ChangeBatch) -> Vec<ChangeBatch> {
        let mut out = Vec::new();
        let mut progress = self.operator.process(vec![Some(batch)], &mut self.ctx, &mut out).expect("no failure");
        while progress == Progress::More {
            self.happen_between_pages();
            progress = self.operator.resume(&mut self.ctx, &mut out).expect("no failure");
        }
        let seqs: Vec<u32> = out.iter().flat_map(|batch| batch.meta.seq.iter().copied()).collect();
        assert!(seqs.is_sorted(), "seq goes back: {seqs:?}");
        out
    }

    fn happen_between_pages(&mut self) {
        let what = self.between_pages[self.pages % self.between_pages.len()];
        self.pages += 1;
        let rest = self.operator.rest().expect("no failure").expect("a commit can fall here");
        self.happen(what);
        if what == 3 {
            self.operator.reopen(rest, &mut self.ctx).expect("no failure");
        }
    }

    fn flush(&mut self) -> Vec<ChangeBatch> {
        let mut out = Vec::new();
        while self.operator.flush(&mut self.ctx, &mut out).expect("no failure") == Progress::More {
            assert!(out.iter().all(|page| page.len() <= self.ctx.page_rows));
        }
        out
    }

    fn commit(&mut self) {
        let block = self.store().take_block().expect("it encodes");
        self.blocks.extend(block);
        assert_eq!(self.store().dirty_bytes(), 0);
    }

    /// 0: nothing, 1: commit, 2: write behind, 3: restart, 4: evict
    fn happen(&mut self, what: u8) {
        if what > 0 {
            self.commit();
        }
        match what {
            2 => {
                loop {
                    let writes = self.store().take_writes();
                    if writes.is_empty() {
                        break;
                    }
                    self.disk.write(writes);
                }
                self.blocks.clear();
                let snapshot = self.disk.snapshot();
                self.store().attach(snapshot);
                assert_eq!(self.store().unwritten_bytes(), 0);
            }
            3 => {
                self.operator = make(&self.spec);
                let (snapshot, blocks) = (self.disk.snapshot(), self.blocks.clone());
                self.store().attach(snapshot);
                blocks.iter().for_each(|block| self.store().apply_block(block).expect("it reads back"));
            }
            4 => {
                let before = self.store().memory();
                // but for the smallest lists, which may be a little larger after they were moved
                assert!(self.store().evict(0) <= before + 1024);
            }
            _ => {}
        }
    }

    /// What readers see: committed rows.
    fn table(&mut self) -> BTreeMap<Group, (i64, Vec<ScalarValue>)> {
        self.happen(1);
        let mut entries = self.disk.0.lock().clone();
        for block in &self.blocks {
            for (key, row) in Block::open(block).expect("a block").iter() {
                match row {
                    Some(row) => drop(entries.insert(key.to_vec(), Bytes::copy_from_slice(row))),
                    None => drop(entries.remove(key)),
                }
            }
        }
        let reader = AggregateReader::new(&self.spec, &FunctionLimits::default(), &schema()).expect("a good spec");
        let kept_from = reader.kept_from(&Disk(Arc::new(Mutex::new(entries.clone())))).expect("it reads back");
        let kept = |key: &[u8]| kept_from.is_none_or(|bound| reader.is_kept(key, bound).expect("a key"));
        let rows = entries.iter().filter(|(key, _)| &key[..] < ROWS_END && kept(key));
        let batch = reader.finish(rows.map(|(key, row)| (&key[..], &row[..]))).expect("it reads back");
        let rows = read(&[batch], self.spec.window.is_some()).into_iter();
        rows.map(|out| (out.group, (out.rowtime, out.row.expect("present")))).collect()
    }
}

#[derive(Clone, Debug)]
struct Plan {
    rows: Vec<In>,
    cuts: Vec<usize>,
    page_rows: usize,
    happenings: Vec<u8>,
    between_pages: Vec<u8>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let time = prop_oneof![8 => 0_i64..60, 1 => 0_i64..400];
    let row = (
        prop::option::weighted(0.9, 0_i64..3),
        prop::option::weighted(0.8, -5_i64..5),
        time,
        prop::bool::weighted(0.9),
    )
        .prop_map(|(key, value, time, present)| In { key, value, time, present });
    (
        prop::collection::vec(row, 1..50),
        prop::collection::vec(1_usize..12, 1..6),
        1_usize..9,
        prop::collection::vec(0_u8..5, 1..10),
        prop::collection::vec(0_u8..5, 1..6),
    )
        .prop_map(|(mut rows, cuts, page_rows, happenings, between_pages)| {
            // time moves on, with some disorder
            rows.iter_mut().enumerate().for_each(|(i, row)| row.time += 4 * i as i64);
            Plan { rows, cuts, page_rows, happenings, between_pages }
        })
}

/// Batches of the plan, each with the offset of its first row and what happens after it.
fn steps(plan: &Plan) -> Vec<(usize, usize, u8)> {
    let (mut steps, mut at, mut n) = (Vec::new(), 0, 0);
    while at < plan.rows.len() {
        let len = plan.cuts[n % plan.cuts.len()].min(plan.rows.len() - at);
        steps.push((at, len, plan.happenings[n % plan.happenings.len()]));
        at += len;
        n += 1;
    }
    steps
}

fn check(plan: &Plan, window: Option<WindowSpec>, emit_final: bool) -> Result<(), TestCaseError> {
    let spec = spec(window, false, emit_final);
    let mut rig = Rig::new(spec, plan.page_rows, false);
    rig.between_pages.clone_from(&plan.between_pages);
    let mut reference = Reference { next_final: i64::MIN, ..Reference::default() };
    let mut got = Vec::new();
    for (at, len, what) in steps(plan) {
        got.extend(read(&rig.step(batch(&plan.rows[at..at + len], at)), window.is_some()));
        rig.happen(what);
    }
    for (offset, row) in plan.rows.iter().enumerate() {
        reference.row(offset, row, window, emit_final);
    }
    prop_assert_eq!(&got, &reference.out);
    // of time windows, EMIT FINAL tells lost results in the same way
    let all_told = !emit_final || window.is_some_and(|window| window.size_ms().is_none());
    prop_assert!(!all_told || late(&rig) == reference.late, "late: {:?}, not {:?}", late(&rig), reference.late);
    let nulls = rig.ctx.losses.iter().filter(|loss| loss.kind == LossKind::NullKey).count();
    prop_assert_eq!(nulls, plan.rows.iter().filter(|row| row.present && row.key.is_none()).count());
    let table = rig.table();
    let want: BTreeMap<_, _> = reference.groups.iter().map(|(g, (h, t, c))| (*g, (*t, row_of(h, *c, false)))).collect();
    prop_assert_eq!(table, want);
    Ok(())
}

/// Offsets of rows that came too late, once for each window.
fn late(rig: &Rig) -> Vec<usize> {
    let late = rig.ctx.losses.iter().filter(|loss| loss.kind == LossKind::Late);
    late.map(|loss| loss.offset as usize).collect()
}

/// Coalesced output: each flush takes the table from its last state to the present one, with the right old rows.
fn check_coalesced(plan: &Plan, window: Option<WindowSpec>) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(spec(window, false, false), plan.page_rows, true);
    let mut reference = Reference { next_final: i64::MIN, ..Reference::default() };
    let (mut told, mut offset) = (BTreeMap::<Group, Vec<ScalarValue>>::new(), 0);
    for (at, len, what) in steps(plan) {
        let early = rig.step(batch(&plan.rows[at..at + len], at));
        prop_assert!(early.is_empty());
        plan.rows[at..at + len].iter().for_each(|row| {
            reference.row(offset, row, window, false);
            offset += 1;
        });
        let mut now = told.clone();
        for out in reference.out.drain(..) {
            match out.row {
                Some(row) => drop(now.insert(out.group, row)),
                None => drop(now.remove(&out.group)),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for out in read(&rig.flush(), window.is_some()) {
            prop_assert!(seen.insert(out.group), "{:?} twice in a flush", out.group);
            prop_assert_eq!(out.old.as_ref(), told.get(&out.group));
            match out.row {
                Some(row) => drop(told.insert(out.group, row)),
                None => drop(told.remove(&out.group)),
            }
        }
        prop_assert_eq!(&told, &now);
        rig.happen(what);
    }
    Ok(())
}

fn tumbling(retention_ms: i64) -> WindowSpec {
    WindowSpec { kind: WindowKind::Tumbling { size_ms: 20 }, grace_ms: 10, retention_ms }
}

fn hopping() -> WindowSpec {
    WindowSpec { kind: WindowKind::Hopping { size_ms: 25, advance_ms: 10 }, grace_ms: 15, retention_ms: 60 }
}

fn session(retention_ms: i64) -> WindowSpec {
    WindowSpec { kind: WindowKind::Session { gap_ms: 7 }, grace_ms: 10, retention_ms }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn groups_equal_the_reference(plan in plans()) {
        check(&plan, None, false)?;
        check_coalesced(&plan, None)?;
    }

    #[test]
    fn windows_equal_the_reference(plan in plans()) {
        check(&plan, Some(tumbling(100)), false)?;
        check(&plan, Some(hopping()), false)?;
        check_coalesced(&plan, Some(hopping()))?;
    }

    #[test]
    fn final_results_equal_the_reference(plan in plans()) {
        check(&plan, Some(tumbling(30)), true)?;
        check(&plan, Some(hopping()), true)?;
    }

    #[test]
    fn sessions_equal_the_reference(plan in plans()) {
        check(&plan, Some(session(40)), false)?;
        check_coalesced(&plan, Some(session(40)))?;
    }

    #[test]
    fn final_sessions_equal_the_reference(plan in plans()) {
        check(&plan, Some(session(40)), true)?;
    }
}

fn check_table(changes: &[Change], plan: &Plan) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(spec(None, true, false), plan.page_rows, false);
    let mut regroup = Regroup::new(&[col("\"K\""), col("\"V\"")], 1, &schema()).expect("good expressions");
    let mut rows: BTreeMap<usize, (Option<i64>, Option<i64>)> = BTreeMap::new();
    let mut groups: BTreeMap<i64, (Held, i64, Option<i64>)> = BTreeMap::new();
    let (mut got, mut want, mut at, mut n) = (Vec::new(), Vec::new(), 0, 0);
    while at < changes.len() {
        let part = &changes[at..(at + plan.cuts[n % plan.cuts.len()]).min(changes.len())];
        let old: Vec<_> = part
            .iter()
            .map(|(pk, new)| {
                let old = rows.get(pk).copied();
                match new {
                    Some(new) => drop(rows.insert(*pk, *new)),
                    None => drop(rows.remove(pk)),
                }
                old
            })
            .collect();
        for (i, ((_, new), old)) in part.iter().zip(&old).enumerate() {
            reference_change(&mut groups, *old, *new, at + i, &mut want);
        }
        let columns = |rows: &[Option<(Option<i64>, Option<i64>)>]| {
            vec![longs(rows.iter().map(|r| r.and_then(|r| r.0))), longs(rows.iter().map(|r| r.and_then(|r| r.1)))]
        };
        let new: Vec<_> = part.iter().map(|(_, new)| *new).collect();
        let there = |rows: &[Option<(Option<i64>, Option<i64>)>]| {
            Some(BooleanBuffer::collect_bool(rows.len(), |i| rows[i].is_some()))
        };
        let batch = ChangeBatch {
            columns: columns(&new),
            present: there(&new),
            old: Some(OldRows { columns: columns(&old), present: there(&old) }),
            meta: meta((at..at + part.len()).map(|t| t as i64), at, part.len()),
        };
        let mut regrouped = Vec::new();
        regroup.process(vec![Some(batch)], &mut rig.ctx, &mut regrouped).expect("no failure");
        for batch in regrouped {
            got.extend(read(&rig.step(batch), false));
        }
        rig.happen(plan.happenings[n % plan.happenings.len()]);
        at += part.len();
        n += 1;
    }
    prop_assert_eq!(got, want);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn tables_equal_the_reference(
        changes in prop::collection::vec(
            (0_usize..5, prop::option::weighted(0.8, (prop::option::weighted(0.9, 0_i64..3), prop::option::weighted(0.8, -3_i64..3)))),
            1..50,
        ),
        plan in plans(),
    ) {
        check_table(&changes, &plan)?;
    }
}

#[test]
fn jumps_of_time_lose_final_results_and_say_so() {
    let mut rig = Rig::new(spec(Some(tumbling(30)), false, true), 100, false);
    let rows: Vec<In> =
        [3, 1000].iter().map(|&time| In { key: Some(1), value: Some(1), time, present: true }).collect();
    assert!(rig.step(batch(&rows, 0)).is_empty());
    let reasons: Vec<_> = rig.ctx.losses.iter().map(|loss| loss.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the results of 1 groups in the window from 0 to 20 are lost: stream time jumped to 1000, beyond the retention of 30 ms"
        ]
    );
}

#[test]
fn a_jump_over_many_windows_notes_a_page_of_results() {
    let (windows, page) = (1000, 10);
    let kind = WindowKind::Tumbling { size_ms: 20 };
    let spec = spec(Some(WindowSpec { kind, grace_ms: 1_000_000, retention_ms: 10_000_000 }), false, true);
    let mut operator = WindowAggregate::new(&spec, &FunctionLimits::default(), &schema()).expect("a good spec");
    let mut ctx = StepContext { page_rows: page, ..StepContext::new() };
    let times = (0..windows).map(|n| 20 * n).chain([2_000_000]);
    let rows: Vec<In> = times.map(|time| In { key: Some(1), value: Some(1), time, present: true }).collect();
    let (mut out, mut most) = (Vec::new(), 0);
    let mut progress = operator.process(vec![Some(batch(&rows, 0))], &mut ctx, &mut out).expect("no failure");
    while progress == Progress::More {
        most = most.max(operator.due());
        progress = operator.resume(&mut ctx, &mut out).expect("no failure");
    }
    assert!(0 < most && most <= page, "{most} results were noted at once");
    let starts: Vec<i64> = read(&out, true).iter().map(|out| out.group.1.0).collect();
    assert_eq!(starts, (0..windows).map(|n| 20 * n).collect::<Vec<_>>());
}

#[test]
fn expired_windows_leave_memory_and_the_store_behind() {
    let mut rig = Rig::new(spec(Some(tumbling(30)), false, false), 100, false);
    let row = |time| vec![In { key: Some(1), value: Some(1), time, present: true }];
    for time in 0..5 {
        rig.step(batch(&row(time * 20), 0));
        rig.happen(2);
        rig.happen(4);
    }
    // all but the first step's windows were read back or swept from the store behind
    for time in [1000, 1001, 1002] {
        rig.step(batch(&row(time), 0));
        rig.happen(2);
    }
    let groups: Vec<Group> = rig.table().into_keys().collect();
    assert_eq!(groups, [(1, (1000, 1020))]);
}

#[test]
fn eviction_gives_memory_back() {
    let mut rig = Rig::new(spec(None, false, false), 100_000, true);
    let rows: Vec<In> =
        (0..20_000).map(|key| In { key: Some(key), value: Some(key), time: key, present: true }).collect();
    rig.step(batch(&rows, 0));
    rig.flush();
    let full = rig.store().memory();
    assert_eq!(rig.store().evict(0), full, "dirty groups stay");
    rig.happen(2);
    let left = rig.store().evict(full / 10);
    assert!(left <= full / 5, "{left} of {full} bytes are left");
    // and what was evicted comes back
    rig.ctx.coalesce = false;
    let again = read(&rig.step(batch(&rows[..10], 0)), false);
    assert!(again.iter().all(|out| out.row.as_ref().is_some_and(|row| row[1] == big(Some(2)))));
}
