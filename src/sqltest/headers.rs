//! Record headers as the log takes them.
//!
//! The reading side is in `record`. The subtle thing: a record without headers and a batch without the column are the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, ListArray, StringBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use crate::topic::headers_type;

/// The headers of one record as a column of one row; `None` if it has none.
pub(super) fn column(headers: &[(String, Option<Vec<u8>>)]) -> Option<ArrayRef> {
    if headers.is_empty() {
        return None;
    }
    let (mut keys, mut values) = (StringBuilder::new(), BinaryBuilder::new());
    for (key, value) in headers {
        keys.append_value(key);
        values.append_option(value.as_deref());
    }
    let DataType::List(item) = headers_type() else { unreachable!("headers are a list") };
    let DataType::Struct(fields) = item.data_type().clone() else { unreachable!("of structs") };
    let entries = StructArray::new(fields, vec![Arc::new(keys.finish()), Arc::new(values.finish())], None);
    let lengths = OffsetBuffer::from_lengths([headers.len()]);
    Some(Arc::new(ListArray::new(item, lengths, Arc::new(entries), None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqltest::record::headers_of;

    #[test]
    fn headers_come_back_in_order() {
        let headers = vec![("a".to_owned(), Some(vec![1])), ("a".to_owned(), None)];
        assert_eq!(headers_of(column(&headers).as_ref(), 0), headers);
        assert_eq!(column(&[]), None);
    }
}
