//! Java's date and time patterns: compiled once, then printing moments and reading texts.
//!
//! The letters of `DateTimeFormatter` in English; week-based fields and padding are not known. The subtle thing is adjacency: in
//! `yyyyMMdd` the year leaves the digits that the fixed-width fields behind it need.

use super::calendar::{DAY_MS, date_of, days_of, month_length};
use super::eval::Reason;
use super::zone::{Zone, parse_offset};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const KNOWN: &str = "GyuMLdDQqEahHkKmsSnNAVzOXxZ";
const DATE_LETTERS: &str = "GyuMLdDQqE";
const TIME_LETTERS: &str = "ahHkKmsSnNA";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Field(char, usize),
    Text(String),
    /// `[`, with the index of its `]`
    Open(usize),
    Close,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    tokens: Vec<Token>,
    text: String,
}

/// What a pattern prints: a local date and time, and the zone that made it.
#[derive(Debug)]
pub struct Moment<'a> {
    /// days since the epoch, if there is a date
    pub days: Option<i64>,
    /// ms of the day, if there is a time
    pub time: Option<i64>,
    /// zone and instant in ms, if there is one
    pub zone: Option<(&'a Zone, i64)>,
}

/// What was read; fields that the text does not have are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: Option<i64>,
    /// 0 to 11
    half_hour: Option<i64>,
    afternoon: Option<bool>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
    time: Option<i64>,
    offset: Option<i32>,
    zone: Option<String>,
    before_christ: bool,
}

/// Which reader's habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// `DateTimeFormatter`
    Formatter,
    /// `SimpleDateFormat`: widths are only hints, and text may follow
    Simple,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// A letter that is not known, or quotes or brackets that do not match.
    pub fn compile(text: &str) -> Result<Self, Reason> {
        let wrong = |what: &str| Reason::from(format!("invalid pattern '{text}': {what}"));
        let mut tokens = Vec::new();
        let mut open = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                'a'..='z' | 'A'..='Z' => {
                    if !KNOWN.contains(c) {
                        return Err(wrong(&format!("the letter {c} is not known")));
                    }
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    tokens.push(Token::Field(c, count));
                }
                '\'' => tokens.push(Token::Text(quoted(&mut chars).ok_or_else(|| wrong("a quote is not closed"))?)),
                '[' => {
                    open.push(tokens.len());
                    tokens.push(Token::Open(0));
                }
                ']' => {
                    let start = open.pop().ok_or_else(|| wrong("a ] without ["))?;
                    tokens[start] = Token::Open(tokens.len());
                    tokens.push(Token::Close);
                }
                '{' | '}' | '#' => return Err(wrong("{, } and # are reserved")),
                c => tokens.push(Token::Text(c.to_string())),
            }
        }
        if !open.is_empty() {
            return Err(wrong("a [ is not closed"));
        }
        Ok(Self { tokens, text: text.to_owned() })
    }

    fn letters(&self) -> impl Iterator<Item = char> {
        self.tokens.iter().filter_map(|t| if let Token::Field(letter, _) = t { Some(*letter) } else { None })
    }

    /// True if a letter of dates is in it.
    pub fn has_date_fields(&self) -> bool {
        self.letters().any(|letter| DATE_LETTERS.contains(letter))
    }

    /// Appends the moment in this pattern.
    ///
    /// # Errors
    /// If the pattern asks for a field that the moment does not have.
    pub fn print(&self, moment: &Moment<'_>, out: &mut String) -> Result<(), Reason> {
        for token in &self.tokens {
            match token {
                Token::Text(text) => out.push_str(text),
                Token::Open(_) | Token::Close => {}
                Token::Field(letter, count) => print_field(*letter, *count, moment, out).ok_or_else(|| {
                    Reason::from(format!("the pattern '{}' asks for {letter}, which is not there", self.text))
                })?,
            }
        }
        Ok(())
    }

    /// Reads a text in this pattern.
    ///
    /// # Errors
    /// If it is not in this pattern.
    pub fn parse(&self, text: &str, habit: Habit) -> Result<Fields, Reason> {
        let wrong = || Reason::from(format!("'{text}' is not in the pattern '{}'", self.text));
        let mut fields = Fields::default();
        let rest = self.parse_tokens(0..self.tokens.len(), text, &mut fields, habit).ok_or_else(wrong)?;
        if rest.is_empty() || habit == Habit::Simple { Ok(fields) } else { Err(wrong()) }
    }

    fn parse_tokens<'t>(
        &self,
        range: std::ops::Range<usize>,
        text: &'t str,
        fields: &mut Fields,
        habit: Habit,
    ) -> Option<&'t str> {
        let mut rest = text;
        let mut at = range.start;
        while at < range.end {
            match &self.tokens[at] {
                Token::Text(literal) => rest = strip_ignoring_case(rest, literal)?,
                Token::Open(close) => {
                    let mut tried = fields.clone();
                    if let Some(after) = self.parse_tokens(at + 1..*close, rest, &mut tried, habit) {
                        rest = after;
                        *fields = tried;
                    }
                    at = *close;
                }
                Token::Close => {}
                Token::Field(letter, count) => {
                    let width = match habit {
                        Habit::Formatter => width_of(*letter, *count).map(|(min, max)| (min, max, self.reserved(at))),
                        Habit::Simple => width_of(*letter, *count).map(|_| self.simple_width(at, *count)),
                    };
                    rest = parse_field(*letter, *count, width, rest, fields, habit)?;
                }
            }
            at += 1;
        }
        Some(rest)
    }

    /// Digits that the fixed-width fields right behind need.
    fn reserved(&self, at: usize) -> usize {
        let fixed = |token: &Token| match token {
            Token::Field(letter, count) => {
                width_of(*letter, *count).filter(|(min, max)| min == max).map(|(min, _)| min)
            }
            _ => None,
        };
        self.tokens[at + 1..].iter().map_while(fixed).sum()
    }

    /// Greedy, unless a number follows directly.
    fn simple_width(&self, at: usize, count: usize) -> (usize, usize, usize) {
        let number_follows = matches!(self.tokens.get(at + 1), Some(Token::Field(l, c)) if width_of(*l, *c).is_some());
        if number_follows { (1, count, 0) } else { (1, 19, 0) }
    }
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Some("'".to_owned());
    }
    let mut literal = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
            '\'' => return Some(literal),
            c => literal.push(c),
        }
    }
}

