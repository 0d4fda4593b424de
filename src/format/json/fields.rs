//! Finds the wanted fields of objects that mostly look alike.
//!
//! Not a parser of values: it records where each wanted one stands. The subtle thing: it expects of every object what the
//! one before had. The bytes between two values (comma, blanks, quoted name, colon) are compared as a whole with
//! those that followed the same field last time; only where they differ is the name read, looked up and learned anew.

use ahash::AHashMap;

use super::block::{BLOCK_LEN, Block};
use super::scan::{Malformed, Span, byte_at, expected_next, skip_key, skip_space, skip_value};
use super::string::unescape;

/// How many names are remembered before all are forgotten and learned again; objects used as maps have endlessly many.
const MAX_NAMES: usize = 1024;

/// The key before the first: it is where each object starts from.
const START: u32 = 0;

/// Stands for the names that are not remembered.
const UNKNOWN: u32 = 1;

/// The wanted fields of one object type and the names seen in its objects.
pub(super) struct FieldTable {
    /// name and slot of each wanted field
    wanted: Vec<(String, u32)>,
    keys: Vec<Key>,
    ids: AHashMap<Box<[u8]>, u32>,
    /// the last object in which a slot was filled by a field of exactly its name, counted by `object`
    exact_in: Vec<u64>,
    object: u64,
}

/// A field name as spelled in the text.
struct Key {
    /// all bytes from the end of the value before to the start of this field's value, as last seen
    lead: Lead,
    targets: Box<[Target]>,
    /// the key that came after this one last time
    next: u32,
}

#[derive(Clone, Copy)]
struct Target {
    slot: u32,
    /// the name is the field's own, not one that differs in case
    exact: bool,
}

impl FieldTable {
    /// A table that puts the value of the `i`-th name into slot `i`.
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let wanted: Vec<_> = names.into_iter().zip(0..).collect();
        let exact_in = vec![0; wanted.len()];
        let mut table = Self { wanted, keys: Vec::new(), ids: AHashMap::new(), exact_in, object: 0 };
        table.forget();
        table
    }

    fn forget(&mut self) {
        self.ids.clear();
        self.keys.clear();
        // START and UNKNOWN: no bytes lead to them.
        self.keys.extend([0, 0].map(|next| Key { lead: Lead::default(), targets: Box::default(), next }));
    }

    /// Walks the object that starts at `start` and sets `slots[slot][row]` for each wanted field it has (a field given twice:
    /// the last one; one spelled exactly beats one in other case). Gives the position after the object.
    pub(super) fn locate(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        row: usize,
        slots: &mut [Vec<Span>],
    ) -> Result<usize, Malformed> {
        self.object += 1;
        let mut at = start;
        let mut last = START;
        loop {
            let predicted = self.keys[last as usize].next;
            let value_at = match self.keys[predicted as usize].lead.match_at(bytes, at, end, last == START) {
                Some(value_at) => {
                    last = predicted;
                    value_at
                }
                None => match self.read_key(bytes, at, end, last)? {
                    Lookup::Key(key, value_at) => {
                        last = key;
                        value_at
                    }
                    Lookup::End(after) => return Ok(after),
                },
            };
            let (after, span) = skip_value(bytes, value_at, end)?;
            for target in &self.keys[last as usize].targets {
                let slot = target.slot as usize;
                if target.exact {
                    self.exact_in[slot] = self.object;
                } else if self.exact_in[slot] == self.object {
                    continue;
                }
                slots[slot][row] = span;
            }
            at = after;
            if byte_at(bytes, at, end) == b'}' {
                return Ok(at + 1);
            }
        }
    }

    /// Reads what follows the value that ended at `at` (or the opening brace there), and learns it.
    fn read_key(&mut self, bytes: &[u8], at: usize, end: usize, last: u32) -> Result<Lookup, Malformed> {
        let separator = skip_space(bytes, at, end);
        match (byte_at(bytes, separator, end), last) {
            (b'{', START) => {
                let first = skip_space(bytes, separator + 1, end);
                if byte_at(bytes, first, end) == b'}' {
                    return Ok(Lookup::End(first + 1));
                }
            }
            (b',', last) if last != START => {}
            (b'}', last) if last != START => return Ok(Lookup::End(separator + 1)),
            _ => return Err(expected_next(true, separator, end)),
        }
        let (name, value_at) = skip_key(bytes, skip_space(bytes, separator + 1, end), end)?;
        let id = self.id(bytes, name)?;
        self.keys[last as usize].next = id;
        if id != UNKNOWN {
            self.keys[id as usize].lead.learn(&bytes[at..value_at], last == START);
        }
        Ok(Lookup::Key(id, value_at))
    }

    fn id(&mut self, bytes: &[u8], name: Span) -> Result<u32, Malformed> {
        let text = name.of(bytes);
        let inner = &text[1..text.len() - 1];
        if let Some(&id) = self.ids.get(inner) {
            return Ok(id);
        }
        let targets = if name.is_escaped() {
            let mut unescaped = Vec::new();
            unescape(inner, &mut unescaped).map_err(|what| Malformed { at: name.start(), what })?;
            self.targets(&unescaped)
        } else {
            self.targets(inner)
        };
        if targets.is_empty() && self.ids.len() >= MAX_NAMES {
            return Ok(UNKNOWN);
        }
        let id = self.keys.len() as u32;
        self.keys.push(Key { lead: Lead::default(), targets, next: UNKNOWN });
        self.ids.insert(inner.into(), id);
        Ok(id)
    }

    fn targets(&self, name: &[u8]) -> Box<[Target]> {
        let name = String::from_utf8_lossy(name);
        let folded = name.to_uppercase();
        let target = |(wanted, slot): &(String, u32)| {
            let exact = *wanted == *name;
            (exact || *wanted == folded).then_some(Target { slot: *slot, exact })
        };
        self.wanted.iter().filter_map(target).collect()
    }

    /// To be called between batches: keeps the memory of names bounded (wanted ones are learned past the limit within a batch).
    pub(super) fn trim(&mut self) {
        if self.ids.len() >= MAX_NAMES {
            self.forget();
        }
    }
}

