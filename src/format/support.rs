pub fn check(_: &super::FormatSpec, _: super::Side, _: &[crate::types::Column]) -> Result<(), crate::diagnostic::Diagnostic> { Ok(()) }
pub fn supports(_: super::Format, _: &crate::types::SqlType) -> bool { true }