/// Least and most digits of a numeric field.
fn width_of(letter: char, count: usize) -> Option<(usize, usize)> {
    Some(match (letter, count) {
        ('y' | 'u', 2) => (2, 2),
        ('y' | 'u', _) => (count, 19),
        ('M' | 'L' | 'Q' | 'q', 3..) => return None,
        ('S', _) => (count, count),
        ('D', 2..) => (count, 3),
        ('M' | 'L' | 'Q' | 'q' | 'd' | 'D' | 'h' | 'H' | 'k' | 'K' | 'm' | 's', 1) => (1, 19),
        ('M' | 'L' | 'Q' | 'q' | 'd' | 'h' | 'H' | 'k' | 'K' | 'm' | 's', _) => (count, count),
        ('n' | 'N' | 'A', _) => (count, 19),
        _ => return None,
    })
}

fn number(out: &mut String, value: i64, width: usize) -> Option<()> {
    use std::fmt::Write;
    write!(out, "{value:0width$}").ok()
}

fn name(out: &mut String, names: &[&str], index: usize, count: usize) -> Option<()> {
    let full = names.get(index)?;
    out.push_str(match count {
        4 => full,
        5 => &full[..1],
        _ => &full[..3],
    });
    Some(())
}

/// `None` if the moment does not have the field.
fn print_field(letter: char, count: usize, moment: &Moment<'_>, out: &mut String) -> Option<()> {
    if DATE_LETTERS.contains(letter) {
        return print_date_field(letter, count, moment.days?, out);
    }
    if TIME_LETTERS.contains(letter) {
        return print_time_field(letter, count, moment.time?, out);
    }
    let (zone, instant) = moment.zone?;
    match letter {
        'V' => out.push_str(zone.id()),
        'z' => out.push_str(&zone.abbreviation(instant)),
        _ => print_offset(letter, count, zone.offset_at(instant), out),
    }
    Some(())
}

