//! Java date patterns, compiled once. Being built: says so instead of guessing.

/// A compiled pattern.
#[derive(Debug)]
pub struct JavaPattern(());

impl JavaPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Always, until patterns are here.
    pub fn new(pattern: &str) -> Result<Self, String> {
        Err(format!("the pattern '{pattern}' cannot be used: TIMESTAMP_FORMAT is not built into this release"))
    }

    /// Reads a text as milliseconds since the epoch.
    ///
    /// # Errors
    /// If the text does not fit.
    pub fn parse_timestamp(&self, text: &str) -> Result<i64, String> {
        Err(format!("'{text}' does not fit"))
    }
}
