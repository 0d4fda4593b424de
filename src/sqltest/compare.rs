//! Expected records against actual ones, by the reference's rules (testing-formats.md §1.8).
//!
//! Knows JSON values only; `record` makes them of bytes. The subtle thing: the expected node decides how the actual one is looked at, and a
//! field that is missing is a field that is null only if no other field is too many for it.

use serde_json::Value;

use super::exact::Exact;
use super::record::{Record, Window};

/// How much text of one value is shown.
const SHOWN_CHARS: usize = 400;

/// How values are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// numbers with a point are exact decimals; else doubles, equal within 1e-6
    pub exact: bool,
    /// an expected timestamp of 0 matches any (a case without inputs)
    pub any_time_for_zero: bool,
}

/// An expected record.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// null: no key
    pub key: Value,
    /// null: a tombstone
    pub value: Value,
    /// in ms; `None`: not compared
    pub timestamp: Option<i64>,
    /// `None`: the key is not windowed
    pub window: Option<Window>,
    /// key and base64 text, in order
    pub headers: Vec<(String, Option<String>)>,
}

/// Why a topic's records are not the expected ones: a headline, then the records in question.
pub(super) type Difference = (String, Vec<String>);

/// Compares all records of one topic. `partitions` holds the actual ones, in order per partition; with several partitions the order between
/// them is open.
///
/// # Errors
/// The first difference.
pub(super) fn topic(
    name: &str,
    expected: &[Expected],
    partitions: &[Vec<Record>],
    rules: Rules,
) -> Result<(), Difference> {
    let actual: usize = partitions.iter().map(Vec::len).sum();
    let mut heads = vec![0; partitions.len()];
    for (index, wanted) in expected.iter().enumerate() {
        let mut first: Option<(String, &Record)> = None;
        let mut found = None;
        for (partition, records) in partitions.iter().enumerate() {
            let Some(record) = records.get(heads[partition]) else { continue };
            match record_matches(wanted, record, rules) {
                Ok(()) => {
                    found = Some(partition);
                    break;
                }
                Err(place) => {
                    first.get_or_insert((place, record));
                }
            }
        }
        match (found, first) {
            (Some(partition), _) => heads[partition] += 1,
            (None, Some((place, record))) => {
                let headline = format!("topic {name}: record {} of {} differs at {place}", index + 1, expected.len());
                return Err((
                    with_count(headline, expected.len(), actual),
                    vec![format!("expected  {}", show_expected(wanted)), format!("actual    {}", show(record))],
                ));
            }
            (None, None) => {
                let headline = format!("topic {name}: {} records expected, {actual} came", expected.len());
                return Err((headline, vec![format!("missing   {}", show_expected(wanted))]));
            }
        }
    }
    if actual == expected.len() {
        return Ok(());
    }
    let extra = partitions.iter().zip(&heads).find_map(|(records, head)| records.get(*head));
    let headline = format!("topic {name}: {} records expected, {actual} came", expected.len());
    Err((headline, extra.map(|record| format!("too many  {}", show(record))).into_iter().collect()))
}

fn with_count(headline: String, expected: usize, actual: usize) -> String {
    if expected == actual { headline } else { format!("{headline} ({expected} records expected, {actual} came)") }
}

/// The place where a record differs.
fn record_matches(expected: &Expected, actual: &Record, rules: Rules) -> Result<(), String> {
    if expected.window != actual.window {
        return Err("window".to_owned());
    }
    value(&expected.key, &actual.key, rules).map_err(|place| format!("key{place}"))?;
    value(&expected.value, &actual.value, rules).map_err(|place| format!("value{place}"))?;
    if expected.headers != actual.headers {
        return Err("headers".to_owned());
    }
    match expected.timestamp {
        Some(0) if rules.any_time_for_zero => Ok(()),
        Some(time) if time != actual.timestamp => Err("timestamp".to_owned()),
        _ => Ok(()),
    }
}