fn print_date_field(letter: char, count: usize, days: i64, out: &mut String) -> Option<()> {
    let (year, month, day) = date_of(days);
    let of_era = if letter == 'y' && year <= 0 { 1 - year } else { year };
    match letter {
        'G' => out.push_str(if year > 0 { "AD" } else { "BC" }),
        'y' | 'u' if count == 2 => number(out, of_era.rem_euclid(100), 2)?,
        'y' | 'u' => {
            if count >= 4 && of_era > 9999 {
                out.push('+');
            }
            number(out, of_era, count)?;
        }
        'M' | 'L' if count >= 3 => name(out, &MONTHS, month as usize - 1, count)?,
        'M' | 'L' => number(out, month.into(), count)?,
        'd' => number(out, day.into(), count)?,
        'D' => number(out, days - days_of(year, 1, 1) + 1, count)?,
        'Q' | 'q' => {
            let quarter = i64::from((month - 1) / 3 + 1);
            match count {
                1 | 2 => number(out, quarter, count)?,
                3 => out.push_str(["Q1", "Q2", "Q3", "Q4"][quarter as usize - 1]),
                _ => out.push_str(["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"][quarter as usize - 1]),
            }
        }
        _ => name(out, &DAYS, (days + 3).rem_euclid(7) as usize, count)?,
    }
    Some(())
}

fn print_time_field(letter: char, count: usize, ms: i64, out: &mut String) -> Option<()> {
    let (hour, nanos) = (ms / 3_600_000, ms % 1000 * 1_000_000);
    match letter {
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'H' => number(out, hour, count)?,
        'k' => number(out, if hour == 0 { 24 } else { hour }, count)?,
        'K' => number(out, hour % 12, count)?,
        'h' => number(out, if hour % 12 == 0 { 12 } else { hour % 12 }, count)?,
        'm' => number(out, ms / 60_000 % 60, count)?,
        's' => number(out, ms / 1000 % 60, count)?,
        'S' => out.push_str(format!("{nanos:09}").get(..count)?),
        'n' => number(out, nanos, count)?,
        'A' => number(out, ms, count)?,
        _ => number(out, ms * 1_000_000, count)?,
    }
    Some(())
}

