//! Functions on STRING, and those of them that take BYTES too: joining, cutting, padding, searching.
//!
//! Not encodings (`bytes`), masks (`mask`) or patterns (`regex`). The subtle thing: positions and lengths count UTF-16 code units; text that is all
//! ASCII, the usual case, is handled by bytes.

use arrow::datatypes::Int32Type;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::columns::{Bytes, Ints, Strs, binaries, binary_lists, prims, string_lists, strings, texts};
use super::eval::Failures;
use super::registry::{Function, Variation};
use super::text::trim;
use super::udf::Call;

const CATEGORY: &str = "STRING";
type Out = Result<ColumnarValue, DataFusionError>;

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "CONCAT",
        CATEGORY,
        "Joins values one after the other; NULLs are left out.",
        &[
            Variation::new("(values STRING...) -> STRING", concat),
            Variation::new("(values BYTES...) -> BYTES", concat_bytes),
        ],
    ),
    Function::new(
        "CONCAT_WS",
        CATEGORY,
        "Joins values with a separator between them; NULLs are left out.",
        &[
            Variation::new("(separator STRING, first STRING, values STRING...) -> STRING", concat_ws),
            Variation::new("(separator BYTES, first BYTES, values BYTES...) -> BYTES", concat_ws_bytes),
        ],
    ),
    Function::new(
        "ELT",
        CATEGORY,
        "The n-th of the values, counted from 1; NULL if there is none.",
        &[Variation::new("(n INT, values STRING...) -> STRING", elt)],
    ),
    Function::new(
        "FIELD",
        CATEGORY,
        "The place, counted from 1, of the first value that equals the text; 0 if none does.",
        &[Variation::new("(str STRING, values STRING...) -> INT", field)],
    ),
    Function::new(
        "INITCAP",
        CATEGORY,
        "Each word with its first letter in upper case and the others in lower case.",
        &[Variation::new("(str STRING) -> STRING", initcap)],
    ),
    Function::new(
        "INSTR",
        CATEGORY,
        "The place, counted from 1, of a text within another; 0 if it is not there.",
        &[
            Variation::new("(str STRING, substring STRING) -> INT", instr),
            Variation::new("(str STRING, substring STRING, position INT) -> INT", instr)
                .doc("Searches from a position; from the end backwards, if that is negative."),
            Variation::new("(str STRING, substring STRING, position INT, occurrence INT) -> INT", instr)
                .doc("Finds the n-th occurrence from a position on."),
        ],
    ),
    Function::new("LCASE", CATEGORY, "The text in lower case.", &[Variation::new("(str STRING) -> STRING", lcase)]),
    Function::new("UCASE", CATEGORY, "The text in upper case.", &[Variation::new("(str STRING) -> STRING", ucase)]),
    Function::new(
        "LEN",
        CATEGORY,
        "The number of characters (UTF-16 code units) or bytes.",
        &[Variation::new("(str STRING) -> INT", len), Variation::new("(bytes BYTES) -> INT", len_bytes)],
    ),
    Function::new(
        "LPAD",
        CATEGORY,
        "The value filled up on the left, or cut, to a length.",
        &[
            Variation::new("(input STRING, length INT, padding STRING) -> STRING", lpad),
            Variation::new("(input BYTES, length INT, padding BYTES) -> BYTES", lpad_bytes),
        ],
    ),
    Function::new(
        "RPAD",
        CATEGORY,
        "The value filled up on the right, or cut, to a length.",
        &[
            Variation::new("(input STRING, length INT, padding STRING) -> STRING", rpad),
            Variation::new("(input BYTES, length INT, padding BYTES) -> BYTES", rpad_bytes),
        ],
    ),
    Function::new(
        "REPLACE",
        CATEGORY,
        "The text with all occurrences of another replaced.",
        &[Variation::new("(str STRING, old STRING, new STRING) -> STRING", replace)],
    ),
    Function::new(
        "SPLIT",
        CATEGORY,
        "The pieces between delimiters; an empty delimiter splits every character.",
        &[
            Variation::new("(str STRING, delimiter STRING) -> ARRAY<STRING>", split),
            Variation::new("(bytes BYTES, delimiter BYTES) -> ARRAY<BYTES>", split_bytes),
        ],
    ),
    Function::new(
        "SUBSTRING",
        CATEGORY,
        "The part from a position on, counted from 1, or from the end if negative.",
        &[
            Variation::new("(str STRING, pos INT) -> STRING", substring),
            Variation::new("(str STRING, pos INT, length INT) -> STRING", substring),
            Variation::new("(bytes BYTES, pos INT) -> BYTES", substring_bytes),
            Variation::new("(bytes BYTES, pos INT, length INT) -> BYTES", substring_bytes),
        ],
    ),
    Function::new(
        "TRIM",
        CATEGORY,
        "The text without white space at both ends.",
        &[Variation::new("(str STRING) -> STRING", trim_text)],
    ),
];

