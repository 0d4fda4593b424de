//! Dates, times, timestamps: reading, printing, adding, converting.
//!
//! Patterns are `java_pattern`'s, zones `zone`'s. UNIX_DATE() and UNIX_TIMESTAMP() without arguments are the only functions that read the clock.

use arrow::datatypes::{Date32Type, Int32Type, Int64Type, Time32MillisecondType, TimestampMillisecondType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::calendar::DAY_MS;
use super::columns::{Dates, Ints, Longs, Strs, Times, Timestamps, prims, texts};
use super::eval::{Failures, Reason};
use super::java_pattern::{Habit, Moment, Pattern};
use super::registry::{Function, Variation};
use super::udf::Call;
use super::zone::Zone;

const CATEGORY: &str = "DATE / TIME";
type Out = Result<ColumnarValue, DataFusionError>;

macro_rules! shift {
    ($name:literal, $signature:literal, $description:literal, $kernel:expr) => {
        Function::new($name, CATEGORY, $description, &[Variation::new($signature, $kernel)])
    };
}

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "CONVERT_TZ",
        CATEGORY,
        "A timestamp moved from one time zone to another.",
        &[Variation::new("(timestamp TIMESTAMP, fromTz STRING, toTz STRING) -> TIMESTAMP", convert_tz)],
    ),
    shift!("DATEADD", "(unit UNIT, interval INT, date DATE) -> DATE", "The date so much later.", |c, f| date_shift(
        c, f, 1
    )),
    shift!("DATESUB", "(unit UNIT, interval INT, date DATE) -> DATE", "The date so much earlier.", |c, f| date_shift(
        c, f, -1
    )),
    shift!("TIMEADD", "(unit UNIT, interval INT, time TIME) -> TIME", "The time so much later.", |c, f| time_shift(
        c, f, 1
    )),
    shift!("TIMESUB", "(unit UNIT, interval INT, time TIME) -> TIME", "The time so much earlier.", |c, f| time_shift(
        c, f, -1
    )),
    shift!(
        "TIMESTAMPADD",
        "(unit UNIT, interval INT, timestamp TIMESTAMP) -> TIMESTAMP",
        "The timestamp so much later.",
        |c, f| timestamp_shift(c, f, 1)
    ),
    shift!(
        "TIMESTAMPSUB",
        "(unit UNIT, interval INT, timestamp TIMESTAMP) -> TIMESTAMP",
        "The timestamp so much earlier.",
        |c, f| timestamp_shift(c, f, -1)
    ),
    Function::new(
        "DATETOSTRING",
        CATEGORY,
        "Days since the epoch as text in a pattern.",
        &[Variation::new("(epochDays INT, formatPattern STRING) -> STRING", date_to_string)],
    ),
    Function::new(
        "FORMAT_DATE",
        CATEGORY,
        "A date as text in a pattern.",
        &[Variation::new("(date DATE, formatPattern STRING) -> STRING", format_date)],
    ),
    Function::new(
        "FORMAT_TIME",
        CATEGORY,
        "A time as text in a pattern.",
        &[Variation::new("(time TIME, formatPattern STRING) -> STRING", format_time)],
    ),
    Function::new(
        "FORMAT_TIMESTAMP",
        CATEGORY,
        "A timestamp as text in a pattern, in UTC unless a zone is given.",
        &[
            Variation::new("(timestamp TIMESTAMP, formatPattern STRING) -> STRING", format_timestamp),
            Variation::new("(timestamp TIMESTAMP, formatPattern STRING, timeZone STRING) -> STRING", format_timestamp),
        ],
    ),
    Function::new(
        "FROM_DAYS",
        CATEGORY,
        "The date so many days after the epoch.",
        &[Variation::new("(days INT) -> DATE", from_days)],
    ),
    Function::new(
        "FROM_UNIXTIME",
        CATEGORY,
        "The timestamp so many milliseconds after the epoch.",
        &[Variation::new("(epochMilli BIGINT) -> TIMESTAMP", |call, failures| {
            let values = Longs::of(&call.args[0])?;
            Ok(prims::<TimestampMillisecondType>(call.rows, failures, |row| Ok(values.get(row))))
        })],
    ),
    Function::new(
        "PARSE_DATE",
        CATEGORY,
        "The date that a text in a pattern shows.",
        &[Variation::new("(formattedDate STRING, formatPattern STRING) -> DATE", parse_date)],
    ),
    Function::new(
        "PARSE_TIME",
        CATEGORY,
        "The time that a text in a pattern shows.",
        &[Variation::new("(formattedTime STRING, formatPattern STRING) -> TIME", parse_time)],
    ),
    Function::new(
        "PARSE_TIMESTAMP",
        CATEGORY,
        "The timestamp that a text in a pattern shows, in UTC unless a zone is given.",
        &[
            Variation::new("(formattedTimestamp STRING, formatPattern STRING) -> TIMESTAMP", parse_timestamp),
            Variation::new(
                "(formattedTimestamp STRING, formatPattern STRING, timeZone STRING) -> TIMESTAMP",
                parse_timestamp,
            ),
        ],
    ),
    Function::new(
        "STRINGTODATE",
        CATEGORY,
        "The days since the epoch of the date that a text in a pattern shows.",
        &[Variation::new("(formattedDate STRING, formatPattern STRING) -> INT", string_to_date)],
    ),
    Function::new(
        "STRINGTOTIMESTAMP",
        CATEGORY,
        "The milliseconds since the epoch that a text in a pattern shows, in the server's zone unless one is given.",
        &[
            Variation::new("(formattedTimestamp STRING, formatPattern STRING) -> BIGINT", string_to_timestamp),
            Variation::new(
                "(formattedTimestamp STRING, formatPattern STRING, timeZone STRING) -> BIGINT",
                string_to_timestamp,
            ),
        ],
    ),
    Function::new(
        "TIMESTAMPTOSTRING",
        CATEGORY,
        "Milliseconds since the epoch as text in a pattern, in the server's zone unless one is given.",
        &[
            Variation::new("(epochMilli BIGINT, formatPattern STRING) -> STRING", timestamp_to_string),
            Variation::new("(epochMilli BIGINT, formatPattern STRING, timeZone STRING) -> STRING", timestamp_to_string),
        ],
    ),
    Function::new(
        "UNIX_DATE",
        CATEGORY,
        "The days since the epoch, of today or of a date.",
        &[
            Variation::new("() -> INT", today),
            Variation::new("(date DATE) -> INT", |call, failures| {
                let values = Dates::of(&call.args[0])?;
                Ok(prims::<Int32Type>(call.rows, failures, |row| Ok(values.get(row))))
            }),
        ],
    )
    .volatile(),
    Function::new(
        "UNIX_TIMESTAMP",
        CATEGORY,
        "The milliseconds since the epoch, of now or of a timestamp.",
        &[
            Variation::new("() -> BIGINT", now),
            Variation::new("(timestamp TIMESTAMP) -> BIGINT", |call, failures| {
                let values = Timestamps::of(&call.args[0])?;
                Ok(prims::<Int64Type>(call.rows, failures, |row| Ok(values.get(row))))
            }),
        ],
    )
    .volatile(),
];

