//! Accumulators against slow models: random values, groups and undos, cut into random batches, saved and loaded on the way.
//!
//! A model sees the list of values a group holds (or all that ever came, where nothing can be taken away) and nothing of slots. The
//! subtle thing: it is asked after every single update, so a value given out one row too late fails.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;

use super::{AccumulatorArgs, Emit, Slot, Update, accumulator, resolve};
use crate::function::FunctionLimits;
use crate::types::SqlType;

const SLOTS: usize = 3;

/// A function under test: its call, and what it gives for the values of a group.
struct Case {
    function: &'static str,
    literals: Vec<ScalarValue>,
    model: fn(&[ScalarValue], &SqlType) -> ScalarValue,
}

fn case(function: &'static str, model: fn(&[ScalarValue], &SqlType) -> ScalarValue) -> Case {
    Case { function, literals: Vec::new(), model }
}

fn with(function: &'static str, literals: &[ScalarValue], model: fn(&[ScalarValue], &SqlType) -> ScalarValue) -> Case {
    Case { function, literals: literals.to_vec(), model }
}

fn cases() -> Vec<Case> {
    let (two, keep) = (ScalarValue::from(2_i32), ScalarValue::from(false));
    vec![
        case("COUNT", |held, _| ScalarValue::from(not_null(held).len() as i64)),
        case("SUM", sum),
        case("AVG", average),
        case("MAX", |held, ty| extreme(held, ty, true)),
        case("MIN", |held, ty| extreme(held, ty, false)),
        case("LATEST_BY_OFFSET", |held, ty| not_null(held).last().cloned().unwrap_or(null(ty))),
        case("EARLIEST_BY_OFFSET", |held, ty| not_null(held).first().cloned().unwrap_or(null(ty))),
        with("LATEST_BY_OFFSET", &[keep.clone()], |held, ty| held.last().cloned().unwrap_or(null(ty))),
        with("EARLIEST_BY_OFFSET", &[keep.clone()], |held, ty| held.first().cloned().unwrap_or(null(ty))),
        with("LATEST_BY_OFFSET", &[two.clone()], |held, ty| {
            let held = not_null(held);
            list(&held[held.len().saturating_sub(2)..], ty)
        }),
        with("EARLIEST_BY_OFFSET", &[two.clone(), keep], |held, ty| list(&held[..held.len().min(2)], ty)),
        case("COLLECT_LIST", |held, ty| list(&held[..held.len().min(5)], ty)),
        case("COLLECT_SET", |held, ty| list(&distinct(held), ty)),
        with("TOPK", &[two.clone()], |held, ty| top(&not_null(held), ty)),
        with("TOPKDISTINCT", &[two], |held, ty| top(&distinct(&not_null(held)), ty)),
        case("COUNT_DISTINCT", |held, _| ScalarValue::from(distinct(&not_null(held)).len() as i64)),
        case("ATTR", |held, ty| match &distinct(held)[..] {
            [only] => only.clone(),
            _ => null(ty),
        }),
        case("STDDEV_SAMPLE", |held, _| ScalarValue::from(variance(held).sqrt())),
        case("STDDEV_SAMP", |held, _| ScalarValue::from(variance(held))),
    ]
}

fn null(ty: &SqlType) -> ScalarValue {
    ScalarValue::try_from(&ty.to_arrow()).expect("every type has a NULL")
}

fn not_null(held: &[ScalarValue]) -> Vec<ScalarValue> {
    held.iter().filter(|value| !value.is_null()).cloned().collect()
}

fn distinct(held: &[ScalarValue]) -> Vec<ScalarValue> {
    held.iter().enumerate().filter(|(i, value)| !held[..*i].contains(value)).map(|(_, value)| value.clone()).collect()
}

fn list(values: &[ScalarValue], ty: &SqlType) -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list(values, &ty.to_arrow(), true))
}

fn extreme(held: &[ScalarValue], ty: &SqlType, max: bool) -> ScalarValue {
    let by = |a: &&ScalarValue, b: &&ScalarValue| a.partial_cmp(b).expect("values of one type");
    let held = not_null(held);
    let best = if max { held.iter().max_by(by) } else { held.iter().min_by(by) };
    best.cloned().unwrap_or(null(ty))
}