fn all_strings<'a>(args: &'a [ColumnarValue]) -> Result<Vec<Strs<'a>>, DataFusionError> {
    args.iter().map(Strs::of).collect()
}

fn all_bytes<'a>(args: &'a [ColumnarValue]) -> Result<Vec<Bytes<'a>>, DataFusionError> {
    args.iter().map(Bytes::of).collect()
}

fn concat(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = all_strings(call.args)?;
    Ok(texts(call.rows, failures, |row, out| {
        values.iter().filter_map(|v| v.get(row)).for_each(|v| out.push_str(v));
        Ok(true)
    }))
}

fn concat_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = all_bytes(call.args)?;
    Ok(binaries(call.rows, failures, |row| {
        Ok(Some(values.iter().filter_map(|v| v.get(row)).collect::<Vec<_>>().concat()))
    }))
}

fn concat_ws(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (separator, values) = (Strs::of(&call.args[0])?, all_strings(&call.args[1..])?);
    Ok(texts(call.rows, failures, |row, out| {
        let Some(separator) = separator.get(row) else { return Ok(false) };
        for (i, value) in values.iter().filter_map(|v| v.get(row)).enumerate() {
            out.push_str(if i == 0 { "" } else { separator });
            out.push_str(value);
        }
        Ok(true)
    }))
}

fn concat_ws_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (separator, values) = (Bytes::of(&call.args[0])?, all_bytes(&call.args[1..])?);
    Ok(binaries(call.rows, failures, |row| {
        let Some(separator) = separator.get(row) else { return Ok(None) };
        Ok(Some(values.iter().filter_map(|v| v.get(row)).collect::<Vec<_>>().join(separator)))
    }))
}

fn elt(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (n, values) = (Ints::of(&call.args[0])?, all_strings(&call.args[1..])?);
    Ok(strings(call.rows, failures, |row| {
        let n = n.get(row).ok_or("ELT's n is NULL")?;
        Ok(usize::try_from(n - 1).ok().and_then(|i| values.get(i)).and_then(|v| v.get(row)))
    }))
}

fn field(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (text, values) = (Strs::of(&call.args[0])?, all_strings(&call.args[1..])?);
    Ok(prims::<Int32Type>(call.rows, failures, |row| {
        let Some(text) = text.get(row) else { return Ok(Some(0)) };
        Ok(Some(values.iter().position(|v| v.get(row) == Some(text)).map_or(0, |i| i as i32 + 1)))
    }))
}

fn initcap(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Strs::of(&call.args[0])?;
    Ok(texts(call.rows, failures, |row, out| {
        let Some(text) = values.get(row) else { return Ok(false) };
        let mut starts = true;
        for c in text.trim_start().chars() {
            if starts {
                out.extend(c.to_uppercase())
            } else {
                out.extend(c.to_lowercase())
            }
            starts = c.is_whitespace();
        }
        Ok(true)
    }))
}

fn lcase(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Strs::of(&call.args[0])?;
    Ok(texts(call.rows, failures, |row, out| {
        let Some(text) = values.get(row) else { return Ok(false) };
        if text.is_ascii() {
            out.push_str(text);
            out.make_ascii_lowercase();
        } else {
            out.push_str(&text.to_lowercase());
        }
        Ok(true)
    }))
}

