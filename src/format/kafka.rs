use super::*;
pub fn decoder(_: &FormatSpec, _: Side, _: &[Column], _: &[usize]) -> Result<Box<dyn RecordDecoder>, Diagnostic> { Ok(none::decoder()) }
pub fn encoder(_: &FormatSpec, _: Side, _: &[Column]) -> Result<Box<dyn RecordEncoder>, Diagnostic> { Ok(none::encoder()) }