/// `X`, `x`, `Z`, `O`.
fn print_offset(letter: char, count: usize, seconds: i32, out: &mut String) {
    use std::fmt::Write;
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let written = match (letter, count) {
        ('O', 4) => write!(out, "GMT{sign}{hours:02}:{minutes:02}"),
        ('O', _) if seconds == 0 => write!(out, "GMT"),
        ('O', _) if minutes == 0 => write!(out, "GMT{sign}{hours}"),
        ('O', _) => write!(out, "GMT{sign}{hours}:{minutes:02}"),
        ('X', _) | ('Z', 5) if seconds == 0 => write!(out, "Z"),
        ('X' | 'x', 1) if minutes == 0 => write!(out, "{sign}{hours:02}"),
        ('X' | 'x', 1 | 2 | 4) | ('Z', 1..=3) => write!(out, "{sign}{hours:02}{minutes:02}"),
        ('Z', 4) => write!(out, "GMT{sign}{hours:02}:{minutes:02}"),
        _ => write!(out, "{sign}{hours:02}:{minutes:02}"),
    };
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

fn strip_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    for wanted in prefix.chars() {
        let c = rest.next()?;
        if c != wanted && !c.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

/// Digits of the width; the last part of it is how many are left for others.
fn digits((min, max, reserved): (usize, usize, usize), text: &str) -> Option<(i64, usize, &str)> {
    let run = text.bytes().take_while(u8::is_ascii_digit).count();
    let take = if min == max { min } else { run.min(max).min(run.saturating_sub(reserved)).max(min) };
    let digits = text.get(..take).filter(|_| take <= run && take > 0)?;
    Some((digits.parse().ok()?, take, &text[take..]))
}

fn parse_field<'t>(
    letter: char,
    count: usize,
    width: Option<(usize, usize, usize)>,
    text: &'t str,
    fields: &mut Fields,
    habit: Habit,
) -> Option<&'t str> {
    let Some(width) = width else { return parse_text_field(letter, count, text, fields) };
    let text = if habit == Habit::Simple { text.trim_start() } else { text };
    let (sign, text) = match text.strip_prefix(['-', '+']).filter(|_| matches!(letter, 'y' | 'u') && count != 2) {
        Some(after) => (if text.starts_with('-') { -1 } else { 1 }, after),
        None => (1, text),
    };
    let (value, taken, rest) = digits(width, text)?;
    let within = |range: std::ops::RangeInclusive<i64>| Some(value).filter(|v| range.contains(v));
    match letter {
        'y' | 'u' => fields.year = Some(sign * year_of(value, count, taken, habit)),
        'M' | 'L' => fields.month = Some(within(1..=12)?),
        'd' => fields.day = Some(within(1..=31)?),
        'D' => fields.day_of_year = Some(within(1..=366)?),
        'Q' | 'q' => fields.month = fields.month.or(Some(within(1..=4)? * 3 - 2)),
        'H' => fields.hour = Some(within(0..=23)?),
        'k' => fields.hour = Some(within(1..=24)? % 24),
        'K' => fields.half_hour = Some(within(0..=11)?),
        'h' => fields.half_hour = Some(within(1..=12)? % 12),
        'm' => fields.minute = Some(within(0..=59)?),
        's' => fields.second = Some(within(0..=59)?),
        'S' if habit == Habit::Simple => fields.nanos = Some(value * 1_000_000),
        'S' => {
            fields.nanos = Some(if taken > 9 {
                value / 10_i64.pow(taken as u32 - 9)
            } else {
                value * 10_i64.pow(9 - taken as u32)
            })
        }
        'n' => fields.nanos = Some(within(0..=999_999_999)?),
        'A' => fields.time = Some(within(0..=DAY_MS - 1)?),
        _ => fields.time = Some(within(0..=DAY_MS * 1_000_000 - 1)? / 1_000_000),
    }
    Some(rest)
}

/// Two digits mean 2000 to 2099; with the simple reader 1946 to 2045 (its window of a hundred years, kept still).
fn year_of(value: i64, count: usize, taken: usize, habit: Habit) -> i64 {
    match habit {
        Habit::Formatter if count == 2 => 2000 + value,
        Habit::Simple if count <= 2 && taken <= 2 => value + if value <= 45 { 2000 } else { 1900 },
        _ => value,
    }
}

fn parse_text_field<'t>(letter: char, count: usize, text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    match letter {
        'M' | 'L' => {
            let (index, rest) = parse_name(&MONTHS, text)?;
            fields.month = Some(index as i64 + 1);
            Some(rest)
        }
        'E' => Some(parse_name(&DAYS, text)?.1),
        'G' => match strip_ignoring_case(text, "AD") {
            Some(rest) => Some(rest),
            None => {
                fields.before_christ = true;
                strip_ignoring_case(text, "BC")
            }
        },
        'a' => {
            let (afternoon, rest) = match strip_ignoring_case(text, "AM") {
                Some(rest) => (false, rest),
                None => (true, strip_ignoring_case(text, "PM")?),
            };
            fields.afternoon = Some(afternoon);
            Some(rest)
        }
        'Q' | 'q' => {
            let rest = strip_ignoring_case(text, "Q")?;
            let (quarter, _, rest) = digits((1, 1, 0), rest)?;
            fields.month = fields.month.or(Some(quarter * 3 - 2));
            Some(rest)
        }
        'V' | 'z' => {
            let end = text.find(|c: char| !(c.is_alphanumeric() || "/_+-:".contains(c))).unwrap_or(text.len());
            fields.zone = Some(text[..end].to_owned()).filter(|id| !id.is_empty());
            fields.zone.as_ref().map(|_| &text[end..])
        }
        _ => parse_offset_field(letter, count, text, fields),
    }
}