#[expect(clippy::disallowed_methods, reason = "UNIX_TIMESTAMP() and UNIX_DATE() are the functions that tell the time")]
fn wall_clock_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn now(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let now = wall_clock_ms();
    Ok(prims::<Int64Type>(call.rows, failures, |_| Ok(Some(now))))
}

fn today(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let now = wall_clock_ms();
    let days = (now + i64::from(Zone::system().offset_at(now)) * 1000).div_euclid(DAY_MS);
    Ok(prims::<Int32Type>(call.rows, failures, |_| Ok(Some(days as i32))))
}

fn convert_tz(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, from, to) = (Timestamps::of(&call.args[0])?, Strs::of(&call.args[1])?, Strs::of(&call.args[2])?);
    let mut zones = Zones::default();
    let mut others = Zones::default();
    Ok(prims::<TimestampMillisecondType>(call.rows, failures, |row| {
        let (Some(ms), Some(from), Some(to)) = (values.get(row), from.get(row), to.get(row)) else { return Ok(None) };
        let from = zones.get(from)?.offset_at(ms);
        let to = others.get(to)?.offset_at(ms);
        Ok(Some(ms + i64::from(to - from) * 1000))
    }))
}

/// The zone of the row before, which is mostly that of the next.
#[derive(Default)]
struct Zones(Option<(String, Zone)>);

impl Zones {
    fn get(&mut self, id: &str) -> Result<&Zone, Reason> {
        if self.0.as_ref().is_none_or(|(last, _)| last != id) {
            self.0 = Some((id.to_owned(), Zone::of(id)?));
        }
        self.0.as_ref().map(|(_, zone)| zone).ok_or_else(|| "no zone".into())
    }
}

