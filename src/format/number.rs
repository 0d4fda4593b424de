//! Numbers from text, as Java's parsers read it: what JSON, DELIMITED and casts accept.
//!
//! Trims nothing but where Java does (doubles). The subtle thing: decimals are exact. A text that does not fit its precision
//! and scale without rounding is refused, never rounded.

use arrow::datatypes::i256;

/// Why a text is no decimal of the wanted precision and scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalFault {
    /// not a number at all
    NotANumber,
    /// more digits than fit, before or after the point
    DoesNotFit,
}

/// `+` or `-`, then decimal digits only, within 64 bits: `Long.parseLong`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return None;
    }
    let mut rest = digits;
    let mut value = 0_i64;
    if digits.len() <= 18 {
        while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
            value = value * 100_000_000 + i64::from(eight_digits(*chunk)?);
            rest = tail;
        }
        for &byte in rest {
            value = value * 10 + i64::from(digit(byte)?);
        }
        return Some(if negative { -value } else { value });
    }
    for &byte in digits {
        let digit = i64::from(digit(byte)?);
        value = value.checked_mul(10)?;
        value = if negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

/// `+` or `-`, then decimal digits only, within 32 bits: `Integer.parseInt`.
pub fn parse_i32(text: &[u8]) -> Option<i32> {
    parse_i64(text).and_then(|value| i32::try_from(value).ok())
}

/// A number with fraction and exponent, cut to its whole part; `None` if it is no number or needs more than 64 bits.
pub fn truncate_to_i64(text: &[u8]) -> Option<i64> {
    if let Some(value) = parse_i64(text) {
        return Some(value);
    }
    let number = DecimalText::parse(text)?;
    let digits = number.significant + number.exponent;
    if digits > 19 {
        return None;
    }
    let whole = number.leading(digits.max(0) as usize)?;
    let value = i128::try_from(whole).ok()?;
    i64::try_from(if number.negative { -value } else { value }).ok()
}

/// A plain decimal number, with exponent or without: no white space, no NaN.
pub fn parse_plain_f64(text: &[u8]) -> Option<f64> {
    let (negative, rest) = split_sign(text);
    let mut mantissa = 0_u64;
    let mut digits = 0;
    let mut fraction = None;
    for (i, &byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' if digits < 18 => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b'.' if fraction.is_none() => fraction = Some(i + 1),
            _ => return parse_long_f64(text),
        }
    }
    let scale = fraction.map_or(0, |from| rest.len() - from);
    // Exact as both the mantissa and the power of ten are exact doubles (Clinger's fast path).
    if digits == 0 || mantissa > 1 << 53 || scale >= POWERS_OF_TEN.len() {
        return parse_long_f64(text);
    }
    let value = mantissa as f64 / POWERS_OF_TEN[scale];
    Some(if negative { -value } else { value })
}

#[cold]
fn parse_long_f64(text: &[u8]) -> Option<f64> {
    // Rust reads `inf` and `nan` too; Java spells them otherwise.
    let plain = text.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// `Double.parseDouble`: blanks around are dropped, a trailing `d` or `f` is allowed, so are `NaN` and `Infinity` with a
/// sign. (Hexadecimal floats are not read.)
pub fn parse_java_f64(text: &[u8]) -> Option<f64> {
    let from = text.iter().position(|&b| b > b' ')?;
    let to = text.iter().rposition(|&b| b > b' ')? + 1;
    let text = &text[from..to];
    let (negative, name) = split_sign(text);
    match name {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        [_, .., b'd' | b'D' | b'f' | b'F'] => parse_plain_f64(&text[..text.len() - 1]),
        _ => parse_plain_f64(text),
    }
}

/// The unscaled value of a decimal with that precision (≤ 38) and scale.
///
/// # Errors
/// If the text is no number, or does not fit without rounding.
pub fn parse_decimal128(text: &[u8], precision: u8, scale: u8) -> Result<i128, DecimalFault> {
    if let Some(unscaled) = parse_short_decimal(text, precision, scale) {
        return Ok(unscaled);
    }
    let number = DecimalText::parse(text).ok_or(DecimalFault::NotANumber)?;
    let digits = number.digits_at_scale(precision, scale)?;
    let unscaled = number.leading(digits).ok_or(DecimalFault::DoesNotFit)? as i128;
    Ok(if number.negative { -unscaled } else { unscaled })
}

/// The way of most decimals: at most 18 digits, no exponent, no more fraction digits than the scale. `None` asks for the
/// general way, which also knows what is wrong.
fn parse_short_decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, rest) = split_sign(text);
    if rest.is_empty() || rest.len() > 18 {
        return None;
    }
    let mut digits = 0_u64;
    let mut point = None;
    for (i, &byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(i),
            _ => return None,
        }
    }
    let fraction = point.map_or(0, |p| rest.len() - p - 1);
    let missing = usize::from(scale).checked_sub(fraction)?;
    if rest.len() == usize::from(point.is_some()) || missing > 18 {
        return None;
    }
    let unscaled = i128::from(digits) * i128::from(10_u64.pow(missing as u32));
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (unscaled < limit).then_some(if negative { -unscaled } else { unscaled })
}