fn top(held: &[ScalarValue], ty: &SqlType) -> ScalarValue {
    let mut sorted = held.to_vec();
    sorted.sort_by(|a, b| b.partial_cmp(a).expect("values of one type"));
    sorted.truncate(2);
    list(&sorted, ty)
}

fn numbers(held: &[ScalarValue]) -> Vec<f64> {
    not_null(held)
        .iter()
        .map(|value| match value {
            ScalarValue::Int32(Some(n)) => f64::from(*n),
            ScalarValue::Int64(Some(n)) => *n as f64,
            ScalarValue::Float64(Some(n)) => *n,
            other => panic!("not a number: {other}"),
        })
        .collect()
}

fn sum(held: &[ScalarValue], ty: &SqlType) -> ScalarValue {
    match ty {
        SqlType::Int => ScalarValue::from(numbers(held).iter().sum::<f64>() as i64 as i32),
        SqlType::BigInt => ScalarValue::from(numbers(held).iter().sum::<f64>() as i64),
        SqlType::Double => ScalarValue::from(numbers(held).iter().sum::<f64>()),
        SqlType::Decimal(p, s) => {
            let values = not_null(held).into_iter().map(|value| match value {
                ScalarValue::Decimal128(Some(n), ..) => n,
                other => panic!("not a decimal: {other}"),
            });
            ScalarValue::Decimal128(Some(values.sum()), *p, *s as i8)
        }
        other => panic!("no SUM of {other}"),
    }
}

fn average(held: &[ScalarValue], _: &SqlType) -> ScalarValue {
    let numbers = numbers(held);
    ScalarValue::from(if numbers.is_empty() { 0.0 } else { numbers.iter().sum::<f64>() / numbers.len() as f64 })
}

fn variance(held: &[ScalarValue]) -> f64 {
    let numbers = numbers(held);
    let n = numbers.len() as f64;
    if n < 2.0 {
        return 0.0;
    }
    let mean = numbers.iter().sum::<f64>() / n;
    numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)
}

/// A small domain of values of each type, so that equal ones are common.
fn value(ty: &SqlType, n: Option<u8>) -> ScalarValue {
    let Some(n) = n else { return null(ty) };
    match ty {
        SqlType::Int => ScalarValue::from(i32::from(n) - 3),
        SqlType::BigInt => ScalarValue::from(i64::from(n) - 3),
        SqlType::Double => ScalarValue::from(f64::from(n) - 2.5),
        SqlType::Decimal(p, s) => ScalarValue::Decimal128(Some(i128::from(n) - 3), *p, *s as i8),
        SqlType::String => ScalarValue::from(["", "a", "ab", "b", "ba", "é", "z"][n as usize % 7]),
        SqlType::Bytes => ScalarValue::Binary(Some(vec![n.wrapping_sub(2), 1])),
        SqlType::Boolean => ScalarValue::from(n % 2 == 0),
        SqlType::Array(item) => list(&[value(item, Some(n)), value(item, n.checked_sub(4))], item),
        other => panic!("no values of {other}"),
    }
}

/// One step of a history: which group, which value, and whether one that the group holds goes away instead.
type Row = (usize, Option<u8>, bool);

