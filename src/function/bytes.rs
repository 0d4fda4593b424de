//! Bytes and their texts: hex, utf8, ascii, base64; numbers out of bytes; MD5; UUID; CHR.
//!
//! The subtle thing: FROM_BYTES prints hex in upper case, ENCODE in lower case, as in ksqlDB.

use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use md5::{Digest, Md5};

use super::columns::{Bytes, Ints, Outcome, Strs, binaries, prims, strings};
use super::eval::{Failures, Reason};
use super::registry::{Function, Variation};
use super::text::parse_base64;
use super::udf::Call;

type Out = Result<ColumnarValue, DataFusionError>;

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "BIGINT_FROM_BYTES",
        "CONVERSIONS",
        "The BIGINT that 8 bytes hold, big-endian unless told otherwise.",
        &[
            Variation::new("(value BYTES) -> BIGINT", bigint_from_bytes),
            Variation::new("(value BYTES, byteOrder STRING) -> BIGINT", bigint_from_bytes),
        ],
    ),
    Function::new(
        "INT_FROM_BYTES",
        "CONVERSIONS",
        "The INT that 4 bytes hold, big-endian unless told otherwise.",
        &[
            Variation::new("(value BYTES) -> INT", int_from_bytes),
            Variation::new("(value BYTES, byteOrder STRING) -> INT", int_from_bytes),
        ],
    ),
    Function::new(
        "DOUBLE_FROM_BYTES",
        "CONVERSIONS",
        "The DOUBLE that 8 bytes hold, big-endian unless told otherwise.",
        &[
            Variation::new("(value BYTES) -> DOUBLE", double_from_bytes),
            Variation::new("(value BYTES, byteOrder STRING) -> DOUBLE", double_from_bytes),
        ],
    ),
    Function::new(
        "CHR",
        "STRING",
        "The character of a code point, given as a number or as \\uXXXX.",
        &[Variation::new("(codepoint INT) -> STRING", chr), Variation::new("(escape STRING) -> STRING", chr_escape)],
    ),
    Function::new(
        "ENCODE",
        "STRING",
        "A text of bytes in one encoding, written in another: hex, utf8, ascii, base64.",
        &[Variation::new("(str STRING, inputEncoding STRING, outputEncoding STRING) -> STRING", encode)],
    ),
    Function::new(
        "FROM_BYTES",
        "STRING",
        "Bytes as text: hex, utf8, ascii or base64.",
        &[Variation::new("(value BYTES, encoding STRING) -> STRING", from_bytes)],
    ),
    Function::new(
        "TO_BYTES",
        "STRING",
        "The bytes that a text in hex, utf8, ascii or base64 stands for.",
        &[Variation::new("(value STRING, encoding STRING) -> BYTES", to_bytes)],
    ),
    Function::new(
        "MD5",
        "STRING",
        "The MD5 digest of the text's UTF-8 bytes, in hex.",
        &[Variation::new("(s STRING) -> STRING", md5_text)],
    ),
    Function::new(
        "UUID",
        "STRING",
        "A random UUID, or the UUID that 16 bytes hold.",
        &[Variation::new("() -> STRING", uuid_random), Variation::new("(bytes BYTES) -> STRING", uuid_of)],
    )
    .volatile(),
];

/// An encoding of bytes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Hex,
    Utf8,
    Ascii,
    Base64,
}

impl Encoding {
    fn of(name: &str) -> Result<Self, Reason> {
        match name.to_ascii_lowercase().as_str() {
            "hex" => Ok(Self::Hex),
            "utf8" => Ok(Self::Utf8),
            "ascii" => Ok(Self::Ascii),
            "base64" => Ok(Self::Base64),
            _ => Err(format!("'{name}' is no encoding: use hex, utf8, ascii or base64").into()),
        }
    }

    fn read(self, text: &str) -> Result<Vec<u8>, Reason> {
        match self {
            Self::Hex => read_hex(text).ok_or_else(|| format!("'{text}' is not hex").into()),
            Self::Utf8 => Ok(text.as_bytes().to_vec()),
            Self::Ascii => Ok(text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect()),
            Self::Base64 => parse_base64(text).ok_or_else(|| format!("'{text}' is not base64").into()),
        }
    }

    /// Hex in upper case.
    fn write(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => bytes.iter().map(|b| format!("{b:02X}")).collect(),
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Ascii => bytes.iter().map(|&b| if b.is_ascii() { b as char } else { '\u{fffd}' }).collect(),
            Self::Base64 => STANDARD.encode(bytes),
        }
    }
}