fn ucase(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Strs::of(&call.args[0])?;
    Ok(texts(call.rows, failures, |row, out| {
        let Some(text) = values.get(row) else { return Ok(false) };
        if text.is_ascii() {
            out.push_str(text);
            out.make_ascii_uppercase();
        } else {
            out.push_str(&text.to_uppercase());
        }
        Ok(true)
    }))
}

/// Length in UTF-16 code units.
pub fn utf16_len(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

fn len(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Strs::of(&call.args[0])?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| Ok(values.get(row).map(|text| utf16_len(text) as i32))))
}

fn len_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Bytes::of(&call.args[0])?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| Ok(values.get(row).map(|bytes| bytes.len() as i32))))
}

/// `units` at exactly `length`: cut, or filled with repeated `padding` on the side asked for.
fn pad<T: Copy>(units: &[T], length: i32, padding: &[T], left: bool) -> Option<Vec<T>> {
    let length = usize::try_from(length).ok().filter(|_| !padding.is_empty())?;
    let kept = &units[..units.len().min(length)];
    let fill = padding.iter().copied().cycle().take(length - kept.len());
    Some(if left { fill.chain(kept.iter().copied()).collect() } else { kept.iter().copied().chain(fill).collect() })
}

fn pad_strings(call: &Call<'_>, failures: &mut Failures<'_>, left: bool) -> Out {
    let (values, lengths, paddings) = (Strs::of(&call.args[0])?, Ints::of(&call.args[1])?, Strs::of(&call.args[2])?);
    Ok(strings(call.rows, failures, |row| {
        let (Some(value), Some(length), Some(padding)) = (values.get(row), lengths.get(row), paddings.get(row)) else {
            return Ok(None);
        };
        let value: Vec<u16> = value.encode_utf16().collect();
        let padding: Vec<u16> = padding.encode_utf16().collect();
        Ok(pad(&value, length, &padding, left).map(|units| String::from_utf16_lossy(&units)))
    }))
}

fn pad_bytes(call: &Call<'_>, failures: &mut Failures<'_>, left: bool) -> Out {
    let (values, lengths, paddings) = (Bytes::of(&call.args[0])?, Ints::of(&call.args[1])?, Bytes::of(&call.args[2])?);
    Ok(binaries(call.rows, failures, |row| {
        let (Some(value), Some(length), Some(padding)) = (values.get(row), lengths.get(row), paddings.get(row)) else {
            return Ok(None);
        };
        Ok(pad(value, length, padding, left))
    }))
}

fn lpad(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    pad_strings(call, failures, true)
}

fn rpad(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    pad_strings(call, failures, false)
}

fn lpad_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    pad_bytes(call, failures, true)
}

fn rpad_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    pad_bytes(call, failures, false)
}

fn replace(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, olds, news) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?, Strs::of(&call.args[2])?);
    Ok(strings(call.rows, failures, |row| {
        let (Some(value), Some(old), Some(new)) = (values.get(row), olds.get(row), news.get(row)) else {
            return Ok(None);
        };
        Ok(Some(value.replace(old, new)))
    }))
}

fn split(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, delimiters) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    Ok(string_lists(call.rows, failures, |row, out| {
        let (Some(value), Some(delimiter)) = (values.get(row), delimiters.get(row)) else { return Ok(false) };
        if delimiter.is_empty() && !value.is_empty() {
            out.extend(value.chars().map(|c| Some(c.to_string())));
        } else if delimiter.is_empty() {
            out.push(Some(String::new()));
        } else {
            out.extend(value.split(delimiter).map(|piece| Some(piece.to_owned())));
        }
        Ok(true)
    }))
}

fn split_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, delimiters) = (Bytes::of(&call.args[0])?, Bytes::of(&call.args[1])?);
    Ok(binary_lists(call.rows, failures, |row, out| {
        let (Some(value), Some(delimiter)) = (values.get(row), delimiters.get(row)) else { return Ok(false) };
        if delimiter.is_empty() && !value.is_empty() {
            out.extend(value.iter().map(|b| vec![*b]));
            return Ok(true);
        }
        let mut start = 0;
        if !delimiter.is_empty() {
            for at in memchr::memmem::find_iter(value, delimiter) {
                out.push(value[start..at].to_vec());
                start = at + delimiter.len();
            }
        }
        out.push(value[start..].to_vec());
        Ok(true)
    }))
}