/// Runs the history on the accumulator in batches of these sizes (saving and loading between some), and compares each value.
fn check(case: &Case, ty: &SqlType, history: &[Row], cuts: &[usize]) -> Result<(), TestCaseError> {
    let mut types = vec![ty.clone()];
    let mut literals = vec![None];
    for literal in &case.literals {
        types.push(SqlType::from_arrow(&literal.data_type()).expect("a literal of ours"));
        literals.push(Some(literal.clone()));
    }
    let Ok(signature) = resolve(case.function, &types, &literals) else { return Ok(()) };
    let limits = FunctionLimits { collect_list: (!signature.table_safe).then_some(5).or(Some(5)), collect_set: None };
    let make = || {
        let mut made = accumulator(&AccumulatorArgs {
            function: case.function,
            arg_types: std::slice::from_ref(ty),
            literals: &case.literals,
            limits: &limits,
        })
        .expect("resolved");
        made.resize(SLOTS);
        made
    };
    let (mut accumulator, mut held) = (make(), BTreeMap::<usize, Vec<ScalarValue>>::new());
    let (mut at, mut cut) = (0, 0);
    while at < history.len() {
        let rows = &history[at..(at + cuts[cut % cuts.len()]).min(history.len())];
        at += rows.len();
        cut += 1;
        let (mut updates, mut values, mut want) = (Vec::new(), Vec::new(), Vec::new());
        for (row, (slot, n, undo)) in rows.iter().enumerate() {
            let group = held.entry(*slot).or_default();
            let undo = *undo && signature.table_safe && case.function != "COLLECT_LIST" && !group.is_empty();
            if undo {
                let victim = n.map_or(0, usize::from) % group.len();
                values.push(group.remove(victim));
            } else {
                values.push(value(ty, *n));
                group.push(value(ty, *n));
            }
            updates.push(Update { slot: *slot as Slot, row: row as u32, undo });
            want.push((case.model)(group, ty));
        }
        let column: ArrayRef = ScalarValue::iter_to_array(values).expect("values of one type");
        let columns = [column];
        accumulator.update(&updates, &columns, &columns, Emit::All).expect("no overflow");
        let got = accumulator.take_values();
        for (i, want) in want.iter().enumerate() {
            let got = ScalarValue::try_from_array(&got, i).expect("a value");
            prop_assert!(close(&got, want), "{} of {ty}, row {i}: {got} instead of {want}", case.function);
        }
        if cut % 2 == 0 {
            // another accumulator, its slots in another order
            let (from, to): (Vec<Slot>, Vec<Slot>) = ((0..SLOTS as Slot).collect(), (0..SLOTS as Slot).collect());
            let mut other = make();
            other.load(&to, &accumulator.states(&from));
            prop_assert_eq!(&other.values(&to), &accumulator.values(&from));
            accumulator = other;
        }
        accumulator.reset(0);
        held.remove(&0);
    }
    Ok(())
}

fn close(got: &ScalarValue, want: &ScalarValue) -> bool {
    match (got, want) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => (a - b).abs() <= 1e-6 * b.abs().max(1.0),
        _ => got == want,
    }
}

