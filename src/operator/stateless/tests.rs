//! Filter, Project, FlatMap and Regroup on small batches: rows that are absent, old rows, and losses.
//!
//! Rows are written as `(key, value)`, `None` where absent. The subtle thing: for tables both halves of a row are checked.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, Int64Builder, ListArray, ListBuilder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, col, lit, when};

use super::*;
use crate::operator::flat_map::{FlatMap, TableFunction};
use crate::types::RowMeta;

type Row = Option<(i64, i64)>;

fn schema() -> SchemaRef {
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![field("K"), field("V")]))
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    // what value columns of absent rows hold means nothing: here 99
    let keys: Int64Array = rows.iter().enumerate().map(|(i, row)| row.map_or(i as i64, |row| row.0)).collect();
    let values: Int64Array = rows.iter().map(|row| row.map_or(99, |row| row.1)).collect();
    vec![Arc::new(keys), Arc::new(values)]
}

fn present(rows: &[Row]) -> Option<BooleanBuffer> {
    Some(BooleanBuffer::collect_bool(rows.len(), |i| rows[i].is_some()))
}

fn batch(new: &[Row], old: Option<&[Row]>) -> ChangeBatch {
    let n = new.len();
    ChangeBatch {
        columns: columns(new),
        present: present(new),
        old: old.map(|old| OldRows { columns: columns(old), present: present(old) }),
        meta: RowMeta {
            rowtime: (0..n as i64).map(|i| 1000 + i).collect(),
            seq: (0..n as u32).collect(),
            offset: (0..n as i64).map(|i| 10 * i).collect(),
            window: None,
            headers: None,
            keyed: None,
        },
    }
}

/// Key, new value and old value of each row; the key is that of the columns.
fn read(batches: &[ChangeBatch]) -> Vec<(Option<i64>, Option<i64>, Option<i64>)> {
    let cell = |column: &ArrayRef, i: usize| {
        let column = column.as_primitive::<Int64Type>();
        column.is_valid(i).then(|| column.value(i))
    };
    let rows = batches.iter().flat_map(|batch| {
        (0..batch.len()).map(move |i| {
            let old = batch.old.as_ref().filter(|_| batch.old_is_present(i));
            let new = batch.is_present(i).then(|| cell(&batch.columns[1], i)).flatten();
            (cell(&batch.columns[0], i), new, old.and_then(|old| cell(&old.columns[1], i)))
        })
    });
    rows.collect()
}

fn run(operator: &mut dyn Operator, batch: ChangeBatch) -> (Vec<ChangeBatch>, StepContext) {
    let (mut ctx, mut out) = (StepContext::new(), Vec::new());
    assert_eq!(operator.process(vec![Some(batch)], &mut ctx, &mut out).expect("no failure"), Progress::Done);
    (out, ctx)
}

fn v() -> Expr {
    col("\"V\"")
}

#[test]
fn a_stream_filter_drops_absent_rows_and_what_does_not_pass() {
    let mut filter = Filter::new(&v().gt(lit(5_i64)), false, &schema()).expect("a good predicate");
    let (out, _) = run(&mut filter, batch(&[Some((0, 9)), None, Some((2, 3)), Some((3, 6))], None));
    assert_eq!(read(&out), [(Some(0), Some(9), None), (Some(3), Some(6), None)]);
    assert_eq!(out[0].present, None);
    assert_eq!(out[0].meta.offset.to_vec(), [0, 30]);
}

#[test]
fn a_table_filter_gives_tombstones_for_what_passed_before_only() {
    let mut filter = Filter::new(&v().gt(lit(5_i64)), true, &schema()).expect("a good predicate");
    let new = [Some((0, 9)), Some((1, 3)), Some((2, 3)), None, None, Some((5, 8))];
    let old = [None, Some((1, 7)), Some((2, 2)), Some((3, 7)), Some((4, 1)), Some((5, 1))];
    let (out, _) = run(&mut filter, batch(&new, Some(&old)));
    let want = [
        (Some(0), Some(9), None),
        (Some(1), None, Some(7)),
        (Some(3), None, Some(7)),
        // the old row did not pass, so downstream never had it
        (Some(5), Some(8), None),
    ];
    assert_eq!(read(&out), want);
}

#[test]
fn project_hands_columns_on_and_keeps_keys_of_absent_rows() {
    let is_large = when(v().gt(lit(6_i64)), lit(1_i64)).otherwise(lit(0_i64)).expect("a good expression");
    let exprs = [col("\"K\""), is_large];
    let mut project = Project::new(&exprs, true, &schema(), 1, 1).expect("good expressions");
    let input = batch(&[Some((0, 9)), None], Some(&[Some((0, 4)), None]));
    let (out, _) = run(&mut project, input.clone());
    assert_eq!(read(&out), [(Some(0), Some(1), Some(0)), (Some(1), None, None)]);
    assert!(Arc::ptr_eq(&out[0].columns[0], &input.columns[0]));
}