/// The range of a value of `len` units that a position (from 1, from the end if negative) and a length mean.
fn cut(len: usize, position: i32, length: Option<i32>) -> std::ops::Range<usize> {
    let start = match position {
        ..0 => len.saturating_sub(position.unsigned_abs() as usize),
        0 => 0,
        _ => (position as usize - 1).min(len),
    };
    let end = match length {
        Some(length) => start.saturating_add(usize::try_from(length).unwrap_or(0)).min(len),
        None => len,
    };
    start..end
}

/// The part of `text` between two places counted in UTF-16 code units.
fn slice_utf16(text: &str, range: std::ops::Range<usize>) -> String {
    let units: Vec<u16> = text.encode_utf16().skip(range.start).take(range.len()).collect();
    String::from_utf16_lossy(&units)
}

fn substring(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, positions) = (Strs::of(&call.args[0])?, Ints::of(&call.args[1])?);
    let lengths = call.args.get(2).map(Ints::of).transpose()?;
    Ok(texts(call.rows, failures, |row, out| {
        let (Some(value), Some(position)) = (values.get(row), positions.get(row)) else { return Ok(false) };
        let length = lengths.as_ref().map(|lengths| lengths.get(row));
        if length == Some(None) {
            return Ok(false);
        }
        let range = cut(utf16_len(value), position, length.flatten());
        if value.is_ascii() {
            out.push_str(&value[range])
        } else {
            out.push_str(&slice_utf16(value, range))
        }
        Ok(true)
    }))
}

fn substring_bytes(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, positions) = (Bytes::of(&call.args[0])?, Ints::of(&call.args[1])?);
    let lengths = call.args.get(2).map(Ints::of).transpose()?;
    Ok(binaries(call.rows, failures, |row| {
        let (Some(value), Some(position)) = (values.get(row), positions.get(row)) else { return Ok(None) };
        let length = lengths.as_ref().map(|lengths| lengths.get(row));
        if length == Some(None) {
            return Ok(None);
        }
        Ok(Some(&value[cut(value.len(), position, length.flatten())]))
    }))
}

fn trim_text(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Strs::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| Ok(values.get(row).map(trim))))
}

fn instr(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, wanted) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let positions = call.args.get(2).map(Ints::of).transpose()?;
    let occurrences = call.args.get(3).map(Ints::of).transpose()?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| {
        let number = |view: &Option<Ints<'_>>| match view {
            Some(view) => view.get(row).ok_or("a position of INSTR is NULL"),
            None => Ok(1),
        };
        let (position, occurrence) = (number(&positions)?, number(&occurrences)?);
        let (Some(value), Some(wanted)) = (values.get(row), wanted.get(row)) else { return Ok(Some(0)) };
        let place = if value.is_ascii() && wanted.is_ascii() {
            find(value.as_bytes(), wanted.as_bytes(), position, occurrence)
        } else {
            let value: Vec<u16> = value.encode_utf16().collect();
            let wanted: Vec<u16> = wanted.encode_utf16().collect();
            find(&value, &wanted, position, occurrence)
        };
        Ok(Some(place))
    }))
}

/// The place of the n-th occurrence at or after `position`, backwards from the end if that is negative; 0 if there is none.
fn find<T: PartialEq>(units: &[T], wanted: &[T], position: i32, occurrence: i32) -> i32 {
    let distance = position.unsigned_abs() as usize;
    if distance > units.len() || occurrence < 1 {
        return 0;
    }
    let here = |at: &usize| units[*at..].starts_with(wanted);
    let nth = occurrence as usize - 1;
    let place = if position < 0 {
        (0..=units.len() - distance).rev().filter(here).nth(nth)
    } else {
        (distance.saturating_sub(1)..=units.len()).filter(here).nth(nth)
    };
    place.map_or(0, |at| at as i32 + 1)
}