enum Lookup {
    /// the key of that id, and where its value starts
    Key(u32, usize),
    /// the object ended; the position after it
    End(usize),
}

/// Bytes that are expected to stand before a value. The default matches nowhere.
struct Lead {
    blocks: [Block; 2],
    masks: [u32; 2],
    len: usize,
    /// they open the object, so they must not stand later in it, nor others at its start
    opens: bool,
    /// all bytes, looked at only where they are more than two blocks
    text: Vec<u8>,
}

impl Default for Lead {
    fn default() -> Self {
        let blocks = [Block::load(&[], 0); 2];
        Self { blocks, masks: [0; 2], len: usize::MAX / 2, opens: false, text: Vec::new() }
    }
}

impl Lead {
    fn learn(&mut self, text: &[u8], opens: bool) {
        self.opens = opens;
        self.len = text.len();
        let mask = |len: usize| if len >= BLOCK_LEN { 0xffff } else { (1_u32 << len) - 1 };
        self.blocks = [Block::load(text, 0), Block::load(text, BLOCK_LEN)];
        self.masks = [mask(self.len), mask(self.len.saturating_sub(BLOCK_LEN))];
        self.text.clear();
        if self.len > 2 * BLOCK_LEN {
            self.text.extend_from_slice(text);
        }
    }

