//! What a call of an aggregate function means: its result type, which arguments are columns, and the accumulator that runs it.
//!
//! No implicit casts: argument types match exactly or the call is refused. The subtle thing: literal parameters stand last, so a call
//! that gives an expression where only a literal can stand is refused as such and not as a wrong type.

use datafusion::scalar::ScalarValue;

use super::catalogue::{AGGREGATES, aggregate_doc};
use super::collect::Collect;
use super::count::Count;
use super::distinct::CountDistinct;
use super::extreme::Extreme;
use super::grouped::Grouped;
use super::histogram::{Attr, Histogram};
use super::moments::{Correlation, Deviation};
use super::offset::{ByOffset, Carried, NByOffset};
use super::sum::{Average, Sum, SumList};
use super::topk::{TopK, item_type};
use super::value::{list_type, with_kind};
use super::{Accumulator, AccumulatorArgs, AggregateSignature};
use crate::diagnostic::{Diagnostic, suggest};
use crate::types::SqlType;

/// Resolves a call. `args` are the types of all arguments, `literals` (of the same length) the values of those that are literal
/// constants. `COUNT(*)` has no arguments.
///
/// # Errors
/// No such function, or it takes no such arguments.
pub fn resolve(
    name: &str,
    args: &[SqlType],
    literals: &[Option<ScalarValue>],
) -> Result<AggregateSignature, Diagnostic> {
    debug_assert_eq!(args.len(), literals.len());
    let function = name.to_uppercase();
    if aggregate_doc(&function).is_none() {
        let error = Diagnostic::user(format!("there is no aggregate function '{function}'"));
        return Err(match suggest(&function, AGGREGATES.iter().map(|row| row.name)) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error,
        });
    }
    let column_args = column_arguments(&function, args)?;
    check_literals(&function, args, literals, column_args)?;
    let literals: Vec<ScalarValue> = literals[column_args..].iter().flatten().cloned().collect();
    let parameters = parameters(&function, &literals)?;
    let ty = result_type(&function, &args[..column_args], &parameters).ok_or_else(|| refused(&function, args))?;
    let table_safe = !matches!(
        function.as_str(),
        "COLLECT_SET"
            | "COUNT_DISTINCT"
            | "EARLIEST_BY_OFFSET"
            | "LATEST_BY_OFFSET"
            | "MAX"
            | "MIN"
            | "TOPK"
            | "TOPKDISTINCT"
    );
    // what is kept beside a group is one number or text, or a structure
    let composite_state =
        !matches!(function.as_str(), "COUNT" | "MAX" | "MIN" | "SUM" | "SUM_LIST") || matches!(ty, SqlType::Array(_));
    Ok(AggregateSignature { ty, column_args, table_safe, composite_state })
}