#[test]
fn a_key_made_of_a_value_is_null_for_an_absent_row() {
    let mut project = Project::new(&[v(), v()], false, &schema(), 1, 1).expect("good expressions");
    let (out, _) = run(&mut project, batch(&[Some((0, 9)), None], None));
    assert_eq!(read(&out), [(Some(9), Some(9), None), (None, None, None)]);
}

/// Gives the numbers below its argument; fails for 7.
struct Below;

impl TableFunction for Below {
    fn lists(&self, argument: &ArrayRef, report: Report<'_>) -> Result<ListArray, DataFusionError> {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for (row, n) in argument.as_primitive::<Int64Type>().iter().enumerate() {
            let n = n.filter(|n| *n != 7);
            if n.is_none() {
                report(row, "seven is too many");
            }
            (0..n.unwrap_or(0)).for_each(|i| lists.values().append_value(i));
            lists.append(n.is_some());
        }
        Ok(lists.finish())
    }
}

#[test]
fn table_functions_are_zipped_and_padded() {
    let functions: Vec<Box<dyn TableFunction>> = vec![Box::new(Below), Box::new(Below)];
    let arguments = [v(), col("\"K\"")];
    let mut flat_map = FlatMap::new(functions, &arguments, &[0], &schema()).expect("good expressions");
    let input = batch(&[Some((1, 3)), None, Some((0, 0)), Some((0, 7)), Some((2, 1))], None);
    let (out, ctx) = run(&mut flat_map, input);
    let third: Vec<_> = out[0].columns[2].as_primitive::<Int64Type>().iter().collect();
    let firsts: Vec<_> = read(&out).into_iter().map(|(key, first, _)| (key, first)).collect();
    let want = [(Some(1), Some(0)), (Some(1), Some(1)), (Some(1), Some(2)), (Some(2), Some(0)), (Some(2), None)];
    assert_eq!(firsts, want);
    assert_eq!(third, [Some(0), None, None, Some(0), Some(1)]);
    assert_eq!(out[0].meta.seq.to_vec(), [0, 0, 0, 4, 4]);
    let losses: Vec<_> = ctx.losses.iter().map(|loss| (loss.offset, loss.kind)).collect();
    assert_eq!(losses, [(30, LossKind::Expression)], "absent rows fail silently");
}

#[test]
fn regroup_splits_changes_that_move() {
    // grouped by V; the argument is K
    let mut regroup = Regroup::new(&[v(), col("\"K\"")], 1, &schema()).expect("good expressions");
    let new = [Some((0, 1)), Some((1, 2)), None, None];
    let old = [Some((0, 1)), Some((1, 5)), Some((2, 6)), None];
    let (out, _) = run(&mut regroup, batch(&new, Some(&old)));
    let want = [
        (Some(1), Some(0), Some(0)),
        // the undo half first, under the old key
        (Some(5), None, Some(1)),
        (Some(2), Some(1), None),
        (Some(6), None, Some(2)),
    ];
    assert_eq!(read(&out), want);
    assert_eq!(out[0].meta.seq.to_vec(), [0, 1, 1, 2]);
    let old_keys: Vec<_> =
        out[0].old.as_ref().expect("old rows").columns[0].as_primitive::<Int64Type>().iter().collect();
    assert_eq!(old_keys, [Some(1), Some(5), Some(2), Some(6)], "both halves have one key");
}

#[test]
fn regroup_skips_halves_without_a_key() {
    let mut regroup = Regroup::new(&[v(), col("\"K\"")], 1, &schema()).expect("good expressions");
    let mut input = batch(&[Some((0, 1)), Some((1, 2))], Some(&[Some((0, 5)), Some((1, 6))]));
    input.columns[1] = Arc::new(Int64Array::from(vec![None, Some(2)]));
    let old = input.old.as_mut().expect("old rows");
    old.columns[1] = Arc::new(Int64Array::from(vec![Some(5), None]));
    let (out, ctx) = run(&mut regroup, input);
    assert_eq!(read(&out), [(Some(5), None, Some(0)), (Some(2), Some(1), None)]);
    let losses: Vec<_> = ctx.losses.iter().map(|loss| (loss.offset, loss.kind)).collect();
    assert_eq!(losses, [(0, LossKind::NullKey)], "old halves were reported when they were new");
}
