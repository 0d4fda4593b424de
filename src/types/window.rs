//! Windows: their kinds, sizes, grace and retention, and which windows hold a row time.
//!
//! Pure arithmetic on milliseconds since the epoch, UTC; no state and no streams. The subtle thing: the end of a time
//! window is exclusive, the end of a session inclusive, and all windows are aligned to the epoch.

use std::fmt;

use arrow::buffer::ScalarBuffer;

/// 24 h in ms: the default of grace plus size when neither GRACE PERIOD nor EMIT FINAL is given.
pub const DEFAULT_GRACE_TOTAL_MS: i64 = 24 * 60 * 60 * 1000;

/// What shape a window has, sizes in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// `[k·size, (k+1)·size)`
    Tumbling {
        /// length in ms, > 0
        size_ms: i64,
    },
    /// `[k·advance, k·advance + size)` for every k ≥ 0
    Hopping {
        /// length in ms, > 0
        size_ms: i64,
        /// step in ms, 0 < advance ≤ size
        advance_ms: i64,
    },
    /// rows of a key at most `gap` apart; the end is inclusive
    Session {
        /// inactivity gap in ms
        gap_ms: i64,
    },
}

/// A WINDOW clause, with defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    /// shape
    pub kind: WindowKind,
    /// how long after its end a window still takes rows, in ms
    pub grace_ms: i64,
    /// how long a window's state is kept after its start, in ms; ≥ size + grace
    pub retention_ms: i64,
}

impl WindowSpec {
    /// Length of time windows; `None` for sessions.
    pub fn size_ms(&self) -> Option<i64> {
        match self.kind {
            WindowKind::Tumbling { size_ms } | WindowKind::Hopping { size_ms, .. } => Some(size_ms),
            WindowKind::Session { .. } => None,
        }
    }

    /// Starts of the time windows that hold `row_time`, ascending; none for sessions and negative times.
    pub fn starts_for(&self, row_time: i64) -> impl Iterator<Item = i64> + use<> {
        let (size, advance) = match self.kind {
            WindowKind::Tumbling { size_ms } => (size_ms, size_ms),
            WindowKind::Hopping { size_ms, advance_ms } => (size_ms, advance_ms),
            WindowKind::Session { .. } => (0, 1),
        };
        let first = (row_time.saturating_sub(size).div_euclid(advance) + 1).max(0);
        let last = row_time.div_euclid(advance);
        let end = if size == 0 || row_time < 0 { first } else { last + 1 };
        (first..end).map(move |k| k * advance)
    }

    /// The least stream time at which the time window that ends at `end` takes no more rows.
    pub fn closes_at(&self, end: i64) -> i64 {
        end.saturating_add(self.grace_ms)
    }

    /// True if the time window that ends at `end` (exclusive) takes no more rows at `stream_time`.
    pub fn is_closed(&self, end: i64, stream_time: i64) -> bool {
        end <= stream_time.saturating_sub(self.grace_ms)
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WindowKind::Tumbling { size_ms } => write!(f, "TUMBLING (SIZE {size_ms} MILLISECONDS")?,
            WindowKind::Hopping { size_ms, advance_ms } => {
                write!(f, "HOPPING (SIZE {size_ms} MILLISECONDS, ADVANCE BY {advance_ms} MILLISECONDS")?;
            }
            WindowKind::Session { gap_ms } => write!(f, "SESSION ({gap_ms} MILLISECONDS")?,
        }
        write!(f, ", RETENTION {} MILLISECONDS, GRACE PERIOD {} MILLISECONDS)", self.retention_ms, self.grace_ms)
    }
}

/// The windows of the rows of a batch, row-aligned, in ms.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowBounds {
    /// inclusive starts
    pub start: ScalarBuffer<i64>,
    /// ends: exclusive for time windows, inclusive for sessions
    pub end: ScalarBuffer<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(kind: WindowKind, t: i64) -> Vec<i64> {
        WindowSpec { kind, grace_ms: 0, retention_ms: 0 }.starts_for(t).collect()
    }

    #[test]
    fn tumbling_has_one_window() {
        assert_eq!(starts(WindowKind::Tumbling { size_ms: 10 }, 0), [0]);
        assert_eq!(starts(WindowKind::Tumbling { size_ms: 10 }, 19), [10]);
    }

    #[test]
    fn hopping_windows_ascend_and_never_start_before_the_epoch() {
        let kind = WindowKind::Hopping { size_ms: 30, advance_ms: 10 };
        assert_eq!(starts(kind, 5), [0]);
        assert_eq!(starts(kind, 29), [0, 10, 20]);
        assert_eq!(starts(kind, 30), [10, 20, 30]);
    }

    #[test]
    fn negative_times_have_no_window() {
        assert!(starts(WindowKind::Tumbling { size_ms: 10 }, -1).is_empty());
    }
}
