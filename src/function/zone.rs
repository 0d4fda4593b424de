//! Time zones by the names that `java.time.ZoneId.of` takes.
//!
//! Regions come from the system's database through jiff; offsets are ours. No clock.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::eval::Reason;

/// A time zone.
#[derive(Clone, Debug)]
pub enum Zone {
    /// UTC and so many seconds, under this id
    Fixed(i32, String),
    /// a region
    Region(TimeZone, String),
}

impl Zone {
    /// UTC.
    pub fn utc() -> Self {
        Self::Fixed(0, "UTC".to_owned())
    }

    /// The zone of this process.
    pub fn system() -> Self {
        let zone = TimeZone::system();
        let name = zone.iana_name().unwrap_or("UTC").to_owned();
        Self::Region(zone, name)
    }

    /// The zone of that id: `Z`, `+01:00`, `UTC+1`, `Europe/London`.
    ///
    /// # Errors
    /// If there is no such zone.
    pub fn of(id: &str) -> Result<Self, Reason> {
        let base = ["UTC", "GMT", "UT"].into_iter().find_map(|p| id.strip_prefix(p)).unwrap_or(id);
        if base.is_empty() || base == "Z" {
            return Ok(Self::Fixed(0, id.to_owned()));
        }
        if base.starts_with(['+', '-']) {
            let seconds = parse_offset(base).ok_or_else(|| unknown(id))?;
            return Ok(Self::Fixed(seconds, id.to_owned()));
        }
        TimeZone::get(id).map(|zone| Self::Region(zone, id.to_owned())).map_err(|_| unknown(id))
    }

    /// Seconds ahead of UTC at an instant, given in ms since the epoch.
    pub fn offset_at(&self, ms: i64) -> i32 {
        match self {
            Self::Fixed(seconds, _) => *seconds,
            Self::Region(zone, _) => {
                Timestamp::from_millisecond(ms).map_or(0, |instant| zone.to_offset(instant).seconds())
            }
        }
    }

    /// The instant, in ms since the epoch, at which clocks here show `local` (ms since the epoch as if in UTC); in a gap the later one, in an
    /// overlap the earlier one.
    pub fn instant_of(&self, local: i64) -> i64 {
        match self {
            Self::Fixed(seconds, _) => local - i64::from(*seconds) * 1000,
            Self::Region(zone, _) => {
                let civil: Option<DateTime> =
                    Timestamp::from_millisecond(local).ok().map(|t| TimeZone::UTC.to_datetime(t));
                let instant = civil.and_then(|civil| zone.to_ambiguous_timestamp(civil).compatible().ok());
                instant.map_or(local, Timestamp::as_millisecond)
            }
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Fixed(_, id) | Self::Region(_, id) => id,
        }
    }

    /// What clocks there are labelled at an instant, such as CET.
    pub fn abbreviation(&self, ms: i64) -> String {
        match self {
            Self::Fixed(_, id) => id.clone(),
            Self::Region(zone, id) => Timestamp::from_millisecond(ms)
                .map_or_else(|_| id.clone(), |instant| zone.to_offset_info(instant).abbreviation().to_owned()),
        }
    }
}

fn unknown(id: &str) -> Reason {
    format!("'{id}' is no time zone").into()
}

/// Reads `±h`, `±hh`, `±hhmm`, `±hh:mm`, `±hhmmss`, `±hh:mm:ss` as seconds.
pub fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits = rest.replace(':', "");
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range).map_or(Some(0), |t| t.parse::<i32>().ok());
    let (hours, minutes, seconds) = match digits.len() {
        1 => (digits.parse().ok()?, 0, 0),
        2 | 4 | 6 => (part(0..2)?, part(2..4)?, part(4..6)?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}