/// Compares two values; the error is the path of the first difference, such as `.A[0]`.
pub(super) fn value(expected: &Value, actual: &Value, rules: Rules) -> Result<(), String> {
    let here = |same: bool| if same { Ok(()) } else { Err(String::new()) };
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, field) in wanted {
                let place = |below: String| format!(".{name}{below}");
                let upper = || found.get(name.to_uppercase().as_str());
                match found.get(name).or_else(upper) {
                    Some(found) => value(field, found, rules).map_err(place)?,
                    // as the reference does it: the numbers of fields are compared, and what is not there is null
                    None if field.is_null() && wanted.len() == found.len() => {}
                    None => return Err(place(" (missing)".to_owned())),
                }
            }
            if wanted.len() == found.len() {
                return Ok(());
            }
            let known = |name: &&String| !wanted.keys().any(|w| w == *name || w.to_uppercase() == **name);
            let extra = found.keys().find(known).map_or("?", String::as_str);
            Err(format!(".{extra} (not expected)"))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                value(wanted, found, rules).map_err(|below| format!("[{index}]{below}"))?;
            }
            if wanted.len() == found.len() {
                return Ok(());
            }
            Err(format!(" ({} elements expected, {} found)", wanted.len(), found.len()))
        }
        (Value::Number(wanted), Value::Number(found)) => here(numbers(&wanted.to_string(), &found.to_string(), rules)),
        (Value::String(wanted), Value::Number(found)) => here(text_and_number(wanted, &found.to_string())),
        (wanted, found) => here(wanted == found),
    }
}

fn numbers(expected: &str, actual: &str, rules: Rules) -> bool {
    let (Some(wanted), Some(found)) = (Exact::parse(expected), Exact::parse(actual)) else { return false };
    if found.is_integer_literal()
        && let Some(whole) = found.truncated()
    {
        return wanted.truncated() == Some(whole);
    }
    if !rules.exact {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        return expected.parse().is_ok_and(|a| actual.parse().is_ok_and(|b| close(a, b)));
    }
    if wanted.is_integer_literal() {
        return found.scale() <= 0 && found.same_value(&wanted);
    }
    found.same_with_scale(&wanted)
}

fn text_and_number(expected: &str, actual: &str) -> bool {
    match (Exact::parse(expected), Exact::parse(actual)) {
        (Some(wanted), Some(found)) => !found.is_integer_literal() && found.same_with_scale(&wanted),
        _ => false,
    }
}

fn show_expected(expected: &Expected) -> String {
    let time = expected.timestamp.map_or(String::new(), |t| format!("  timestamp {t}"));
    let parts = [window(expected.window.as_ref()), headers(&expected.headers)];
    format!("key {}{}  value {}{time}{}", shown(&expected.key), parts[0], shown(&expected.value), parts[1])
}

fn show(record: &Record) -> String {
    let parts = [window(record.window.as_ref()), headers(&record.headers)];
    let (key, value) = (shown(&record.key), shown(&record.value));
    format!("key {key}{}  value {value}  timestamp {}{}", parts[0], record.timestamp, parts[1])
}

fn window(window: Option<&Window>) -> String {
    window.map_or(String::new(), |w| {
        format!(" window {}..{} ({})", w.start, w.end, if w.session { "session" } else { "time" })
    })
}