fn types() -> Vec<SqlType> {
    vec![
        SqlType::Int,
        SqlType::BigInt,
        SqlType::Double,
        SqlType::Decimal(10, 2),
        SqlType::String,
        SqlType::Bytes,
        SqlType::Boolean,
        SqlType::Array(Box::new(SqlType::String)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn accumulators_equal_their_models(
        history in prop::collection::vec((0..SLOTS, prop::option::weighted(0.85, 0_u8..7), any::<bool>()), 1..60),
        cuts in prop::collection::vec(1_usize..20, 1..6),
    ) {
        for case in cases() {
            for ty in types() {
                check(&case, &ty, &history, &cuts)?;
            }
        }
    }
}

fn run(
    function: &str,
    types: &[SqlType],
    literals: &[ScalarValue],
    columns: &[ArrayRef],
    rows: &[(Slot, u32)],
) -> Box<dyn super::Accumulator> {
    let args = AccumulatorArgs { function, arg_types: types, literals, limits: &FunctionLimits::default() };
    let mut made = accumulator(&args).expect("resolves");
    made.resize(SLOTS);
    let updates: Vec<_> = rows.iter().map(|&(slot, row)| Update { slot, row, undo: false }).collect();
    made.update(&updates, columns, &[], Emit::None).expect("no overflow");
    made
}

fn ints(values: &[i32]) -> ArrayRef {
    std::sync::Arc::new(arrow::array::Int32Array::from(values.to_vec()))
}

fn value_of(accumulator: &dyn super::Accumulator, slot: Slot) -> ScalarValue {
    ScalarValue::try_from_array(&accumulator.values(&[slot]), 0).expect("a value")
}

#[test]
fn sums_of_int_wrap_and_sums_of_decimal_overflow() {
    let wrapped = run("SUM", &[SqlType::Int], &[], &[ints(&[i32::MAX, 1])], &[(0, 0), (0, 1)]);
    assert_eq!(value_of(&*wrapped, 0), ScalarValue::from(i32::MIN));
    let ty = SqlType::Decimal(3, 1);
    let args = AccumulatorArgs {
        function: "SUM",
        arg_types: std::slice::from_ref(&ty),
        literals: &[],
        limits: &FunctionLimits::default(),
    };
    let mut sum = accumulator(&args).expect("resolves");
    sum.resize(1);
    let column = ScalarValue::Decimal128(Some(999), 3, 1).to_array_of_size(2).expect("a column");
    let update = |row| Update { slot: 0, row, undo: false };
    assert_eq!(sum.update(&[update(0)], &[column.clone()], &[], Emit::All), Ok(()));
    let error = sum.update(&[update(1)], &[column], &[], Emit::All).expect_err("99.9 + 99.9 has four digits");
    assert!(error.starts_with("numeric field overflow"), "{error}");
}

#[test]
fn sessions_merge_by_arrival_not_by_time() {
    let column = ints(&[1, 2, 3]);
    // slot 1 is the later session, but its value came first
    let mut latest = run("LATEST_BY_OFFSET", &[SqlType::Int], &[], &[column.clone()], &[(1, 0), (0, 1)]);
    latest.merge(0, 1).expect("merges");
    assert_eq!(value_of(&*latest, 0), ScalarValue::from(2));
    let mut earliest = run("EARLIEST_BY_OFFSET", &[SqlType::Int], &[], &[column.clone()], &[(1, 0), (0, 1)]);
    earliest.merge(0, 1).expect("merges");
    assert_eq!(value_of(&*earliest, 0), ScalarValue::from(1));
    // the reference keeps the first n of LATEST, too
    let two = [ScalarValue::from(2)];
    let mut many = run("LATEST_BY_OFFSET", &[SqlType::Int], &two, &[column], &[(0, 0), (1, 1), (0, 2)]);
    many.merge(0, 1).expect("merges");
    assert_eq!(value_of(&*many, 0), list(&[ScalarValue::from(1), ScalarValue::from(2)], &SqlType::Int));
}

#[test]
fn merging_equals_taking_all_rows_in() {
    let column = ints(&[4, -1, 7, 7, 2, 0]);
    let (apart, together) =
        ([(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)], [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    for function in
        ["COUNT", "SUM", "AVG", "MAX", "MIN", "COLLECT_LIST", "COLLECT_SET", "COUNT_DISTINCT", "ATTR", "STDDEV_SAMPLE"]
    {
        let mut merged = run(function, &[SqlType::Int], &[], &[column.clone()], &apart);
        merged.merge(0, 1).expect("merges");
        let whole = run(function, &[SqlType::Int], &[], &[column.clone()], &together);
        assert!(close(&value_of(&*merged, 0), &value_of(&*whole, 0)), "{function}");
    }
    let both = [SqlType::Int, SqlType::Int];
    let columns = [column.clone(), ints(&[1, 2, 3, 5, 8, 0])];
    let mut merged = run("CORRELATION", &both, &[], &columns, &apart);
    merged.merge(0, 1).expect("merges");
    assert!(close(&value_of(&*merged, 0), &value_of(&*run("CORRELATION", &both, &[], &columns, &together), 0)));
    let three = [ScalarValue::from(3)];
    let mut merged = run("TOPK", &both, &three, &columns, &apart);
    merged.merge(0, 1).expect("merges");
    assert_eq!(value_of(&*merged, 0), value_of(&*run("TOPK", &both, &three, &columns, &together), 0));
}

#[test]
fn histograms_and_lists_give_rows_back() {
    let text: ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec!["b", "a", "b"]));
    let mut histogram = run("HISTOGRAM", &[SqlType::String], &[], &[text.clone()], &[(0, 0), (0, 1), (0, 2)]);
    assert_eq!(value_of(&*histogram, 0).to_string(), "[{a:1,b:2}]");
    let undo = |row| Update { slot: 0, row, undo: true };
    histogram.update(&[undo(1), undo(0)], &[text.clone()], &[text.clone()], Emit::All).expect("undoes");
    assert_eq!(value_of(&*histogram, 0).to_string(), "[{b:1}]");
    let restored = histogram.states(&[0]);
    histogram.load(&[2], &restored);
    assert_eq!(value_of(&*histogram, 2), value_of(&*histogram, 0));
    // the last equal element goes
    let mut collected = run("COLLECT_LIST", &[SqlType::String], &[], &[text.clone()], &[(0, 0), (0, 1), (0, 2)]);
    collected.update(&[undo(0)], &[text.clone()], &[text], Emit::All).expect("undoes");
    assert_eq!(value_of(&*collected, 0), list(&["b".into(), "a".into()], &SqlType::String));
}
