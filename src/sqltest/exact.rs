//! Numbers as they were written, compared digit by digit.
//!
//! No arithmetic and no rounding. The subtle thing: `10.0` and `10.00` are different here, as they are for the reference, which
//! compares DECIMALs with their scale.

/// A decimal number: `digits · 10^-scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    negative: bool,
    /// without leading zeros; `0` for zero
    digits: String,
    /// digits behind the point; negative for `1E3`
    scale: i64,
    /// written with neither point nor exponent
    integer: bool,
}

impl Exact {
    /// Reads `-12.50`, `7`, `1.0E10`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent.parse::<i64>().ok()?)),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let significant = all.trim_start_matches('0');
        let digits = if significant.is_empty() { "0" } else { significant };
        Some(Self {
            negative: text.starts_with('-') && digits != "0",
            digits: digits.to_owned(),
            scale: (fraction.len() as i64).checked_sub(exponent.unwrap_or(0))?,
            integer: exponent.is_none() && !mantissa.contains('.'),
        })
    }

    /// True if it was written with neither point nor exponent.
    pub fn is_integer_literal(&self) -> bool {
        self.integer
    }

    /// Digits behind the point; negative for `1E3`.
    pub fn scale(&self) -> i64 {
        self.scale
    }

    /// Equal in value and in scale.
    pub fn same_with_scale(&self, other: &Self) -> bool {
        self.scale == other.scale && self.digits == other.digits && self.negative == other.negative
    }

    /// Equal in value, however written.
    pub fn same_value(&self, other: &Self) -> bool {
        let (a, b) = (self.stripped(), other.stripped());
        a == b && self.negative == other.negative
    }

    /// The whole part, without what is behind the point; `None` if it does not fit.
    pub fn truncated(&self) -> Option<i64> {
        let digits = if self.scale >= 0 {
            let keep = self.digits.len().saturating_sub(usize::try_from(self.scale).ok()?);
            self.digits[..keep].to_owned()
        } else if self.digits == "0" {
            String::new()
        } else {
            let zeros = usize::try_from(-self.scale).ok().filter(|n| *n <= 19)?;
            format!("{}{}", self.digits, "0".repeat(zeros))
        };
        let sign = if self.negative { "-" } else { "" };
        let whole = if digits.is_empty() { "0" } else { &digits };
        format!("{sign}{whole}").parse().ok()
    }

    fn stripped(&self) -> (&str, i64) {
        if self.digits == "0" {
            return ("0", 0);
        }
        let kept = self.digits.trim_end_matches('0');
        (kept, self.scale - (self.digits.len() - kept.len()) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Exact {
        Exact::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn the_scale_counts() {
        assert!(exact("10.0").same_with_scale(&exact("10.0")));
        assert!(!exact("10.0").same_with_scale(&exact("10.00")));
        assert!(exact("1.0E10").same_with_scale(&exact("10e9")));
        assert!(!exact("-1.5").same_with_scale(&exact("1.5")));
        assert!(exact("-0.0").same_with_scale(&exact("0.0")));
    }

    #[test]
    fn values_are_equal_however_written() {
        for (a, b) in [("10", "1E1"), ("0.00", "0"), ("-2.50", "-2.5"), ("1.0E10", "10000000000")] {
            assert!(exact(a).same_value(&exact(b)), "{a} = {b}");
        }
        assert!(!exact("1").same_value(&exact("10")));
    }

    #[test]
    fn truncation_is_toward_zero() {
        let cases = [("12.9", Some(12)), ("-0.5", Some(0)), ("1E3", Some(1000)), ("0E99", Some(0)), ("1E99", None)];
        for (text, whole) in cases {
            assert_eq!(exact(text).truncated(), whole, "{text}");
        }
        assert_eq!(exact("9223372036854775808").truncated(), None);
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "-", "1x", "0x1", "1E", "NaN", "1.2.3", " 1"] {
            assert_eq!(Exact::parse(text), None, "{text}");
        }
    }
}