/// Makes the accumulator of a resolved call.
///
/// # Errors
/// As [`resolve`], for a call that was never resolved.
pub fn accumulator(args: &AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, Diagnostic> {
    let Parameters { n, ignore_nulls } = parameters(args.function, args.literals)?;
    let types = args.arg_types;
    let no = || refused(args.function, types);
    if result_type(args.function, types, &Parameters { n, ignore_nulls }).is_none() {
        return Err(no());
    }
    let Some(first) = types.first() else { return Ok(Grouped::boxed(Count::default())) };
    Ok(match args.function {
        "COUNT" => Grouped::boxed(Count::default()),
        "COUNT_DISTINCT" => Grouped::boxed(CountDistinct::default()),
        "HISTOGRAM" => Grouped::boxed(Histogram::default()),
        "ATTR" => Grouped::boxed(Attr::new(first)),
        "MAX" => with_kind!(first, kind => Grouped::boxed(Extreme::<_, true>::new(kind))),
        "MIN" => with_kind!(first, kind => Grouped::boxed(Extreme::<_, false>::new(kind))),
        "COLLECT_LIST" => {
            with_kind!(first, kind => Grouped::boxed(Collect::<_, false>::new(kind, args.limits.collect_list)))
        }
        "COLLECT_SET" => {
            with_kind!(first, kind => Grouped::boxed(Collect::<_, true>::new(kind, args.limits.collect_set)))
        }
        "LATEST_BY_OFFSET" => with_kind!(first, kind => match n {
            Some(n) => Grouped::boxed(NByOffset::<_, true>::new(kind, n, ignore_nulls)),
            None => Grouped::boxed(ByOffset::<_, true>::new(kind, ignore_nulls)),
        }),
        "EARLIEST_BY_OFFSET" => with_kind!(first, kind => match n {
            Some(n) => Grouped::boxed(NByOffset::<_, false>::new(kind, n, ignore_nulls)),
            None => Grouped::boxed(ByOffset::<_, false>::new(kind, ignore_nulls)),
        }),
        "TOPK" => {
            let k = n.ok_or_else(no)?;
            with_kind!(first, kind => Grouped::boxed(TopK::<_, false>::new(kind, k, &types[1..])))
        }
        "TOPKDISTINCT" => {
            let k = n.ok_or_else(no)?;
            with_kind!(first, kind => Grouped::boxed(TopK::<_, true>::new(kind, k, &[])))
        }
        _ => numeric_accumulator(args.function, first).ok_or_else(no)?,
    })
}

fn numeric_accumulator(function: &str, ty: &SqlType) -> Option<Box<dyn Accumulator>> {
    use arrow::datatypes::i256;
    let element = if let SqlType::Array(element) = ty { element } else { ty };
    Some(match (function, element) {
        ("SUM", SqlType::Int) => Grouped::boxed(Sum::<i32>::new(ty)),
        ("SUM", SqlType::BigInt) => Grouped::boxed(Sum::<i64>::new(ty)),
        ("SUM", SqlType::Double) => Grouped::boxed(Sum::<f64>::new(ty)),
        ("SUM", SqlType::Decimal(..=38, _)) => Grouped::boxed(Sum::<i128>::new(ty)),
        ("SUM", SqlType::Decimal(..)) => Grouped::boxed(Sum::<i256>::new(ty)),
        ("SUM_LIST", SqlType::Int) => Grouped::boxed(SumList(Sum::<i32>::new(element))),
        ("SUM_LIST", SqlType::BigInt) => Grouped::boxed(SumList(Sum::<i64>::new(element))),
        ("SUM_LIST", SqlType::Double) => Grouped::boxed(SumList(Sum::<f64>::new(element))),
        ("AVG", SqlType::Int) => Grouped::boxed(Average::<i32>::new(ty)),
        ("AVG", SqlType::BigInt) => Grouped::boxed(Average::<i64>::new(ty)),
        ("AVG", SqlType::Double) => Grouped::boxed(Average::<f64>::new(ty)),
        ("STDDEV_SAMPLE", SqlType::Int) => Grouped::boxed(Deviation::<i32, false>::new()),
        ("STDDEV_SAMPLE", SqlType::BigInt) => Grouped::boxed(Deviation::<i64, false>::new()),
        ("STDDEV_SAMPLE", SqlType::Double) => Grouped::boxed(Deviation::<f64, false>::new()),
        ("STDDEV_SAMP", SqlType::Int) => Grouped::boxed(Deviation::<i32, true>::new()),
        ("STDDEV_SAMP", SqlType::BigInt) => Grouped::boxed(Deviation::<i64, true>::new()),
        ("STDDEV_SAMP", SqlType::Double) => Grouped::boxed(Deviation::<f64, true>::new()),
        ("CORRELATION", SqlType::Int) => Grouped::boxed(Correlation::<i32>::new()),
        ("CORRELATION", SqlType::BigInt) => Grouped::boxed(Correlation::<i64>::new()),
        ("CORRELATION", SqlType::Double) => Grouped::boxed(Correlation::<f64>::new()),
        _ => return None,
    })
}

/// The accumulator of a column that is carried along beside aggregates: the value of the last row handled.
pub fn carried(ty: &SqlType) -> Box<dyn Accumulator> {
    with_kind!(ty, kind => Grouped::boxed(Carried(ByOffset::<_, true>::new(kind, false))))
}

/// How many leading arguments are columns.
fn column_arguments(function: &str, args: &[SqlType]) -> Result<usize, Diagnostic> {
    let (least, most) = match function {
        "COUNT" => (0, 1),
        "CORRELATION" => (2, 2),
        "TOPK" => (2, usize::MAX),
        "TOPKDISTINCT" => (2, 2),
        "EARLIEST_BY_OFFSET" | "LATEST_BY_OFFSET" => (1, 3),
        _ => (1, 1),
    };
    if !(least..=most).contains(&args.len()) {
        return Err(refused(function, args));
    }
    Ok(match function {
        "TOPK" | "TOPKDISTINCT" => args.len() - 1,
        "EARLIEST_BY_OFFSET" | "LATEST_BY_OFFSET" => 1,
        _ => args.len(),
    })
}

fn check_literals(
    function: &str,
    args: &[SqlType],
    literals: &[Option<ScalarValue>],
    column_args: usize,
) -> Result<(), Diagnostic> {
    let missing = (column_args..args.len()).find(|&i| literals[i].is_none());
    match missing {
        Some(i) => Err(Diagnostic::user(format!(
            "parameter {} of the aggregate function {function} must be a literal constant, not an expression",
            i + 1
        ))),
        None => Ok(()),
    }
}

/// The literal parameters of a call.
struct Parameters {
    n: Option<usize>,
    ignore_nulls: bool,
}

fn parameters(function: &str, literals: &[ScalarValue]) -> Result<Parameters, Diagnostic> {
    let offsets = matches!(function, "EARLIEST_BY_OFFSET" | "LATEST_BY_OFFSET");
    let tops = matches!(function, "TOPK" | "TOPKDISTINCT");
    let mut found = Parameters { n: None, ignore_nulls: true };
    for (i, literal) in literals.iter().enumerate() {
        let last = i + 1 == literals.len();
        match literal {
            ScalarValue::Boolean(Some(ignore)) if offsets && last => found.ignore_nulls = *ignore,
            ScalarValue::Int32(Some(n)) if i == 0 && (offsets || tops) => {
                found.n = Some(positive(function, (*n).into())?)
            }
            ScalarValue::Int64(Some(n)) if i == 0 && (offsets || tops) => found.n = Some(positive(function, *n)?),
            other => {
                let words = variations(function);
                return Err(Diagnostic::user(format!(
                    "the aggregate function {function} takes no literal {other} here"
                ))
                .help(words));
            }
        }
    }
    Ok(found)
}

fn positive(function: &str, n: i64) -> Result<usize, Diagnostic> {
    match i32::try_from(n).ok().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0) {
        Some(n) => Ok(n),
        None => Err(Diagnostic::user(format!("the number {n} given to {function} is not between 1 and {}", i32::MAX))
            .help("say how many values to keep, at least 1")),
    }
}