fn headers(headers: &[(String, Option<String>)]) -> String {
    if headers.is_empty() {
        return String::new();
    }
    let one = |(key, value): &(String, Option<String>)| format!("{key}={}", value.as_deref().unwrap_or("null"));
    format!("  headers [{}]", headers.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn shown(value: &Value) -> String {
    clipped(&value.to_string(), SHOWN_CHARS)
}

/// `text`, cut after `chars` characters.
pub(super) fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Rules = Rules { exact: true, any_time_for_zero: false };

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn same(expected: &str, actual: &str) -> Result<(), String> {
        value(&json(expected), &json(actual), EXACT)
    }

    #[test]
    fn fields_are_counted_and_found_in_upper_case_too() {
        assert_eq!(same(r#"{"a": 1, "B": null}"#, r#"{"A": 1, "B": null}"#), Ok(()));
        assert_eq!(same(r#"{"A": 1}"#, r#"{"A": 1, "B": null}"#), Err(".B (not expected)".to_owned()));
        assert_eq!(same(r#"{"A": 1, "B": null}"#, r#"{"A": 1}"#), Err(".B (missing)".to_owned()));
        assert_eq!(same("{}", r#"{"A": 1}"#), Err(".A (not expected)".to_owned()));
        assert_eq!(same(r#"{"A": {"B": [1, 2]}}"#, r#"{"A": {"B": [1, 3]}}"#), Err(".A.B[1]".to_owned()));
        assert_eq!(same("[1]", "[1, 2]"), Err(" (1 elements expected, 2 found)".to_owned()));
    }

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(same("10.0", "10.0"), Ok(()));
        assert!(same("10.0", "10.00").is_err());
        assert_eq!(same("1.0E10", "10.0E9"), Err(String::new()));
        assert_eq!(same("10000000000", "1E10"), Ok(()));
        assert!(same("10", "10.0").is_err());
        assert_eq!(same(r#""10.0""#, "10.0"), Ok(()));
        assert!(same(r#""10""#, "10").is_err());
    }

    #[test]
    fn doubles_may_be_near_where_a_case_says_so() {
        let near = Rules { exact: false, any_time_for_zero: false };
        assert_eq!(value(&json("0.1"), &json("0.10000001"), near), Ok(()));
        assert!(value(&json("0.1"), &json("0.11"), near).is_err());
    }

    #[test]
    fn kinds_are_not_mixed() {
        for (expected, actual) in [("null", "{}"), ("\"1\"", "1"), ("1", "\"1\""), ("true", "1"), ("{}", "[]")] {
            assert!(same(expected, actual).is_err(), "{expected} {actual}");
        }
    }

    fn expected(key: &str, value: &str, timestamp: Option<i64>) -> Expected {
        Expected { key: json(key), value: json(value), timestamp, window: None, headers: Vec::new() }
    }

    fn actual(key: &str, value: &str, timestamp: i64) -> Record {
        Record { key: json(key), value: json(value), timestamp, window: None, headers: Vec::new() }
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let good = expected("1", r#"{"A": 2}"#, Some(5));
        let came = [vec![actual("1", r#"{"A": 2}"#, 5)]];
        assert_eq!(topic("T", std::slice::from_ref(&good), &came, EXACT), Ok(()));
        let time = Some(Window { start: 0, end: 10, session: false });
        type Change = fn(&mut Expected, Option<Window>);
        let changes: [(&str, Change); 6] = [
            ("key", |e, _| e.key = json("2")),
            ("value.A", |e, _| e.value = json(r#"{"A": 3}"#)),
            ("value", |e, _| e.value = Value::Null),
            ("timestamp", |e, _| e.timestamp = Some(6)),
            ("window", |e, w| e.window = w),
            ("headers", |e, _| e.headers = vec![("a".to_owned(), None)]),
        ];
        for (place, change) in changes {
            let mut bad = good.clone();
            change(&mut bad, time.clone());
            let (headline, shown) = topic("T", &[bad], &came, EXACT).expect_err(place);
            assert_eq!(headline, format!("topic T: record 1 of 1 differs at {place}"));
            assert_eq!(shown.len(), 2);
        }
    }

    #[test]
    fn a_record_more_or_less_is_told() {
        let one = expected("1", "1", None);
        let (missing, _) = topic("T", std::slice::from_ref(&one), &[vec![]], EXACT).expect_err("missing");
        assert_eq!(missing, "topic T: 1 records expected, 0 came");
        let (extra, shown) = topic("T", &[], &[vec![actual("1", "1", 0)]], EXACT).expect_err("too many");
        assert_eq!(
            (extra.as_str(), shown[0].as_str()),
            ("topic T: 0 records expected, 1 came", "too many  key 1  value 1  timestamp 0")
        );
    }

    #[test]
    fn order_is_kept_within_a_partition_only() {
        let wanted = [expected("1", "1", None), expected("2", "2", None), expected("1", "3", None)];
        let split = [vec![actual("2", "2", 0)], vec![actual("1", "1", 0), actual("1", "3", 0)]];
        assert_eq!(topic("T", &wanted, &split, EXACT), Ok(()));
        let turned = [vec![actual("2", "2", 0)], vec![actual("1", "3", 0), actual("1", "1", 0)]];
        assert!(topic("T", &wanted, &turned, EXACT).is_err());
    }

    #[test]
    fn zero_matches_any_time_without_inputs() {
        let rules = Rules { exact: true, any_time_for_zero: true };
        let came = [vec![actual("1", "1", 77)]];
        assert_eq!(topic("T", &[expected("1", "1", Some(0))], &came, rules), Ok(()));
        assert!(topic("T", &[expected("1", "1", Some(1))], &came, rules).is_err());
    }
}
