//! Reads of another node's state: the request as JSON, the entries as frames of bytes.
//!
//! Both nodes are of one release; this is no API for others. A frame is its length (4 bytes, little endian) and its entries, each key and row
//! with their lengths before them. The subtle thing: an empty frame ends the answer, so a connection that breaks is not taken for the end.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::engine::cluster::StateRequest;

/// The media type of the answer.
pub const STATE: &str = "application/vnd.riverrun.state";
/// Stands in the place of a length: a message follows.
const FAILURE: u32 = u32::MAX;
/// Largest frame that is taken, in bytes: pages are far smaller.
const MAX_FRAME: usize = 1 << 30;

type Entry = (Bytes, Bytes);

/// The request as JSON.
pub fn request_to_json(request: &StateRequest) -> Value {
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let ranges: Vec<_> = request.ranges.iter().map(|(from, to)| json!([encode(from), encode(to)])).collect();
    json!({ "query": request.query, "partitions": request.partitions, "ranges": ranges, "lag": request.lag })
}

/// The request of a body.
///
/// # Errors
/// If it is none.
pub fn request_from_json(json: &Value) -> Result<StateRequest, Diagnostic> {
    let none = || Diagnostic::user("This is no request for state");
    let bytes = |v: &Value| v.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let range = |pair: &Value| Some((bytes(&pair[0])?, bytes(&pair[1])?));
    let partition = |v: &Value| v.as_i64().and_then(|n| i32::try_from(n).ok());
    let list = |name: &str| json[name].as_array().ok_or_else(none);
    Ok(StateRequest {
        query: json["query"].as_str().ok_or_else(none)?.to_owned(),
        partitions: list("partitions")?.iter().map(partition).collect::<Option<_>>().ok_or_else(none)?,
        ranges: list("ranges")?.iter().map(range).collect::<Option<_>>().ok_or_else(none)?,
        lag: json["lag"].as_u64(),
    })
}

/// A page of entries; an empty one gives no bytes, since an empty frame is the end.
pub fn page(entries: &[Entry]) -> Vec<u8> {
    if entries.is_empty() {
        return Vec::new();
    }
    let size: usize = entries.iter().map(|(key, row)| 8 + key.len() + row.len()).sum();
    let mut frame = Vec::with_capacity(4 + size);
    push_length(&mut frame, size);
    for part in entries.iter().flat_map(|(key, row)| [key, row]) {
        push_length(&mut frame, part.len());
        frame.extend_from_slice(part);
    }
    frame
}

/// The end of the answer.
pub fn end() -> Vec<u8> {
    0_u32.to_le_bytes().to_vec()
}

/// The end of an answer that failed in the middle.
pub fn failure(message: &str) -> Vec<u8> {
    let mut frame = FAILURE.to_le_bytes().to_vec();
    push_length(&mut frame, message.len());
    frame.extend_from_slice(message.as_bytes());
    frame
}

fn push_length(frame: &mut Vec<u8>, length: usize) {
    // Pages are of some thousand rows, each below record.max.bytes.
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(FAILURE - 1).to_le_bytes());
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// a page
    Page(Vec<Entry>),
    /// nothing more comes
    End,
    /// the other node's reason to stop
    Failed(String),
}

/// Makes frames of bytes as they arrive.
#[derive(Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Takes the next bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// If the bytes are none of ours.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, String> {
        let Some((length, rest)) = length(&self.0) else { return Ok(None) };
        if length == 0 {
            return Ok(Some(Frame::End));
        }
        if length == FAILURE as usize {
            let Some((length, rest)) = self::length(rest) else { return Ok(None) };
            let Some(text) = rest.get(..length) else { return Ok(None) };
            return Ok(Some(Frame::Failed(String::from_utf8_lossy(text).into_owned())));
        }
        if length > MAX_FRAME {
            return Err(format!("a frame of {length} bytes"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let frame = Bytes::copy_from_slice(&rest[..length]);
        self.0.drain(..4 + length);
        let mut parts = frame.clone();
        let mut entries = Vec::new();
        while !parts.is_empty() {
            let key = part(&mut parts).ok_or("a frame that is cut")?;
            let row = part(&mut parts).ok_or("a frame that is cut")?;
            entries.push((key, row));
        }
        Ok(Some(Frame::Page(entries)))
    }
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length) as usize, rest))
}

fn part(parts: &mut Bytes) -> Option<Bytes> {
    let (length, _) = length(parts)?;
    if parts.len() < 4 + length {
        return None;
    }
    let part = parts.slice(4..4 + length);
    *parts = parts.slice(4 + length..);
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives() {
        for lag in [None, Some(0), Some(u64::MAX)] {
            let request = StateRequest {
                query: "CTAS_T_1".into(),
                partitions: vec![0, 3],
                ranges: vec![(vec![], vec![255]), (vec![1, 0], vec![1, 1])],
                lag,
            };
            assert_eq!(request_from_json(&request_to_json(&request)).unwrap(), request);
        }
        assert!(request_from_json(&json!({ "query": "q", "partitions": [1], "ranges": [["!", ""]] })).is_err());
        assert!(request_from_json(&json!([])).is_err());
    }

    #[test]
    fn frames_come_whole_however_the_bytes_are_cut() {
        let entry =
            |k: &'static str, r: &'static str| (Bytes::from_static(k.as_bytes()), Bytes::from_static(r.as_bytes()));
        let (one, two) = (vec![entry("a", "1"), entry("", "22")], vec![entry("b", "")]);
        let bytes = [page(&one), page(&[]), page(&two), end()].concat();
        for size in 1..bytes.len() {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for chunk in bytes.chunks(size) {
                frames.feed(chunk);
                while let Some(frame) = frames.next_frame().unwrap() {
                    let last = frame == Frame::End;
                    seen.push(frame);
                    if last {
                        break;
                    }
                }
            }
            assert_eq!(seen, [Frame::Page(one.clone()), Frame::Page(two.clone()), Frame::End]);
        }
        let mut frames = Frames::default();
        frames.feed(&failure("gone"));
        assert_eq!(frames.next_frame().unwrap(), Some(Frame::Failed("gone".into())));
        frames = Frames::default();
        frames.feed(&[5, 0, 0, 0, 200, 0, 0, 0, 1]);
        assert!(frames.next_frame().is_err());
    }
}