/// The result for these column arguments, if the function takes them.
fn result_type(function: &str, columns: &[SqlType], parameters: &Parameters) -> Option<SqlType> {
    use SqlType::{BigInt, Bytes, Date, Decimal, Double, Int, Map, String, Time, Timestamp};
    let many = parameters.n.is_some();
    match (function, columns) {
        ("COUNT", [] | [_]) | ("COUNT_DISTINCT", [_]) => Some(BigInt),
        ("SUM", [ty @ (Int | BigInt | Double | Decimal(..))]) => Some(ty.clone()),
        ("SUM_LIST", [SqlType::Array(item)]) if matches!(**item, Int | BigInt | Double) => Some((**item).clone()),
        ("AVG" | "STDDEV_SAMPLE" | "STDDEV_SAMP", [Int | BigInt | Double]) => Some(Double),
        ("CORRELATION", [Int, Int] | [BigInt, BigInt] | [Double, Double]) => Some(Double),
        ("MAX" | "MIN", [ty @ (Int | BigInt | Double | Decimal(..) | String | Bytes | Date | Time | Timestamp)]) => {
            Some(ty.clone())
        }
        ("ATTR", [ty]) => Some(ty.clone()),
        ("COLLECT_LIST" | "COLLECT_SET", [ty]) => Some(list_type(ty)),
        ("EARLIEST_BY_OFFSET" | "LATEST_BY_OFFSET", [ty]) => Some(if many { list_type(ty) } else { ty.clone() }),
        ("HISTOGRAM", [String]) => Some(Map(Box::new(String), Box::new(BigInt))),
        ("TOPK", [sorted @ (Int | BigInt | Double | String), beside @ ..]) if many => {
            Some(list_type(&item_type(sorted, beside)))
        }
        ("TOPKDISTINCT", [ty @ (Int | BigInt | Double | String | Decimal(..) | Date | Time | Timestamp | Bytes)])
            if many =>
        {
            Some(list_type(ty))
        }
        _ => None,
    }
}

