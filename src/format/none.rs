//! NONE: no columns, null payloads; also the key of every stream without key columns, whatever its declared format.
//!
//! The subtle thing: what stands in the records all the same is ignored, not refused.

use arrow::array::{Array, ArrayRef, BinaryArray};
use arrow::buffer::BooleanBuffer;

use super::{Decoded, Encoded, RecordDecoder, RecordEncoder};

/// The decoder of sides without columns.
pub fn decoder() -> Box<dyn RecordDecoder> {
    Box::new(NoColumns)
}

/// The encoder of sides without columns.
pub fn encoder() -> Box<dyn RecordEncoder> {
    Box::new(NoColumns)
}

struct NoColumns;

impl RecordDecoder for NoColumns {
    fn decode(&mut self, payloads: &BinaryArray) -> Decoded {
        let _ignored = payloads.len();
        Decoded { columns: Vec::new(), present: None, failures: Vec::new() }
    }
}

impl RecordEncoder for NoColumns {
    fn encode(&mut self, columns: &[ArrayRef], _present: Option<&BooleanBuffer>, rows: usize) -> Encoded {
        debug_assert!(columns.is_empty());
        Encoded { payloads: BinaryArray::new_null(rows), failures: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ignored_and_written_null() {
        let decoded = decoder().decode(&BinaryArray::from(vec![Some(b"x".as_slice()), None]));
        assert!(decoded.columns.is_empty() && decoded.present.is_none() && decoded.failures.is_empty());
        assert_eq!(encoder().encode(&[], None, 2).payloads, BinaryArray::new_null(2));
    }
}