/// Ms of a unit of time, as the binder writes it.
fn unit_ms(unit: Option<&str>) -> Result<i64, Reason> {
    match unit.map(|u| u.trim_end_matches('S')) {
        Some("DAY") => Ok(DAY_MS),
        Some("HOUR") => Ok(3_600_000),
        Some("MINUTE") => Ok(60_000),
        Some("SECOND") => Ok(1000),
        Some("MILLISECOND") => Ok(1),
        _ => Err("the unit of time is not known".into()),
    }
}

/// By how many ms the row is to be moved.
fn distance(units: &Strs<'_>, counts: &Ints<'_>, row: usize, sign: i64) -> Result<Option<i64>, Reason> {
    let unit = unit_ms(units.get(row))?;
    Ok(counts.get(row).map(|count| sign * i64::from(count) * unit))
}

fn date_shift(call: &Call<'_>, failures: &mut Failures<'_>, sign: i64) -> Out {
    let (units, counts, values) = (Strs::of(&call.args[0])?, Ints::of(&call.args[1])?, Dates::of(&call.args[2])?);
    Ok(prims::<Date32Type>(call.rows, failures, |row| {
        let moved = distance(&units, &counts, row, sign)?.zip(values.get(row));
        Ok(moved.map(|(by, days)| (i64::from(days) * DAY_MS + by).div_euclid(DAY_MS) as i32))
    }))
}

fn time_shift(call: &Call<'_>, failures: &mut Failures<'_>, sign: i64) -> Out {
    let (units, counts, values) = (Strs::of(&call.args[0])?, Ints::of(&call.args[1])?, Times::of(&call.args[2])?);
    Ok(prims::<Time32MillisecondType>(call.rows, failures, |row| {
        let moved = distance(&units, &counts, row, sign)?.zip(values.get(row));
        Ok(moved.map(|(by, ms)| (i64::from(ms) + by).rem_euclid(DAY_MS) as i32))
    }))
}

fn timestamp_shift(call: &Call<'_>, failures: &mut Failures<'_>, sign: i64) -> Out {
    let (units, counts, values) = (Strs::of(&call.args[0])?, Ints::of(&call.args[1])?, Timestamps::of(&call.args[2])?);
    Ok(prims::<TimestampMillisecondType>(call.rows, failures, |row| {
        let moved = distance(&units, &counts, row, sign)?.zip(values.get(row));
        moved.map_or(Ok(None), |(by, ms)| {
            ms.checked_add(by).map(Some).ok_or_else(|| "the timestamp is out of range".into())
        })
    }))
}

fn print_days(
    call: &Call<'_>,
    failures: &mut Failures<'_>,
    days: impl Fn(usize) -> Result<Option<i64>, Reason>,
) -> Out {
    let patterns = Strs::of(&call.args[1])?;
    let mut compiled = call.compiled(Pattern::compile);
    Ok(texts(call.rows, failures, |row, out| {
        let (Some(days), Some(pattern)) = (days(row)?, patterns.get(row)) else { return Ok(false) };
        compiled.get(pattern)?.print(&Moment { days: Some(days), time: None, zone: None }, out)?;
        Ok(true)
    }))
}

fn format_date(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Dates::of(&call.args[0])?;
    print_days(call, failures, |row| Ok(values.get(row).map(i64::from)))
}

fn date_to_string(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Ints::of(&call.args[0])?;
    print_days(call, failures, |row| {
        values.get(row).map(|days| Some(days.into())).ok_or_else(|| "the number of days is NULL".into())
    })
}

fn format_time(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, patterns) = (Times::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut compiled = call.compiled(Pattern::compile);
    Ok(texts(call.rows, failures, |row, out| {
        let (Some(ms), Some(pattern)) = (values.get(row), patterns.get(row)) else { return Ok(false) };
        compiled.get(pattern)?.print(&Moment { days: None, time: Some(ms.into()), zone: None }, out)?;
        Ok(true)
    }))
}