/// Plain, after `0x` (an odd digit stands alone at the front), or as `X'…'`.
fn read_hex(text: &str) -> Option<Vec<u8>> {
    let quoted = text.strip_prefix("X'").or_else(|| text.strip_prefix("x'")).and_then(|t| t.strip_suffix('\''));
    let digits = match (text.strip_prefix("0x"), quoted) {
        (Some(rest), _) if rest.len() % 2 == 1 => format!("0{rest}"),
        (Some(rest), _) => rest.to_owned(),
        (None, Some(quoted)) => quoted.to_owned(),
        (None, None) => text.to_owned(),
    };
    if !digits.is_ascii() || digits.len() % 2 == 1 {
        return None;
    }
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).ok()).collect()
}

fn encode(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (texts, from, to) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?, Strs::of(&call.args[2])?);
    Ok(strings(call.rows, failures, |row| {
        let (Some(text), Some(from), Some(to)) = (texts.get(row), from.get(row), to.get(row)) else { return Ok(None) };
        let (from, to) = (Encoding::of(from)?, Encoding::of(to)?);
        if from == to {
            return Err("ENCODE needs two different encodings".into());
        }
        let text = to.write(&from.read(text)?);
        Ok(Some(if to == Encoding::Hex { text.to_lowercase() } else { text }))
    }))
}

fn from_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, encodings) = (Bytes::of(&call.args[0])?, Strs::of(&call.args[1])?);
    Ok(strings(call.rows, failures, |row| {
        let (Some(value), Some(encoding)) = (values.get(row), encodings.get(row)) else { return Ok(None) };
        Ok(Some(Encoding::of(encoding)?.write(value)))
    }))
}

fn to_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (texts, encodings) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    Ok(binaries(call.rows, failures, |row| {
        let (Some(text), Some(encoding)) = (texts.get(row), encodings.get(row)) else { return Ok(None) };
        Encoding::of(encoding)?.read(text).map(Some)
    }))
}

/// The row's bytes in big-endian order, if they are so many.
fn ordered<const N: usize>(value: Option<&[u8]>, order: Option<Option<&str>>) -> Outcome<[u8; N]> {
    let (Some(value), Some(order)) = (value, order.unwrap_or(Some("BIG_ENDIAN"))) else { return Ok(None) };
    let mut bytes = <[u8; N]>::try_from(value)
        .map_err(|_| Reason::from(format!("the number needs {N} bytes, but there are {}", value.len())))?;
    match order.to_ascii_uppercase().as_str() {
        "BIG_ENDIAN" => {}
        "LITTLE_ENDIAN" => bytes.reverse(),
        _ => return Err(format!("'{order}' is no byte order: use BIG_ENDIAN or LITTLE_ENDIAN").into()),
    }
    Ok(Some(bytes))
}

macro_rules! number_from_bytes {
    ($kernel:ident, $arrow:ty, $native:ty, $size:literal) => {
        fn $kernel(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
            let values = Bytes::of(&call.args[0])?;
            let orders = call.args.get(1).map(Strs::of).transpose()?;
            Ok(prims::<$arrow>(call.rows, failures, |row| {
                let bytes = ordered::<$size>(values.get(row), orders.as_ref().map(|orders| orders.get(row)))?;
                Ok(bytes.map(<$native>::from_be_bytes))
            }))
        }
    };
}

number_from_bytes!(bigint_from_bytes, Int64Type, i64, 8);
number_from_bytes!(int_from_bytes, Int32Type, i32, 4);
number_from_bytes!(double_from_bytes, Float64Type, f64, 8);

fn chr(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let codes = Ints::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| {
        Ok(codes.get(row).and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32).map(String::from))
    }))
}

fn chr_escape(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let escapes = Strs::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| Ok(escapes.get(row).and_then(unescape))))
}

/// Java's `\uXXXX` escapes; other characters stand for themselves.
fn unescape(text: &str) -> Option<String> {
    if !text.starts_with("\\u") || text.len() < 6 {
        return None;
    }
    let mut units = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(escape) = rest.strip_prefix("\\u") {
            let digits = escape.trim_start_matches('u');
            units.push(u16::from_str_radix(digits.get(..4)?, 16).ok()?);
            rest = &digits[4..];
        } else {
            let c = rest.chars().next()?;
            units.extend(c.encode_utf16(&mut [0; 2]).iter());
            rest = &rest[c.len_utf8()..];
        }
    }
    String::from_utf16(&units).ok()
}

fn hex_lower(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn md5_text(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let texts = Strs::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| Ok(texts.get(row).map(|text| hex_lower(&Md5::digest(text.as_bytes()))))))
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = hex_lower(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn uuid_random(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    Ok(strings(call.rows, failures, |_| {
        let mut bytes: [u8; 16] = rand::random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Some(uuid_text(bytes)))
    }))
}

fn uuid_of(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Bytes::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| Ok(values.get(row).and_then(|v| v.try_into().ok()).map(uuid_text))))
}
