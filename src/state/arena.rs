//! Byte strings in chunks: where [`super::KeyedTable`] keeps keys and rows.
//!
//! Not an allocator: freed bytes come back only when whole chunks are moved out of the way. The subtle thing: bytes never move by
//! themselves, so a [`Span`] stays readable, even one that was freed, until [`Arena::clear_chunks`] is called on its chunk.

/// First chunks are small, so that a table of three rows is small; later ones grow up to this.
const MAX_CHUNK_BYTES: usize = 256 << 10;
const MIN_CHUNK_BYTES: usize = 1 << 10;

/// A place in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    chunk: u32,
    start: u32,
    len: u32,
}

impl Span {
    /// Bytes it covers.
    pub(super) fn len(self) -> usize {
        self.len as usize
    }
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    dead: usize,
}

/// Chunks of bytes.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// indices of chunks without memory
    vacant: Vec<u32>,
    current: Option<u32>,
    allocated: usize,
    used: usize,
    dead: usize,
}

impl Arena {
    /// Copies `bytes` in. Rows are at most 4 GiB, which the log's own limits keep far away.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Span {
        let chunk = match self.current {
            Some(i) if self.fits(i, bytes.len()) => i,
            _ => self.open_chunk(bytes.len()),
        };
        let target = &mut self.chunks[chunk as usize].bytes;
        let start = target.len() as u32;
        target.extend_from_slice(bytes);
        self.used += bytes.len();
        Span { chunk, start, len: bytes.len() as u32 }
    }

    /// The bytes at `span`.
    pub(super) fn get(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.chunks[span.chunk as usize].bytes[start..start + span.len()]
    }

    /// Reads the first byte at `span`, only to have it near.
    pub(super) fn touch(&self, span: Span) -> u8 {
        self.chunks[span.chunk as usize].bytes.get(span.start as usize).copied().unwrap_or(0)
    }

    /// Says that nobody will keep `span`; it stays readable for now.
    pub(super) fn free(&mut self, span: Span) {
        self.chunks[span.chunk as usize].dead += span.len();
        self.dead += span.len();
    }

    /// Bytes taken from the system.
    pub(super) fn allocated(&self) -> usize {
        self.allocated + self.chunks.capacity() * size_of::<Chunk>() + self.vacant.capacity() * size_of::<u32>()
    }

    /// Bytes that were freed but not given back.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    /// Bytes pushed and not given back, dead ones included.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Chunks of which at least one byte in `one_in` is dead. None of them will be appended to any more.
    pub(super) fn wasteful(&mut self, one_in: usize) -> Victims {
        let wasteful = |c: &Chunk| c.dead > 0 && c.dead * one_in >= c.bytes.len();
        let chosen: Vec<bool> = self.chunks.iter().map(wasteful).collect();
        if self.current.is_some_and(|i| chosen[i as usize]) {
            self.current = None;
        }
        Victims { chosen }
    }

    /// Moves `span` to the end if it is in a chosen chunk.
    pub(super) fn rescue(&mut self, span: Span, victims: &Victims) -> Span {
        if !victims.holds(span) {
            return span;
        }
        let needed = span.len();
        let target = match self.current {
            Some(i) if self.fits(i, needed) => i,
            _ => self.open_chunk(needed),
        };
        let mut bytes = std::mem::take(&mut self.chunks[target as usize].bytes);
        let start = bytes.len() as u32;
        bytes.extend_from_slice(self.get(span));
        self.chunks[target as usize].bytes = bytes;
        self.used += needed;
        Span { chunk: target, start, len: span.len }
    }

    /// Gives the memory of the chosen chunks back; all that is alive in them was rescued.
    pub(super) fn clear_chunks(&mut self, victims: &Victims) {
        for (i, _) in victims.chosen.iter().enumerate().filter(|(_, chosen)| **chosen) {
            let chunk = std::mem::take(&mut self.chunks[i]);
            self.allocated -= chunk.bytes.capacity();
            self.used -= chunk.bytes.len();
            self.dead -= chunk.dead;
            self.vacant.push(i as u32);
        }
    }

    fn fits(&self, chunk: u32, len: usize) -> bool {
        let bytes = &self.chunks[chunk as usize].bytes;
        bytes.capacity() - bytes.len() >= len
    }

    fn open_chunk(&mut self, at_least: usize) -> u32 {
        let size = ((self.used - self.dead) / 4).clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES).max(at_least);
        let chunk = Chunk { bytes: Vec::with_capacity(size), dead: 0 };
        self.allocated += chunk.bytes.capacity();
        let i = match self.vacant.pop() {
            Some(i) => {
                self.chunks[i as usize] = chunk;
                i
            }
            None => {
                self.chunks.push(chunk);
                (self.chunks.len() - 1) as u32
            }
        };
        self.current = Some(i);
        i
    }
}

/// Chunks chosen to be emptied.
pub(super) struct Victims {
    chosen: Vec<bool>,
}

impl Victims {
    /// True if no chunk is chosen.
    pub(super) fn is_empty(&self) -> bool {
        !self.chosen.contains(&true)
    }

    fn holds(&self, span: Span) -> bool {
        self.chosen.get(span.chunk as usize).copied().unwrap_or(false)
    }
}
