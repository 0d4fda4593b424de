//! MASK and its kin: characters replaced by the class they are of.
//!
//! The subtle thing: in the forms with four masks a NULL leaves its class as it is.

use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::columns::{Ints, Strs, texts};
use super::eval::{Failures, Reason};
use super::registry::{Function, Variation};
use super::udf::Call;

const CATEGORY: &str = "STRING";
type Out = Result<ColumnarValue, DataFusionError>;

macro_rules! part {
    ($name:literal, $description:literal, $part:expr) => {
        Function::new(
            $name,
            CATEGORY,
            $description,
            &[
                Variation::new("(input STRING, numChars INT) -> STRING", |c, f| mask_part(c, f, $part)),
                Variation::new(
                    "(input STRING, numChars INT, upper STRING, lower STRING, digit STRING, other STRING) -> STRING",
                    |c, f| mask_part(c, f, $part),
                ),
            ],
        )
    };
}

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "MASK",
        CATEGORY,
        "The text with upper-case letters as X, lower-case ones as x, digits as n, others as -.",
        &[
            Variation::new("(input STRING) -> STRING", |c, f| mask_with(c, f, 1, |_, len| Ok(0..len))),
            Variation::new(
                "(input STRING, upper STRING, lower STRING, digit STRING, other STRING) -> STRING",
                |c, f| mask_with(c, f, 1, |_, len| Ok(0..len)),
            ),
        ],
    ),
    part!("MASK_KEEP_LEFT", "The text masked but for its first characters.", |n, len| n.min(len)..len),
    part!("MASK_KEEP_RIGHT", "The text masked but for its last characters.", |n, len| 0..len.saturating_sub(n)),
    part!("MASK_LEFT", "The text with its first characters masked.", |n, len| 0..n.min(len)),
    part!("MASK_RIGHT", "The text with its last characters masked.", |n, len| len.saturating_sub(n)..len),
];

type Part = fn(usize, usize) -> std::ops::Range<usize>;

fn mask_part(call: &Call<'_>, failures: &mut Failures<'_>, part: Part) -> Out {
    let counts = Ints::of(&call.args[1])?;
    mask_with(call, failures, 2, |row, len| {
        let count = counts.get(row).ok_or("the number of characters is NULL")?;
        let count = usize::try_from(count).map_err(|_| Reason::from("the number of characters is negative"))?;
        Ok(part(count, len))
    })
}

/// Masks the range of characters that `range` gives for a row and a length; masks stand from argument `first` on.
fn mask_with(
    call: &Call<'_>,
    failures: &mut Failures<'_>,
    first: usize,
    range: impl Fn(usize, usize) -> Result<std::ops::Range<usize>, Reason>,
) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    let masks = call.args[first..].iter().map(Strs::of).collect::<Result<Vec<_>, _>>()?;
    Ok(texts(call.rows, failures, |row, out| {
        let Some(input) = inputs.get(row) else { return Ok(false) };
        let chosen = masks_of(&masks, row)?;
        let masked = range(row, input.chars().count())?;
        for (i, c) in input.chars().enumerate() {
            let class = usize::from(!c.is_uppercase())
                * (1 + usize::from(!c.is_lowercase()) * (1 + usize::from(!c.is_numeric())));
            out.push(chosen[class].filter(|_| masked.contains(&i)).unwrap_or(c));
        }
        Ok(true)
    }))
}

/// Masks for upper, lower, digit, other.
fn masks_of(masks: &[Strs<'_>], row: usize) -> Result<[Option<char>; 4], Reason> {
    let mut chosen = [Some('X'), Some('x'), Some('n'), Some('-')];
    for (mask, view) in chosen.iter_mut().zip(masks) {
        *mask = match view.get(row) {
            None => None,
            Some(text) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (one, None) => one,
                    _ => return Err(format!("the mask '{text}' is longer than one character").into()),
                }
            }
        };
    }
    Ok(chosen)
}
