//! Days and milliseconds as calendar text and back: the forms that CAST, comparisons and literals use.
//!
//! Not patterns (`java_pattern`) and no zones but offsets. The subtle thing: the readers take any prefix of the ISO form, missing parts
//! standing for the first month, the first day, midnight.

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// Days since the epoch of a proleptic Gregorian date.
pub fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since the epoch.
pub fn date_of(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Days of a month.
pub fn month_length(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Appends `yyyy-MM-dd`.
pub fn print_date(days: i64, out: &mut String) {
    use std::fmt::Write;
    let (year, month, day) = date_of(days);
    let sign = match year {
        ..0 => "-",
        10_000.. => "+",
        _ => "",
    };
    let _ = write!(out, "{sign}{:04}-{month:02}-{day:02}", year.abs());
}

/// Appends `HH:mm`, or `HH:mm:ss` if the seconds are not 0; milliseconds are dropped.
pub fn print_time(ms: i64, out: &mut String) {
    use std::fmt::Write;
    let seconds = ms / 1000;
    let _ = write!(out, "{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
    if seconds % 60 != 0 {
        let _ = write!(out, ":{:02}", seconds % 60);
    }
}

/// Appends `yyyy-MM-ddTHH:mm:ss.SSS`, UTC.
pub fn print_timestamp(ms: i64, out: &mut String) {
    use std::fmt::Write;
    print_date(ms.div_euclid(DAY_MS), out);
    let of_day = ms.rem_euclid(DAY_MS);
    let (seconds, milli) = (of_day / 1000, of_day % 1000);
    let _ = write!(out, "T{:02}:{:02}:{:02}.{milli:03}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

/// Reads `yyyy[-MM[-dd]]` as days since the epoch.
pub fn parse_date(text: &str) -> Option<i64> {
    let mut reader = Reader { rest: text };
    let days = reader.date()?;
    reader.rest.is_empty().then_some(days)
}

/// Reads `HH[:mm[:ss[.S…]]]` as milliseconds of the day.
pub fn parse_time(text: &str) -> Option<i64> {
    let mut reader = Reader { rest: text };
    let ms = reader.time()?;
    reader.rest.is_empty().then_some(ms)
}

/// Reads `yyyy[-MM[-dd[THH[:mm[:ss[.S…]]]]]]` with an optional `Z`, `±HH`, `±HHmm` or `±HH:mm` as milliseconds since the epoch.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let mut reader = Reader { rest: text };
    let days = reader.date()?;
    let mut ms = days * DAY_MS;
    if reader.eat('T') && !reader.rest.is_empty() && !reader.rest.starts_with(['Z', '+', '-']) {
        ms += reader.time()?;
    }
    let offset = reader.offset()?;
    reader.rest.is_empty().then_some(ms - offset)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let text = self.rest.get(..count).filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
        self.rest = &self.rest[count..];
        text.parse().ok()
    }

    fn limited(&mut self, count: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.digits(count).filter(|v| range.contains(v))
    }

    /// `-` and two digits; a sign of an offset is not eaten.
    fn date_part(&mut self, max: i64) -> Option<Option<i64>> {
        let bytes = self.rest.as_bytes();
        let is_part = bytes.first() == Some(&b'-')
            && bytes.len() >= 3
            && !bytes.get(3).is_some_and(|b| b.is_ascii_digit() || *b == b':');
        if !is_part {
            return Some(None);
        }
        self.eat('-');
        self.limited(2, 1..=max).map(Some)
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        let Some(month) = self.date_part(12)? else { return Some(days_of(year, 1, 1)) };
        let month = month as u32;
        let day = self.date_part(i64::from(month_length(year, month)))?.unwrap_or(1);
        Some(days_of(year, month, day as u32))
    }

    fn time(&mut self) -> Option<i64> {
        let mut ms = self.limited(2, 0..=23)? * 3_600_000;
        if self.eat(':') {
            ms += self.limited(2, 0..=59)? * 60_000;
            if self.eat(':') {
                ms += self.limited(2, 0..=59)? * 1000;
                if self.eat('.') {
                    let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
                    if !(1..=9).contains(&count) {
                        return None;
                    }
                    let nanos = self.digits(count)? * 10_i64.pow(9 - count as u32);
                    ms += nanos / 1_000_000;
                }
            }
        }
        Some(ms)
    }

    fn offset(&mut self) -> Option<i64> {
        if self.rest.is_empty() || self.eat('Z') {
            return Some(0);
        }
        let sign = if self.eat('+') {
            1
        } else if self.eat('-') {
            -1
        } else {
            return None;
        };
        let hours = self.limited(2, 0..=18)?;
        self.eat(':');
        let minutes = if self.rest.is_empty() { 0 } else { self.limited(2, 0..=59)? };
        Some(sign * (hours * 60 + minutes) * 60_000)
    }
}
