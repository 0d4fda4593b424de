//! Comparison, BETWEEN and IN over two columns of one type; a NULL side gives NULL, which the binder's IS TRUE makes false.
//!
//! Not coercion: both sides have one type already. The subtle things: strings are ordered by UTF-16 code unit, which differs from the
//! order of their bytes where a character beyond the BMP meets one of U+E000 to U+FFFF; arrays, maps and structs are compared by
//! [`super::deep`].

use std::sync::Arc;

use ahash::AHashSet;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cmp;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::scalar::ScalarValue;

use super::deep;
use super::eval::{Evaluated, Frame, Node, either, truth, without};
use super::logic::{boolean, datum};

/// A list of constants longer than this is looked up in a hash set.
const IN_SCAN_LIMIT: usize = 6;

/// An operator that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// IS DISTINCT FROM: never NULL
    Distinct,
    /// IS NOT DISTINCT FROM: never NULL
    NotDistinct,
}

impl Comparison {
    /// The comparison that DataFusion's operator is, if it is one.
    pub fn of(op: Operator) -> Option<Self> {
        Some(match op {
            Operator::Eq => Self::Eq,
            Operator::NotEq => Self::NotEq,
            Operator::Lt => Self::Lt,
            Operator::LtEq => Self::LtEq,
            Operator::Gt => Self::Gt,
            Operator::GtEq => Self::GtEq,
            Operator::IsDistinctFrom => Self::Distinct,
            Operator::IsNotDistinctFrom => Self::NotDistinct,
            _ => return None,
        })
    }

    fn orders(self) -> bool {
        matches!(self, Self::Lt | Self::LtEq | Self::Gt | Self::GtEq)
    }

    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq | Self::NotDistinct => ordering.is_eq(),
            Self::NotEq | Self::Distinct => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::LtEq => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::GtEq => ordering.is_ge(),
        }
    }
}

/// `left op right`.
#[derive(Debug)]
pub struct CompareNode {
    /// which
    pub op: Comparison,
    /// left operand
    pub left: Arc<dyn Node>,
    /// right operand, of the same type
    pub right: Arc<dyn Node>,
}

impl Node for CompareNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let left = self.left.eval(frame, wanted)?;
        let needed = left.failed.as_ref().map(|f| without(wanted, f));
        let right = self.right.eval(frame, needed.as_ref().or(wanted))?;
        let value = compare(self.op, &left.value, &right.value)?;
        Ok(Evaluated { value, failed: either(left.failed, right.failed) })
    }

    fn can_fail(&self) -> bool {
        self.left.can_fail() || self.right.can_fail()
    }

    fn is_pure_constant(&self) -> bool {
        self.left.constant().is_some() && self.right.constant().is_some()
    }
}

/// `operand BETWEEN low AND high`, NULL anywhere giving false.
#[derive(Debug)]
pub struct BetweenNode {
    /// of what
    pub operand: Arc<dyn Node>,
    /// lower bound, inclusive
    pub low: Arc<dyn Node>,
    /// upper bound, inclusive
    pub high: Arc<dyn Node>,
}

impl Node for BetweenNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let rows = frame.rows();
        let operand = self.operand.eval(frame, wanted)?;
        let needed = operand.failed.as_ref().map(|f| without(wanted, f));
        let low = self.low.eval(frame, needed.as_ref().or(wanted))?;
        let above = truth(&compare(Comparison::GtEq, &operand.value, &low.value)?, rows)?;
        let mut failed = either(operand.failed, low.failed);
        let mut open = if self.high.can_fail() { Some(above.clone()) } else { None };
        if let (Some(open), Some(wanted)) = (open.as_mut(), wanted) {
            *open = &*open & wanted;
        }
        if let (Some(open), Some(failed)) = (open.as_mut(), &failed) {
            *open = without(Some(open), failed);
        }
        let high = self.high.eval(frame, open.as_ref().or(wanted))?;
        failed = either(failed, high.failed);
        let below = truth(&compare(Comparison::LtEq, &operand.value, &high.value)?, rows)?;
        Ok(Evaluated { value: boolean(&above & &below), failed })
    }

    fn can_fail(&self) -> bool {
        self.operand.can_fail() || self.low.can_fail() || self.high.can_fail()
    }
}

/// `operand IN (list)`: true where an item is equal; NULLs never are.
#[derive(Debug)]
pub struct InNode {
    operand: Arc<dyn Node>,
    list: Vec<Arc<dyn Node>>,
    /// the encoded items, where they are many constants
    set: Option<AHashSet<Vec<u8>>>,
}

impl InNode {
    /// An IN over items of the operand's type.
    ///
    /// # Errors
    /// A defect of ours: a constant that Arrow cannot hold.
    pub fn new(operand: Arc<dyn Node>, list: Vec<Arc<dyn Node>>) -> Result<Self, DataFusionError> {
        let constants: Option<Vec<&ScalarValue>> = list.iter().map(|item| item.constant()).collect();
        let set = match constants.filter(|c| c.len() > IN_SCAN_LIMIT) {
            Some(constants) => Some(encode_all(&constants)?),
            None => None,
        };
        Ok(Self { operand, list, set })
    }
}

fn encode_all(constants: &[&ScalarValue]) -> Result<AHashSet<Vec<u8>>, DataFusionError> {
    let mut set = AHashSet::with_capacity(constants.len());
    for constant in constants.iter().filter(|c| !c.is_null()) {
        let mut key = Vec::new();
        deep::encode(constant.to_array()?.as_ref(), 0, &mut key);
        set.insert(key);
    }
    Ok(set)
}

