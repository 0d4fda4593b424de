//! A batch of JSON payloads to columns: finds the wanted values of all records, then builds column after column.
//!
//! Reads no value itself. The subtle thing is what fails: malformed text, invalid UTF-8 and a value that does not fit its
//! column's type cost their record, whose row is then NULL in every column; `null` as a whole is an absent record.

use arrow::array::{Array, ArrayRef, BinaryArray};

use super::column::{ColumnDecoder, Fault};
use super::fields::FieldTable;
use super::scan::{Malformed, Span, byte_at, document, expect_end, skip_space};
use crate::format::settle::{present, settle};
use crate::format::{DecodeFailure, Decoded, RecordDecoder};
use crate::types::Column;

/// Memory of slots for more rows is not kept between calls: a node may have hundreds of decoders that rest.
const KEPT_ROWS: usize = 2048;

/// Decodes JSON payloads into the wanted columns.
pub(super) struct JsonDecoder {
    /// the payload is the value of the only column, not an object around it
    bare: bool,
    table: FieldTable,
    names: Vec<String>,
    columns: Vec<ColumnDecoder>,
    /// for each wanted column, where its values stand; kept between calls for their memory
    slots: Vec<Vec<Span>>,
}

impl JsonDecoder {
    pub(super) fn new(columns: &[Column], wanted: &[usize], bare: bool) -> Self {
        let names: Vec<_> = wanted.iter().map(|&i| columns[i].name.as_str().to_owned()).collect();
        Self {
            bare,
            table: FieldTable::new(names.iter().cloned()),
            columns: wanted.iter().map(|&i| ColumnDecoder::new(&columns[i].ty)).collect(),
            slots: vec![Vec::new(); names.len()],
            names,
        }
    }

    /// Notes where the wanted values of the record stand. False if the record is `null`.
    #[inline(always)]
    fn locate(&mut self, bytes: &[u8], start: usize, end: usize, row: usize) -> Result<bool, Malformed> {
        let first = skip_space(bytes, start, end);
        if !self.bare && byte_at(bytes, first, end) == b'{' {
            let after = self.table.locate(bytes, first, end, row, &mut self.slots)?;
            return expect_end(bytes, after, end).map(|()| true);
        }
        let value = document(bytes, first, end)?;
        if value.is_null() {
            return Ok(false);
        }
        if !self.bare {
            return Err(Malformed { at: first, what: "expected an object" });
        }
        for slot in &mut self.slots {
            slot[row] = value;
        }
        Ok(true)
    }

    fn fail(&mut self, row: usize, reason: String, failures: &mut Vec<DecodeFailure>) {
        for slot in &mut self.slots {
            slot[row] = Span::NULL;
        }
        failures.push(DecodeFailure { row, reason });
    }

    fn build(&mut self, bytes: &[u8], failures: &mut Vec<DecodeFailure>) -> Vec<ArrayRef> {
        let mut faults: Vec<Fault> = Vec::new();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (i, column) in self.columns.iter_mut().enumerate() {
            arrays.push(column.decode(bytes, &self.slots[i], &mut faults));
            let name = &self.names[i];
            let reason = |fault: Fault| format!("{}, path: $.{name}{}", fault.reason, fault.path);
            failures.extend(faults.drain(..).map(|fault| DecodeFailure { row: fault.index, reason: reason(fault) }));
        }
        arrays
    }
}

impl RecordDecoder for JsonDecoder {
    fn decode(&mut self, payloads: &BinaryArray) -> Decoded {
        let rows = payloads.len();
        let bytes: &[u8] = payloads.value_data();
        let offsets = payloads.value_offsets();
        let ascii = bytes[offsets[0] as usize..offsets[rows] as usize].is_ascii();
        self.table.trim();
        for slot in &mut self.slots {
            slot.clear();
            slot.resize(rows, Span::NULL);
        }
        let mut failures = Vec::new();
        let mut absent = Vec::new();
        for row in 0..rows {
            let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
            if payloads.is_null(row) {
                absent.push(row);
                continue;
            }
            if !ascii && let Err(error) = std::str::from_utf8(&bytes[start..end]) {
                self.fail(row, format!("invalid UTF-8 at byte {}", error.valid_up_to()), &mut failures);
                continue;
            }
            match self.locate(bytes, start, end, row) {
                Ok(true) => {}
                Ok(false) => absent.push(row),
                Err(malformed) => self.fail(row, malformed_text(malformed, start), &mut failures),
            }
        }
        let mut columns = self.build(bytes, &mut failures);
        if rows > KEPT_ROWS {
            self.slots.iter_mut().for_each(|slot| *slot = Vec::new());
        }
        settle(&mut failures, &mut columns, rows);
        Decoded { columns, present: present(&absent, rows), failures }
    }
}

#[cold]
fn malformed_text(malformed: Malformed, start: usize) -> String {
    format!("malformed JSON: {} at byte {}", malformed.what, malformed.at - start)
}
