//! Parts of URLs, and form encoding.
//!
//! Not a resolver: texts are taken apart as `java.net.URI` does (RFC 2396 with other characters allowed). The subtle thing: parts come
//! decoded, and an authority that is no `host[:port]` has neither host nor port.

use arrow::datatypes::Int32Type;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;

use super::columns::{Outcome, Strs, prims, strings};
use super::eval::{Failures, Reason};
use super::registry::{Function, Variation};
use super::udf::Call;

const CATEGORY: &str = "URL";
type Out = Result<ColumnarValue, DataFusionError>;

macro_rules! part {
    ($name:literal, $description:literal, $part:expr) => {
        Function::new(
            $name,
            CATEGORY,
            $description,
            &[Variation::new("(input STRING) -> STRING", |call, failures| url_part(call, failures, $part))],
        )
    };
}

/// The functions of this family.
pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "URL_DECODE_PARAM",
        CATEGORY,
        "A form-encoded text, decoded.",
        &[Variation::new("(input STRING) -> STRING", |call, failures| map_text(call, failures, decode_form))],
    ),
    Function::new(
        "URL_ENCODE_PARAM",
        CATEGORY,
        "A text, form-encoded.",
        &[Variation::new("(input STRING) -> STRING", |call, failures| {
            map_text(call, failures, |t| Ok(Some(encode_form(t))))
        })],
    ),
    part!("URL_EXTRACT_FRAGMENT", "What follows # in a URL.", |url| url.fragment.map(decode)),
    part!("URL_EXTRACT_HOST", "The host of a URL.", |url| url.host.map(str::to_owned)),
    Function::new(
        "URL_EXTRACT_PARAMETER",
        CATEGORY,
        "The value of a parameter in the query of a URL.",
        &[Variation::new("(input STRING, param STRING) -> STRING", parameter)],
    ),
    part!("URL_EXTRACT_PATH", "The path of a URL.", |url| url.path.map(decode)),
    Function::new(
        "URL_EXTRACT_PORT",
        CATEGORY,
        "The port of a URL, if it has one.",
        &[Variation::new("(input STRING) -> INT", port)],
    ),
    part!("URL_EXTRACT_PROTOCOL", "The scheme of a URL.", |url| url.scheme.map(str::to_owned)),
    part!("URL_EXTRACT_QUERY", "What follows ? in a URL.", |url| url.query.map(decode)),
];

#[derive(Debug, Default)]
struct Url<'a> {
    scheme: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<i32>,
    path: Option<&'a str>,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, Reason> {
        check_characters(text)?;
        let mut url = Url::default();
        let (rest, fragment) = text.split_once('#').map_or((text, None), |(rest, f)| (rest, Some(f)));
        url.fragment = fragment;
        let mut rest = rest;
        if let Some(at) = rest.find([':', '/', '?']).filter(|&at| rest.as_bytes()[at] == b':') {
            let scheme = &rest[..at];
            let legal = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            if !legal || rest.len() == at + 1 {
                return Err(format!("'{text}' is no URL: its scheme is wrong").into());
            }
            url.scheme = Some(scheme);
            rest = &rest[at + 1..];
            if !rest.starts_with('/') {
                // opaque, as mailto: is: no path and no query
                return Ok(url);
            }
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, q)| (rest, Some(q)));
        url.query = query;
        match rest.strip_prefix("//") {
            Some(after) => {
                let end = after.find('/').unwrap_or(after.len());
                url.authority(&after[..end]);
                url.path = Some(&after[end..]);
            }
            None => url.path = Some(rest),
        }
        Ok(url)
    }

    fn authority(&mut self, authority: &'a str) {
        let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
        let bracket = server.find(']').unwrap_or(0);
        let (host, port) = match server[bracket..].rfind(':') {
            Some(at) => (&server[..bracket + at], Some(&server[bracket + at + 1..])),
            None => (server, None),
        };
        let is_host = host.starts_with('[')
            || (!host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'));
        let number = port.map(|p| if p.is_empty() { Some(-1) } else { p.parse::<i32>().ok() });
        if is_host && number != Some(None) {
            self.host = Some(host);
            self.port = number.flatten().filter(|p| *p >= 0);
        }
    }
}

fn check_characters(text: &str) -> Result<(), Reason> {
    let bytes = text.as_bytes();
    for (at, c) in text.char_indices() {
        let legal = match c {
            '%' => bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            c if c.is_ascii() => c.is_ascii_alphanumeric() || "-_.!~*'();/?:@&=+$,[]#".contains(c),
            c => !c.is_whitespace() && !c.is_control(),
        };
        if !legal {
            return Err(format!("'{text}' is no URL: illegal character at {at}").into());
        }
    }
    Ok(())
}

/// The text with %XX octets decoded as UTF-8.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octet = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(octet.unwrap_or(bytes[at]));
        at += if octet.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn decode_form(text: &str) -> Outcome<String> {
    for (at, _) in text.match_indices('%') {
        if text.get(at + 1..at + 3).is_none_or(|hex| u8::from_str_radix(hex, 16).is_err()) {
            return Err(format!("'{text}' has a % that no two hex digits follow").into());
        }
    }
    Ok(Some(decode(&text.replace('+', " "))))
}

fn encode_form(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.*".contains(&b) => out.push(b as char),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn map_text(call: &Call<'_>, failures: &mut Failures<'_>, f: fn(&str) -> Outcome<String>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| inputs.get(row).map_or(Ok(None), f)))
}

fn url_part(call: &Call<'_>, failures: &mut Failures<'_>, part: fn(Url<'_>) -> Option<String>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(strings(call.rows, failures, |row| match inputs.get(row) {
        Some(input) => Ok(part(Url::parse(input)?)),
        None => Ok(None),
    }))
}

fn port(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let inputs = Strs::of(&call.args[0])?;
    Ok(prims::<Int32Type>(call.rows, failures, |row| match inputs.get(row) {
        Some(input) => Ok(Url::parse(input)?.port),
        None => Ok(None),
    }))
}

fn parameter(call: &Call<'_>, failures: &mut Failures<'_>) -> Out {
    let (inputs, names) = (Strs::of(&call.args[0])?, Strs::of(&call.args[1])?);
    Ok(strings(call.rows, failures, |row| {
        let (Some(input), Some(name)) = (inputs.get(row), names.get(row)) else { return Ok(None) };
        let Some(query) = Url::parse(input)?.query.map(decode) else { return Ok(None) };
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Ok(pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()))
    }))
}