impl Node for InNode {
    fn eval(&self, frame: &Frame<'_>, wanted: Option<&BooleanBuffer>) -> Result<Evaluated, DataFusionError> {
        let rows = frame.rows();
        let Evaluated { value, mut failed } = self.operand.eval(frame, wanted)?;
        if let Some(set) = &self.set {
            return Ok(Evaluated { value: look_up(&value.into_array(rows)?, set), failed });
        }
        let mut found: Option<BooleanBuffer> = None;
        for item in &self.list {
            let needed = failed.as_ref().map(|f| without(wanted, f));
            let e = item.eval(frame, needed.as_ref().or(wanted))?;
            failed = either(failed, e.failed);
            let equal = truth(&compare(Comparison::Eq, &value, &e.value)?, rows)?;
            found = either(found, Some(equal));
        }
        Ok(Evaluated { value: boolean(found.unwrap_or_else(|| BooleanBuffer::new_unset(rows))), failed })
    }

    fn can_fail(&self) -> bool {
        self.operand.can_fail() || self.list.iter().any(|item| item.can_fail())
    }
}

fn look_up(array: &ArrayRef, set: &AHashSet<Vec<u8>>) -> ColumnarValue {
    let mut key = Vec::new();
    boolean(BooleanBuffer::collect_bool(array.len(), |row| {
        key.clear();
        array.is_valid(row) && {
            deep::encode(array.as_ref(), row, &mut key);
            set.contains(&key)
        }
    }))
}

/// Compares two values of one type; NULL where a side is (never for the DISTINCT forms).
///
/// # Errors
/// If the types differ: a defect of the binder.
pub fn compare(op: Comparison, left: &ColumnarValue, right: &ColumnarValue) -> Result<ColumnarValue, DataFusionError> {
    let scalars = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
    let array = if scalars {
        compare_datums(op, &left.to_array(1)?, &right.to_array(1)?)?
    } else {
        compare_datums(op, datum(left)?.as_ref(), datum(right)?.as_ref())?
    };
    if scalars {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(Arc::new(array)))
}

fn compare_datums(op: Comparison, left: &dyn Datum, right: &dyn Datum) -> Result<BooleanArray, DataFusionError> {
    let (l, r) = (left.get().0, right.get().0);
    if l.data_type().is_nested() || l.data_type() == &DataType::Null {
        return Ok(compare_rows(op, left, right, |i, j| deep::equal(l, i, r, j).cmp(&true)));
    }
    if op.orders() && l.data_type() == &DataType::Utf8 && needs_utf16(l) && needs_utf16(r) {
        let (l, r) = (l.as_string::<i32>(), r.as_string::<i32>());
        return Ok(compare_rows(op, left, right, |i, j| utf16_cmp(l.value(i), r.value(j))));
    }
    Ok(match op {
        Comparison::Eq => cmp::eq(left, right),
        Comparison::NotEq => cmp::neq(left, right),
        Comparison::Lt => cmp::lt(left, right),
        Comparison::LtEq => cmp::lt_eq(left, right),
        Comparison::Gt => cmp::gt(left, right),
        Comparison::GtEq => cmp::gt_eq(left, right),
        Comparison::Distinct => cmp::distinct(left, right),
        Comparison::NotDistinct => cmp::not_distinct(left, right),
    }?)
}

/// Row by row; `order` is asked where both sides are there.
fn compare_rows(
    op: Comparison,
    left: &dyn Datum,
    right: &dyn Datum,
    order: impl Fn(usize, usize) -> std::cmp::Ordering,
) -> BooleanArray {
    let ((l, l_one), (r, r_one)) = (left.get(), right.get());
    let rows = if l_one { r.len() } else { l.len() };
    let at = |row: usize, one: bool| if one { 0 } else { row };
    let nulls = |row| (l.is_null(at(row, l_one)), r.is_null(at(row, r_one)));
    let value = BooleanBuffer::collect_bool(rows, |row| match nulls(row) {
        (false, false) => op.holds(order(at(row, l_one), at(row, r_one))),
        (a, b) => op.holds((a == b).cmp(&true)),
    });
    if matches!(op, Comparison::Distinct | Comparison::NotDistinct) {
        return BooleanArray::new(value, None);
    }
    let valid = BooleanBuffer::collect_bool(rows, |row| nulls(row) == (false, false));
    BooleanArray::new(value, Some(NullBuffer::new(valid)))
}

/// True if a string may hold a character from U+E000 on, so that byte order may not be UTF-16 order.
fn needs_utf16(array: &dyn Array) -> bool {
    let strings: &StringArray = array.as_string();
    !strings.value_data().is_ascii() && strings.value_data().iter().any(|&b| b >= 0xee)
}

/// The order of two strings by UTF-16 code unit, which is Java's.
pub fn utf16_cmp(a: &str, b: &str) -> std::cmp::Ordering {
    let Some(differ) = a.as_bytes().iter().zip(b.as_bytes()).position(|(x, y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    let start = (0..=differ).rev().find(|&i| a.is_char_boundary(i) && b.is_char_boundary(i)).unwrap_or(0);
    let key = |s: &str| {
        let code = s[start..].chars().next().map_or(0, u32::from);
        // the first unit of a surrogate pair
        (if code >= 0x1_0000 { 0xd800 + ((code - 0x1_0000) >> 10) } else { code }, code)
    };
    key(a).cmp(&key(b))
}