fn variations(function: &str) -> String {
    let known = aggregate_doc(function).map_or(&[][..], |row| row.variations);
    format!("use {}", known.join(" or "))
}

fn refused(function: &str, args: &[SqlType]) -> Diagnostic {
    let types: Vec<_> = args.iter().map(ToString::to_string).collect();
    Diagnostic::user(format!("the aggregate function {function} does not take ({})", types.join(", ")))
        .help(variations(function))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::FunctionLimits;

    fn int(n: i32) -> Option<ScalarValue> {
        Some(ScalarValue::Int32(Some(n)))
    }

    #[test]
    fn every_function_of_the_table_resolves_and_has_an_accumulator() {
        let (text, number) = (SqlType::String, SqlType::BigInt);
        for row in AGGREGATES {
            let (types, literals) = match row.name {
                "TOPK" | "TOPKDISTINCT" => (vec![number.clone(), SqlType::Int], vec![None, int(3)]),
                "CORRELATION" => (vec![number.clone(), number.clone()], vec![None, None]),
                "HISTOGRAM" => (vec![text.clone()], vec![None]),
                "SUM_LIST" => (vec![list_type(&number)], vec![None]),
                _ => (vec![number.clone()], vec![None]),
            };
            let signature = resolve(row.name, &types, &literals).expect(row.name);
            let given: Vec<_> = literals.into_iter().flatten().collect();
            let mut made = accumulator(&AccumulatorArgs {
                function: row.name,
                arg_types: &types[..signature.column_args],
                literals: &given,
                limits: &FunctionLimits::default(),
            })
            .expect(row.name);
            made.resize(1);
            assert_eq!(made.values(&[0]).data_type(), &signature.ty.to_arrow(), "{}", row.name);
            let states: Vec<_> = made.states(&[0]).iter().map(|s| s.data_type().clone()).collect();
            assert_eq!(states, made.state_types().iter().map(SqlType::to_arrow).collect::<Vec<_>>(), "{}", row.name);
        }
        assert!(AGGREGATES.is_sorted_by_key(|row| row.name));
    }

    #[test]
    fn calls_that_cannot_be_say_why() {
        let wrong = |name: &str, types: &[SqlType], literals: &[Option<ScalarValue>]| {
            resolve(name, types, literals).err().map(|error| error.message).unwrap_or_default()
        };
        assert_eq!(wrong("SUMM", &[SqlType::Int], &[None]), "there is no aggregate function 'SUMM'");
        assert_eq!(
            wrong("AVG", &[SqlType::Decimal(4, 2)], &[None]),
            "the aggregate function AVG does not take (DECIMAL(4, 2))"
        );
        assert_eq!(
            wrong("earliest_by_offset", &[SqlType::Int, SqlType::Int], &[None, None]),
            "parameter 2 of the aggregate function EARLIEST_BY_OFFSET must be a literal constant, not an expression"
        );
        assert_eq!(
            wrong("LATEST_BY_OFFSET", &[SqlType::Int, SqlType::Int], &[None, int(0)]),
            format!("the number 0 given to LATEST_BY_OFFSET is not between 1 and {}", i32::MAX)
        );
        assert_eq!(
            wrong("TOPK", &[SqlType::Int, SqlType::Boolean], &[None, Some(ScalarValue::Boolean(Some(true)))]),
            "the aggregate function TOPK takes no literal true here"
        );
    }

    #[test]
    fn topk_with_columns_gives_structs() {
        let signature =
            resolve("TOPK", &[SqlType::Int, SqlType::String, SqlType::Int], &[None, None, int(3)]).expect("resolves");
        assert_eq!(signature.ty.to_string(), "ARRAY<STRUCT<`sort_col` INTEGER, `col0` STRING>>");
        assert_eq!((signature.column_args, signature.table_safe), (2, false));
    }
}
