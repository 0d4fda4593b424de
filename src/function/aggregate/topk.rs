//! TOPK and TOPKDISTINCT: the k greatest values, descending, with other columns beside them where asked for.
//!
//! Cannot take rows away. The subtle thing: of equal values the earlier one stays and stands first.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StructArray};
use arrow::datatypes::{Field, Fields};
use arrow_row::{RowConverter, Rows, SortField};

use super::Slot;
use super::grouped::Kernel;
use super::value::{Kind, list_array, list_range, list_type, push_end};
use crate::types::{SqlField, SqlType};

/// The columns beside the sorted one.
struct Beside {
    converter: RowConverter,
    fields: Fields,
}

/// The top k by slot: value, and the encoded columns beside it (empty without any).
pub(super) struct TopK<K: Kind, const DISTINCT: bool> {
    kind: K,
    k: usize,
    beside: Option<Beside>,
    item: SqlType,
    lists: Vec<Vec<(K::Value, Vec<u8>)>>,
    heap: usize,
}

impl<K: Kind, const DISTINCT: bool> TopK<K, DISTINCT> {
    /// The `k` greatest values of `kind`, with columns of the types `beside`.
    pub fn new(kind: K, k: usize, beside: &[SqlType]) -> Self {
        let item = item_type(kind.ty(), beside);
        let converter = |types: &[SqlType]| {
            RowConverter::new(types.iter().map(|ty| SortField::new(ty.to_arrow())).collect())
                .expect("every SQL type has a row encoding")
        };
        let fields = |types: &[SqlType]| -> Fields {
            let names = std::iter::once("sort_col".to_owned()).chain((0..).map(|i| format!("col{i}")));
            names
                .zip(std::iter::once(kind.ty()).chain(types))
                .map(|(n, ty)| Field::new(n, ty.to_arrow(), true))
                .collect()
        };
        let beside = (!beside.is_empty()).then(|| Beside { converter: converter(beside), fields: fields(beside) });
        Self { k, beside, item, lists: Vec::new(), heap: 0, kind }
    }

    fn size((value, beside): &(K::Value, Vec<u8>)) -> usize {
        size_of::<(K::Value, Vec<u8>)>() + K::heap(value) + beside.capacity()
    }

    fn offer(&mut self, slot: usize, value: K::Ref<'_>, beside: &[u8]) {
        let list = &mut self.lists[slot];
        // descending: everything greater or equal stays before the new one
        let at = list.partition_point(|(held, _)| K::compare(K::view(held), value) != Ordering::Less);
        let equal = DISTINCT && at > 0 && K::compare(K::view(&list[at - 1].0), value).is_eq();
        if at >= self.k || equal {
            return;
        }
        if list.len() == self.k
            && let Some(last) = list.pop()
        {
            self.heap -= Self::size(&last);
        }
        let entry = (K::own(value), beside.to_vec());
        self.heap += Self::size(&entry);
        list.insert(at, entry);
    }
}

/// The element type of the result.
pub(super) fn item_type(sorted: &SqlType, beside: &[SqlType]) -> SqlType {
    if beside.is_empty() {
        return sorted.clone();
    }
    let sort_col = SqlField { name: "sort_col".into(), ty: sorted.clone() };
    let others = beside.iter().enumerate().map(|(i, ty)| SqlField { name: format!("col{i}").into(), ty: ty.clone() });
    SqlType::Struct(std::iter::once(sort_col).chain(others).collect())
}

/// Lists of entries under construction.
pub(super) struct TopOut<K: Kind> {
    sorted: K::Builder,
    beside: Vec<Vec<u8>>,
    ends: Vec<i32>,
}

impl<K: Kind, const DISTINCT: bool> Kernel for TopK<K, DISTINCT> {
    type Args = (K::Column, Option<Rows>);
    type Out = TopOut<K>;

    fn resize(&mut self, slots: usize) {
        self.lists.resize(slots, Vec::new());
    }

    fn reset(&mut self, slot: usize) {
        let list = std::mem::take(&mut self.lists[slot]);
        self.heap -= list.iter().map(Self::size).sum::<usize>();
    }

    fn bind(&self, args: &[ArrayRef]) -> Self::Args {
        let beside = self.beside.as_ref();
        let rows = beside.map(|b| b.converter.convert_columns(&args[1..]).expect("columns of the declared types"));
        (self.kind.column(&args[0]), rows)
    }

    fn apply(&mut self, slot: usize, (column, beside): &Self::Args, row: usize) -> Result<(), String> {
        if let Some(value) = K::get(column, row) {
            match beside {
                Some(rows) => self.offer(slot, value, rows.row(row).data()),
                None => self.offer(slot, value, &[]),
            }
        }
        Ok(())
    }

    fn merge(&mut self, into: usize, from: usize) -> Result<(), String> {
        for (value, beside) in self.lists[from].clone() {
            self.offer(into, K::view(&value), &beside);
        }
        Ok(())
    }

    fn out(&self) -> TopOut<K> {
        TopOut { sorted: self.kind.builder(), beside: Vec::new(), ends: vec![0] }
    }

    fn emit(&self, slot: usize, out: &mut TopOut<K>) {
        let list = &self.lists[slot];
        for (value, beside) in list {
            K::push(&mut out.sorted, Some(K::view(value)));
            if self.beside.is_some() {
                out.beside.push(beside.clone());
            }
        }
        push_end(&mut out.ends, list.len());
    }

    fn finish(&self, out: TopOut<K>) -> ArrayRef {
        let sorted = self.kind.finish(out.sorted);
        let Some(Beside { converter, fields }) = &self.beside else { return list_array(sorted, out.ends) };
        let parser = converter.parser();
        let rows = out.beside.iter().map(|bytes| parser.parse(bytes));
        let mut columns = vec![sorted];
        columns.extend(converter.convert_rows(rows).expect("rows of this converter decode"));
        list_array(Arc::new(StructArray::new(fields.clone(), columns, None)), out.ends)
    }

    fn states(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        let mut out = self.out();
        slots.iter().for_each(|&slot| self.emit(slot as usize, &mut out));
        vec![self.finish(out)]
    }

    fn state_types(&self) -> Vec<SqlType> {
        vec![list_type(&self.item)]
    }

    fn load(&mut self, slots: &[Slot], states: &[ArrayRef]) {
        let lists = states[0].as_list::<i32>();
        let columns = match &self.beside {
            Some(_) => lists.values().as_struct().columns().to_vec(),
            None => vec![lists.values().clone()],
        };
        let args = self.bind(&columns);
        for (row, &slot) in slots.iter().enumerate() {
            self.reset(slot as usize);
            for at in list_range(lists, row) {
                let _ = self.apply(slot as usize, &args, at);
            }
        }
    }

    fn memory(&self) -> usize {
        self.lists.capacity() * size_of::<Vec<(K::Value, Vec<u8>)>>() + self.heap
    }
}
