use super::*;
pub(super) fn decoder(_: Vec<arrow::datatypes::DataType>) -> Result<Box<dyn RecordDecoder>, Diagnostic> { Err(not_built(Format::None)) }
pub(super) fn encoder() -> Result<Box<dyn RecordEncoder>, Diagnostic> { Err(not_built(Format::None)) }