    /// The position after these bytes, if they stand at `at`.
    #[inline(always)]
    fn match_at(&self, bytes: &[u8], at: usize, end: usize, opens: bool) -> Option<usize> {
        let after = at + self.len;
        if after > end
            || opens != self.opens
            || Block::load(bytes, at).equal(self.blocks[0]) & self.masks[0] != self.masks[0]
        {
            return None;
        }
        if self.len > BLOCK_LEN {
            let second = Block::load(bytes, at + BLOCK_LEN).equal(self.blocks[1]) & self.masks[1] == self.masks[1];
            let rest = self.len <= 2 * BLOCK_LEN || bytes[at..after] == self.text;
            if !second || !rest {
                return None;
            }
        }
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(table: &mut FieldTable, fields: usize, text: &str) -> Result<Vec<String>, Malformed> {
        let mut slots = vec![vec![Span::NULL]; fields];
        let after = table.locate(text.as_bytes(), 0, text.len(), 0, &mut slots)?;
        assert_eq!(after, text.len());
        let show = |span: Span| {
            if span.is_null() { "-".to_owned() } else { String::from_utf8_lossy(span.of(text.as_bytes())).into_owned() }
        };
        Ok(slots.iter().map(|slot| show(slot[0])).collect())
    }

    #[test]
    fn fields_are_found_in_any_order_and_spelling() {
        let mut table = FieldTable::new(["A", "B", "c"].map(str::to_owned));
        for (text, want) in [
            (r#"{"A":1,"B":2}"#, ["1", "2", "-"]),
            (r#"{"A":3,"B":4}"#, ["3", "4", "-"]),
            (r#"{"B":4,"A":3}"#, ["3", "4", "-"]),
            (r#"{"b" : 5 , "a" : 6 , "c" : 7}"#, ["6", "5", "7"]),
            (r#"{"a":1,"A":2}"#, ["2", "-", "-"]),
            (r#"{"A":2,"a":1}"#, ["2", "-", "-"]),
            (r#"{"a":1,"a":2}"#, ["2", "-", "-"]),
            (r#"{"C":1}"#, ["-", "-", "-"]),
            (r#"{"\u0041":8,"x":{"A":9}}"#, ["8", "-", "-"]),
            ("{}", ["-", "-", "-"]),
            (r#"{"A":3}"#, ["3", "-", "-"]),
            ("{ }", ["-", "-", "-"]),
        ] {
            assert_eq!(locate(&mut table, 3, text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn a_name_may_fill_two_fields() {
        let mut table = FieldTable::new(["A", "a"].map(str::to_owned));
        assert_eq!(locate(&mut table, 2, r#"{"a":1}"#).unwrap(), ["1", "1"]);
        assert_eq!(locate(&mut table, 2, r#"{"a":1,"A":2}"#).unwrap(), ["2", "1"]);
    }

    #[test]
    fn long_names_and_many_names() {
        let long = "N".repeat(100);
        let mut table = FieldTable::new([long.clone()]);
        for i in 0..5000 {
            let text = format!("{{\"k{i}\":[{i}],\"{long}\":{i}}}");
            assert_eq!(locate(&mut table, 1, &text).unwrap(), [i.to_string()]);
            if i % 1500 == 0 {
                table.trim();
            }
            assert!(table.ids.len() <= MAX_NAMES + 1);
        }
    }

    #[test]
    fn what_was_learned_never_hides_an_error() {
        let mut table = FieldTable::new(["A".to_owned(), "B".to_owned()]);
        let good = r#"{"A":1,"B":2}"#;
        for bad in [
            r#"{"A":1 "B":2}"#,
            r#""A":1,"B":2}"#,
            r#"{"A":1,"B":2"#,
            r#"{"A":1,,"B":2}"#,
            r#"{,"B":2}"#,
            r#"{"A":1,"B":}"#,
            "{",
            "",
        ] {
            locate(&mut table, 2, good).unwrap();
            assert!(locate(&mut table, 2, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_opened_an_object_does_not_continue_it() {
        let mut table = FieldTable::new(["A".to_owned()]);
        for text in [r#"{"A":1,"A":2}"#, r#"{"A":1}"#] {
            locate(&mut table, 1, text).unwrap();
        }
        assert!(locate(&mut table, 1, r#"{"A":1{"A":2}"#).is_err());
        locate(&mut table, 1, r#"{"A":1,"A":2}"#).unwrap();
        assert!(locate(&mut table, 1, r#","A":1}"#).is_err());
    }
}