/// Prints instants; the third argument, if there, is the zone, else `default`.
fn print_instants(
    call: &Call<'_>,
    failures: &mut Failures<'_>,
    default: Zone,
    instant: impl Fn(usize) -> Result<Option<i64>, Reason>,
) -> Out {
    let patterns = Strs::of(&call.args[1])?;
    let ids = call.args.get(2).map(Strs::of).transpose()?;
    let mut compiled = call.compiled(Pattern::compile);
    let mut zones = Zones::default();
    Ok(texts(call.rows, failures, |row, out| {
        let (Some(ms), Some(pattern)) = (instant(row)?, patterns.get(row)) else { return Ok(false) };
        let zone = match &ids {
            None => &default,
            Some(ids) => match ids.get(row) {
                Some(id) => zones.get(id)?,
                None => return Ok(false),
            },
        };
        let local = ms + i64::from(zone.offset_at(ms)) * 1000;
        let (days, time) = (local.div_euclid(DAY_MS), local.rem_euclid(DAY_MS));
        compiled.get(pattern)?.print(&Moment { days: Some(days), time: Some(time), zone: Some((zone, ms)) }, out)?;
        Ok(true)
    }))
}

fn format_timestamp(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Timestamps::of(&call.args[0])?;
    print_instants(call, failures, Zone::Fixed(0, "GMT".to_owned()), |row| Ok(values.get(row)))
}

fn timestamp_to_string(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Longs::of(&call.args[0])?;
    print_instants(call, failures, Zone::system(), |row| {
        values.get(row).map(Some).ok_or_else(|| "the number of milliseconds is NULL".into())
    })
}

fn from_days(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let values = Ints::of(&call.args[0])?;
    Ok(prims::<Date32Type>(call.rows, failures, |row| {
        values.get(row).map(Some).ok_or_else(|| "the number of days is NULL".into())
    }))
}

fn parse_date(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, patterns) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut compiled = call.compiled(Pattern::compile);
    Ok(prims::<Date32Type>(call.rows, failures, |row| {
        let (Some(text), Some(pattern)) = (values.get(row), patterns.get(row)) else { return Ok(None) };
        let ms = compiled.get(pattern)?.parse(text, Habit::Simple)?.instant(&Zone::utc())?;
        if ms.rem_euclid(DAY_MS) != 0 {
            return Err(format!("'{text}' holds a time of the day").into());
        }
        Ok(Some((ms / DAY_MS) as i32))
    }))
}

fn parse_time(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, patterns) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut compiled = call.compiled(Pattern::compile);
    Ok(prims::<Time32MillisecondType>(call.rows, failures, |row| {
        let (Some(text), Some(pattern)) = (values.get(row), patterns.get(row)) else { return Ok(None) };
        let compiled = compiled.get(pattern)?;
        if compiled.has_date_fields() {
            return Err(format!("the pattern '{pattern}' of a time has fields of a date").into());
        }
        Ok(Some(compiled.parse(text, Habit::Formatter)?.time()? as i32))
    }))
}

/// Reads the first argument as an instant; the third, if there, is the zone, else `default`.
fn parse_instant<'a>(
    call: &'a Call<'_>,
    default: Zone,
    missing: Option<&'static str>,
) -> Result<impl FnMut(usize) -> Result<Option<i64>, Reason> + 'a, DataFusionError> {
    let (values, patterns) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let ids = call.args.get(2).map(Strs::of).transpose()?;
    let mut compiled = call.compiled(Pattern::compile);
    let mut zones = Zones::default();
    let absent = move || missing.map_or(Ok(None), |reason| Err(Reason::from(reason)));
    Ok(move |row| {
        let (Some(text), Some(pattern)) = (values.get(row), patterns.get(row)) else { return absent() };
        let fields = compiled.get(pattern)?.parse(text, Habit::Formatter)?;
        match &ids {
            None => fields.instant(&default).map(Some),
            Some(ids) => match ids.get(row) {
                Some(id) => fields.instant(zones.get(id)?).map(Some),
                None => absent(),
            },
        }
    })
}

fn parse_timestamp(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let instant = parse_instant(call, Zone::utc(), None)?;
    Ok(prims::<TimestampMillisecondType>(call.rows, failures, instant))
}

fn string_to_timestamp(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let instant = parse_instant(call, Zone::system(), Some("an argument of STRINGTOTIMESTAMP is NULL"))?;
    Ok(prims::<Int64Type>(call.rows, failures, instant))
}

fn string_to_date(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (values, patterns) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    let mut compiled = call.compiled(Pattern::compile);
    Ok(prims::<Int32Type>(call.rows, failures, |row| {
        let (Some(text), Some(pattern)) = (values.get(row), patterns.get(row)) else {
            return Err("an argument of STRINGTODATE is NULL".into());
        };
        Ok(Some(compiled.get(pattern)?.parse(text, Habit::Formatter)?.date()? as i32))
    }))
}
