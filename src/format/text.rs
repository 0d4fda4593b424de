//! Values as Java prints them: the text of numbers in JSON, DELIMITED, PRINT and casts to STRING.
//!
//! Not a formatter for humans: no locale, no rounding. The subtle thing is the double: Java prints the shortest digits that
//! read back to the same value, plain for 10⁻³ ≤ |x| < 10⁷ and otherwise as `d.dddE±n`, always with a fraction.

use arrow::datatypes::i256;

/// Appends `Double.toString(value)`: `1.0`, `1.0E10`, `NaN`, `-Infinity`.
pub fn java_double(value: f64, out: &mut String) {
    let mut bytes = std::mem::take(out).into_bytes();
    push_java_double(value, &mut bytes);
    *out = String::from_utf8(bytes).expect("text and the ASCII that was appended are UTF-8");
}

/// As [`java_double`], to bytes.
pub fn push_java_double(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    if push_short_double(value, magnitude, out) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    if (1e-3..1e7).contains(&magnitude) || value == 0.0 {
        out.extend_from_slice(buffer.format_finite(value).as_bytes());
    } else if value.is_finite() {
        let shortest = buffer.format_finite(value);
        // Java gives two digits where they come nearer than one: only the smallest subnormals have such (4.9E-324).
        let nearer = (magnitude < 1e-321).then(|| format!("{value:.1e}")).filter(|text| text.parse() == Ok(value));
        push_scientific(nearer.as_deref().unwrap_or(shortest).as_bytes(), out);
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
}

/// Appends a value of few fraction digits, as amounts and rates have: several times faster than the general way. False if
/// it is none.
///
/// If `n / 10^k` gives the value back, `n` and `10^k` being exact, then the decimal `n × 10^-k` reads as it; of at most 15 digits
/// there is only one such decimal, so the one with the smallest `k` is the shortest.
#[inline]
fn push_short_double(value: f64, magnitude: f64, out: &mut Vec<u8>) -> bool {
    if !(1e-3..1e7).contains(&magnitude) {
        return false;
    }
    for (digits, power) in [(1, 10_u32), (2, 100), (4, 10_000)] {
        let scaled = (magnitude * f64::from(power) + 0.5) as u64;
        if scaled as f64 / f64::from(power) == magnitude {
            if value < 0.0 {
                out.push(b'-');
            }
            push_fraction(scaled / u64::from(power), (scaled % u64::from(power)) as u32, digits, out);
            return true;
        }
    }
    false
}

/// Appends `whole.fraction` with `fraction` of so many digits (≤ 4), without zeros at its end (but for a lone one).
fn push_fraction(whole: u64, fraction: u32, digits: u32, out: &mut Vec<u8>) {
    push_integer(whole, out);
    let eight = eight_digits(fraction);
    let zeros = eight.leading_zeros() / 8;
    let kept = digits.saturating_sub(zeros).max(1) as usize;
    out.push(b'.');
    // The fraction's digits are the last ones of eight.
    push_first((eight | ZEROS) >> (8 * (8 - digits)), kept, out);
}

/// `0` in each of eight bytes.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight digits of `n` < 10⁸, the first in the lowest byte, as numbers and not yet as text: pairs are split in halves all at once, as
/// dividing by a constant is multiplying and shifting (10486 / 2²⁰ for a hundredth, 103 / 2¹⁰ for a tenth, exact for four and two digits).
#[inline(always)]
fn eight_digits(n: u32) -> u64 {
    debug_assert!(n < 100_000_000);
    let fours = u64::from(n / 10_000) | (u64::from(n % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// Appends the first `len` of eight bytes; eight are copied, which is one store.
#[inline(always)]
fn push_first(bytes: u64, len: usize, out: &mut Vec<u8>) {
    let end = out.len() + len;
    out.extend_from_slice(&bytes.to_le_bytes());
    out.truncate(end);
}

/// Lays the digits of `text` (`123.0`, `1.5e-7`, `0.0001`) out as `d.dddEn`.
fn push_scientific(text: &[u8], out: &mut Vec<u8>) {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    if unsigned.len() < text.len() {
        out.push(b'-');
    }
    let e = unsigned.iter().position(|&b| b == b'e');
    let mantissa = &unsigned[..e.unwrap_or(unsigned.len())];
    let written = e.map_or(0, |e| super::number::parse_i64(&unsigned[e + 1..]).expect("zmij writes whole exponents"));
    let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
    let first = mantissa.iter().position(|b| matches!(b, b'1'..=b'9')).expect("zero is not written scientifically");
    let last = mantissa.iter().rposition(|b| matches!(b, b'1'..=b'9')).unwrap_or(first);
    let exponent = written + point as i64 - first as i64 - i64::from(first < point);
    out.push(mantissa[first]);
    out.push(b'.');
    let fraction = mantissa[first + 1..=last].iter().filter(|&&b| b != b'.');
    let before = out.len();
    out.extend(fraction);
    if out.len() == before {
        out.push(b'0');
    }
    out.push(b'E');
    out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
}

/// Appends a whole number.
#[inline(always)]
pub fn push_integer(value: impl itoa::Integer + TryInto<u32> + Copy, out: &mut Vec<u8>) {
    match value.try_into() {
        Ok(small) if small < 100_000_000 => {
            let digits = eight_digits(small);
            // All eight are zeros for 0, which has one digit.
            let zeros = (digits.trailing_zeros() / 8).min(7);
            push_first((digits | ZEROS) >> (8 * zeros), 8 - zeros as usize, out);
        }
        _ => push_large(value, out),
    }
}

#[inline(never)]
fn push_large(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `unscaled × 10^-scale` plainly, with exactly `scale` fraction digits: `BigDecimal.toPlainString()`.
pub fn push_decimal128(unscaled: i128, scale: u8, out: &mut Vec<u8>) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let magnitude = unscaled.unsigned_abs();
    let mut buffer = itoa::Buffer::new();
    // 64-bit division is several times cheaper, and most values are small.
    let digits = match u64::try_from(magnitude) {
        Ok(small) => buffer.format(small),
        Err(_) => buffer.format(magnitude),
    };
    push_with_point(digits.as_bytes(), scale, out);
}

/// As [`push_decimal128`], for decimals of more than 38 digits.
pub fn push_decimal256(unscaled: i256, scale: u8, out: &mut Vec<u8>) {
    if let Some(narrow) = unscaled.to_i128() {
        return push_decimal128(narrow, scale, out);
    }
    let digits = unscaled.to_string();
    if unscaled.is_negative() {
        out.push(b'-');
    }
    push_with_point(digits.trim_start_matches('-').as_bytes(), scale, out);
}

fn push_with_point(digits: &[u8], scale: u8, out: &mut Vec<u8>) {
    let scale = usize::from(scale);
    if scale == 0 {
        return out.extend_from_slice(digits);
    }
    let whole = digits.len().saturating_sub(scale);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale - (digits.len() - whole)));
    out.extend_from_slice(&digits[whole..]);
}

/// What a decimal text is refused with that has more digits than DECIMAL(`precision`, `scale`) holds.
pub fn decimal_misfit(text: &[u8], precision: u8, scale: u8) -> String {
    let text = String::from_utf8_lossy(text);
    format!("Cannot fit decimal '{text}' into DECIMAL({precision}, {scale}) without rounding.")
}

/// `ms` as a TIME: ms of the day, its end included.
///
/// # Errors
/// If it lies outside the day, with a sentence for the user.
pub fn time_of_day(ms: i64) -> Result<i32, String> {
    i32::try_from(ms)
        .ok()
        .filter(|ms| (0..=86_400_000).contains(ms))
        .ok_or_else(|| format!("Time values must be milliseconds of the day, from 0 to 86400000. Got {ms}"))
}

/// Appends the base64 text of `bytes` (standard alphabet, padded).
pub fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    use base64::Engine;
    let from = out.len();
    out.resize(from + bytes.len().div_ceil(3) * 4, 0);
    let written = base64::engine::general_purpose::STANDARD.encode_slice(bytes, &mut out[from..]);
    debug_assert_eq!(written.ok(), Some(out.len() - from));
}

/// The bytes of a base64 text (standard alphabet, padded); `None` if it is none.
pub fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn double(value: f64) -> String {
        let mut out = String::new();
        java_double(value, &mut out);
        out
    }

    proptest! {
        #[test]
        fn integers_are_as_rust_prints_them(large in any::<i64>(), shift in 0_u32..63, narrow in any::<i32>()) {
            for value in [large >> shift, narrow.into()] {
                let mut out = Vec::new();
                push_integer(value, &mut out);
                prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            }
        }
    }

    #[test]
    fn integers_around_powers_of_ten() {
        for power in 0..19 {
            for value in [10_i64.pow(power) - 1, 10_i64.pow(power), 10_i64.pow(power) + 1, -(10_i64.pow(power))] {
                let mut out = Vec::new();
                push_integer(value, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            }
        }
        let mut out = Vec::new();
        push_integer(i64::MIN, &mut out);
        assert_eq!(out, i64::MIN.to_string().as_bytes());
    }

    #[test]
    fn doubles_as_java() {
        for (value, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-12.34, "-12.34"),
            (1e-3, "0.001"),
            (9.99e-4, "9.99E-4"),
            (1e7, "1.0E7"),
            (9_999_999.5, "9999999.5"),
            (12_345_678.9, "1.23456789E7"),
            (1e10, "1.0E10"),
            (1.5e300, "1.5E300"),
            (-2.5e-300, "-2.5E-300"),
            (f64::MAX, "1.7976931348623157E308"),
            (5e-324, "4.9E-324"),
            (1e-5, "1.0E-5"),
            (1.234e-5, "1.234E-5"),
            (100_000_000_000_000_000_000.0, "1.0E20"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), want);
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        let text = |unscaled, scale| {
            let (mut narrow, mut wide) = (Vec::new(), Vec::new());
            push_decimal128(unscaled, scale, &mut narrow);
            push_decimal256(i256::from_i128(unscaled), scale, &mut wide);
            assert_eq!(narrow, wide);
            String::from_utf8(narrow).unwrap()
        };
        assert_eq!(text(1000, 2), "10.00");
        assert_eq!(text(-5, 2), "-0.05");
        assert_eq!(text(0, 3), "0.000");
        assert_eq!(text(7, 0), "7");
        assert_eq!(text(i128::MAX, 38), format!("1.{}", &i128::MAX.to_string()[1..]));
        let mut wide = Vec::new();
        push_decimal256(i256::from_i128(i128::MIN).wrapping_mul(i256::from_i128(100)), 2, &mut wide);
        assert_eq!(String::from_utf8(wide).unwrap(), format!("{}.00", i128::MIN));
    }

    proptest! {
        #[test]
        fn short_doubles_are_the_shortest(n in -99_999_999_i64..100_000_000, digits in 1..5_i32) {
            let value = n as f64 / 10_f64.powi(digits);
            if (1e-3..1e7).contains(&value.abs()) {
                prop_assert_eq!(double(value), format!("{value:?}"));
            }
        }

        #[test]
        fn doubles_read_back(value in any::<f64>()) {
            let read = crate::format::number::parse_java_f64(double(value).as_bytes()).unwrap();
            prop_assert!(read == value || (read.is_nan() && value.is_nan()));
        }
    }
}