/// The unscaled value of a decimal with that precision (≤ 76) and scale.
///
/// # Errors
/// If the text is no number, or does not fit without rounding.
pub fn parse_decimal256(text: &[u8], precision: u8, scale: u8) -> Result<i256, DecimalFault> {
    let number = DecimalText::parse(text).ok_or(DecimalFault::NotANumber)?;
    let digits = number.digits_at_scale(precision, scale)?;
    let low_digits = digits.min(38);
    let high = number.range(0, digits - low_digits);
    let low = number.range(digits - low_digits, digits);
    let shift = i256::from_i128(10_i128.pow(low_digits as u32));
    let unscaled = i256::from_i128(high as i128).wrapping_mul(shift).wrapping_add(i256::from_i128(low as i128));
    Ok(if number.negative { unscaled.wrapping_neg() } else { unscaled })
}

/// The text of a decimal number taken apart: `0.d₁d₂…dₙ × 10^(n + exponent)` with `d₁ ≠ 0`.
#[derive(Clone, Copy, Debug)]
struct DecimalText<'a> {
    negative: bool,
    /// digits and perhaps a point, from the first digit that is not zero
    digits: &'a [u8],
    /// how many digits that is
    significant: i64,
    /// what the number formed by the digits is multiplied with, as a power of ten
    exponent: i64,
}

impl<'a> DecimalText<'a> {
    /// `[+-] digits [. digits] [e [+-] digits]` with a digit before or after the point: `new BigDecimal(text)`.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = split_sign(text);
        let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(e) => (&text[..e], i64::from(parse_i32(&text[e + 1..])?)),
            None => (text, 0),
        };
        let point = mantissa.iter().position(|&b| b == b'.');
        let fraction = point.map_or(0, |p| mantissa.len() - p - 1);
        let digit_count = mantissa.len() - usize::from(point.is_some());
        let all_digits = mantissa.iter().enumerate().all(|(i, b)| b.is_ascii_digit() || Some(i) == point);
        if digit_count == 0 || !all_digits {
            return None;
        }
        let first = mantissa.iter().position(|b| matches!(b, b'1'..=b'9')).unwrap_or(mantissa.len());
        let digits = &mantissa[first..];
        let significant = digits.len() - usize::from(digits.contains(&b'.'));
        Some(Self { negative, digits, significant: significant as i64, exponent: exponent - fraction as i64 })
    }

    /// How many digits the unscaled value at `scale` has.
    fn digits_at_scale(&self, precision: u8, scale: u8) -> Result<usize, DecimalFault> {
        if self.significant == 0 {
            return Ok(0);
        }
        let digits = self.significant + self.exponent + i64::from(scale);
        let cut = (-(self.exponent + i64::from(scale))).max(0);
        let cut_zeros = self.plain_digits().rev().take_while(|&b| b == b'0').count() as i64;
        if digits > i64::from(precision) || cut > cut_zeros {
            return Err(DecimalFault::DoesNotFit);
        }
        Ok(digits as usize)
    }

    fn plain_digits(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        self.digits.iter().copied().filter(|&b| b != b'.')
    }

    /// The number formed by the first `count` digits, zeros where there are no more; `None` past 38 digits.
    fn leading(&self, count: usize) -> Option<u128> {
        (count <= 38).then(|| self.range(0, count))
    }

    /// The number formed by the digits `from..to`, at most 38 of them.
    fn range(&self, from: usize, to: usize) -> u128 {
        let digits = self.plain_digits().chain(std::iter::repeat(b'0'));
        digits.take(to).skip(from).fold(0, |value, byte| value * 10 + u128::from(byte - b'0'))
    }
}

/// A number as `new BigDecimal(text).toString()` prints it: as written, but for exponents, signs of zero and leading zeros.
/// `None` if it is no number.
pub fn big_decimal_text(text: &[u8]) -> Option<String> {
    let number = DecimalText::parse(text)?;
    let mut digits: String = number.plain_digits().map(char::from).collect();
    if digits.is_empty() {
        digits.push('0');
    }
    let point = digits.len() as i64 + number.exponent;
    let plain = if number.exponent <= 0 && point > -6 {
        match usize::try_from(point) {
            _ if number.exponent == 0 => {}
            Ok(point @ 1..) => digits.insert(point, '.'),
            _ => digits.insert_str(0, &format!("0.{}", "0".repeat(-point as usize))),
        }
        digits
    } else {
        if digits.len() > 1 {
            digits.insert(1, '.');
        }
        format!("{digits}E{:+}", point - 1)
    };
    let negative = number.negative && number.significant > 0;
    Some(if negative { format!("-{plain}") } else { plain })
}

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