fn parse_name<'t>(names: &[&str], text: &'t str) -> Option<(usize, &'t str)> {
    let find = |short: bool| {
        names.iter().enumerate().find_map(|(index, name)| {
            let name = if short { &name[..3] } else { name };
            strip_ignoring_case(text, name).map(|rest| (index, rest))
        })
    };
    find(false).or_else(|| find(true))
}

fn parse_offset_field<'t>(letter: char, count: usize, text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    if let Some(rest) = text.strip_prefix(['Z', 'z']).filter(|_| letter == 'X' || count == 5) {
        fields.offset = Some(0);
        return Some(rest);
    }
    let gmt = letter == 'O' || (letter == 'Z' && count == 4);
    let text = if gmt { strip_ignoring_case(text, "GMT")? } else { text };
    if gmt && !text.starts_with(['+', '-']) {
        fields.offset = Some(0);
        return Some(text);
    }
    let run = text.char_indices().skip(1).take_while(|(_, c)| c.is_ascii_digit() || *c == ':').last();
    let longest = run.map_or(0, |(at, _)| at + 1).min(9);
    let (end, offset) = (2..=longest).rev().find_map(|end| {
        let part = text[..end].strip_suffix(':').is_none().then(|| &text[..end])?;
        Some((end, parse_offset(part)?))
    })?;
    fields.offset = Some(offset);
    Some(&text[end..])
}

impl Fields {
    /// The date; missing fields are those of 1970-01-01.
    ///
    /// # Errors
    /// If there is no such date.
    pub fn date_or_epoch(&self) -> Result<i64, Reason> {
        let year = self.year.unwrap_or(1970);
        let year = if self.before_christ { 1 - year } else { year };
        if let Some(day) = self.day_of_year {
            let length = if month_length(year, 2) == 29 { 366 } else { 365 };
            return if day <= length {
                Ok(days_of(year, 1, 1) + day - 1)
            } else {
                Err("no such day of the year".into())
            };
        }
        let (month, day) = (self.month.unwrap_or(1) as u32, self.day.unwrap_or(1) as u32);
        if day > month_length(year, month) {
            return Err(format!("the month {year}-{month:02} has no day {day}").into());
        }
        Ok(days_of(year, month, day))
    }

    /// The date, all of which must have been there.
    ///
    /// # Errors
    /// If a part of it is missing, or there is no such date.
    pub fn date(&self) -> Result<i64, Reason> {
        let complete =
            self.year.is_some() && (self.day_of_year.is_some() || (self.month.is_some() && self.day.is_some()));
        if complete { self.date_or_epoch() } else { Err("the text does not hold a whole date".into()) }
    }

    /// Ms of the day; missing fields are 0.
    pub fn time_or_midnight(&self) -> i64 {
        if let Some(time) = self.time {
            return time;
        }
        let half = self.half_hour.map(|h| h + if self.afternoon == Some(true) { 12 } else { 0 });
        let hour = self.hour.or(half).unwrap_or(if self.afternoon == Some(true) { 12 } else { 0 });
        let seconds = hour * 3600 + self.minute.unwrap_or(0) * 60 + self.second.unwrap_or(0);
        seconds * 1000 + self.nanos.unwrap_or(0) / 1_000_000
    }

    /// Ms of the day, of which the hour must have been there.
    ///
    /// # Errors
    /// If it was not.
    pub fn time(&self) -> Result<i64, Reason> {
        let hour = self.time.is_some() || self.hour.is_some() || (self.half_hour.is_some() && self.afternoon.is_some());
        if hour { Ok(self.time_or_midnight()) } else { Err("the text does not hold the hour".into()) }
    }

    /// The instant in ms since the epoch; a zone in the text wins over `zone`, missing fields are those of 1970-01-01T00:00.
    ///
    /// # Errors
    /// If there is no such date or zone.
    pub fn instant(&self, zone: &Zone) -> Result<i64, Reason> {
        let local = self.date_or_epoch()? * DAY_MS + self.time_or_midnight();
        if let Some(offset) = self.offset {
            return Ok(local - i64::from(offset) * 1000);
        }
        match &self.zone {
            Some(id) => Ok(Zone::of(id)?.instant_of(local)),
            None => Ok(zone.instant_of(local)),
        }
    }
}