/// Eight decimal digits in three multiplications (bytes, pairs and quads side by side in one word).
fn eight_digits(chunk: [u8; 8]) -> Option<u32> {
    let word = u64::from_le_bytes(chunk);
    let high_nibbles = word & 0xf0f0_f0f0_f0f0_f0f0;
    let above_nine = word.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    if high_nibbles != 0x3030_3030_3030_3030 || above_nine != 0x3030_3030_3030_3030 {
        return None;
    }
    let digits = word & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    Some((quads.wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers() {
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"9223372036854775808"), None);
        assert_eq!(parse_i64(b"+12"), Some(12));
        assert_eq!(parse_i64(b"000000000000000000000000000012"), Some(12));
        for bad in ["", "-", "1 ", " 1", "1.0", "12345678:", "/2345678", "1234567x"] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_i32(b"2147483648"), None);
        assert_eq!(truncate_to_i64(b"1e3"), Some(1000));
        assert_eq!(truncate_to_i64(b"-1.99"), Some(-1));
        assert_eq!(truncate_to_i64(b"0.00001"), Some(0));
        assert_eq!(truncate_to_i64(b"9.3e18"), None);
        assert_eq!(truncate_to_i64(b"1e400"), None);
        assert_eq!(truncate_to_i64(b"1e-400"), Some(0));
    }

    #[test]
    fn doubles() {
        assert_eq!(parse_java_f64(b" 1.5d "), Some(1.5));
        assert_eq!(parse_java_f64(b"-Infinity"), Some(f64::NEG_INFINITY));
        assert!(parse_java_f64(b"NaN").is_some_and(f64::is_nan));
        for bad in ["", " ", "inf", "nan", "1x", "d", "e5", ".", "1.2.3", "-"] {
            assert_eq!(parse_java_f64(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_plain_f64(b"-0.0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
    }

    #[test]
    fn decimals_fit_exactly_or_not() {
        assert_eq!(parse_decimal128(b"12.0", 6, 4), Ok(120_000));
        assert_eq!(parse_decimal128(b"-0.0100", 4, 2), Ok(-1));
        assert_eq!(parse_decimal128(b"1.5e1", 4, 2), Ok(1500));
        assert_eq!(parse_decimal128(b"0.000", 4, 2), Ok(0));
        assert_eq!(parse_decimal128(b"100.00", 4, 2), Err(DecimalFault::DoesNotFit));
        assert_eq!(parse_decimal128(b"1.001", 4, 2), Err(DecimalFault::DoesNotFit));
        assert_eq!(parse_decimal128(b"1e-30", 4, 2), Err(DecimalFault::DoesNotFit));
        assert_eq!(parse_decimal128(b"1e999999999", 4, 2), Err(DecimalFault::DoesNotFit));
        assert_eq!(parse_decimal128(b"1,5", 4, 2), Err(DecimalFault::NotANumber));
        assert_eq!(parse_decimal128(b".", 4, 2), Err(DecimalFault::NotANumber));
        let nines = "9".repeat(76);
        assert_eq!(parse_decimal256(nines.as_bytes(), 76, 0).unwrap().to_string(), nines);
        assert_eq!(parse_decimal256(b"-1.5", 50, 40).unwrap().to_string(), format!("-15{}", "0".repeat(39)));
    }

    #[test]
    fn big_decimals_print_as_java() {
        for (text, want) in [
            ("12.50", "12.50"),
            ("1e3", "1E+3"),
            ("1.25E2", "125"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1E-7"),
            ("-0.0", "0.0"),
            ("-12", "-12"),
            ("120e1", "1.20E+3"),
            ("0.10", "0.10"),
            ("5e-2", "0.05"),
        ] {
            assert_eq!(big_decimal_text(text.as_bytes()).as_deref(), Some(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_agree_with_rust(text in "[+-]?[0-9]{1,21}") {
            prop_assert_eq!(parse_i64(text.as_bytes()), text.parse::<i64>().ok());
        }

        #[test]
        fn doubles_agree_with_rust(text in "-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
            prop_assert_eq!(parse_plain_f64(text.as_bytes()).map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits));
        }

        #[test]
        fn both_widths_of_decimals_agree(text in "-?[0-9]{1,25}(\\.[0-9]{1,12})?", scale in 0_u8..20) {
            let narrow = parse_decimal128(text.as_bytes(), 38, scale).map(i256::from_i128);
            prop_assert_eq!(narrow, parse_decimal256(text.as_bytes(), 38, scale));
        }
    }
}
