//! A copy of a whole storage as one stream of bytes, and a storage out of such a stream.
//!
//! Knows bytes, not what they mean. The subtle thing: a copy is made of one snapshot over all spaces, so it is consistent while commits go
//! on; and it says how many entries it holds at its end, so that a copy that was cut off is never taken for a whole one.
//!
//! Layout, numbers little endian: a line of text with the version of the copy and the format of the data; then chunks, each of 4 bytes
//! length (> 0), 8 bytes XXH3-64 of what follows, and entries (1 byte space, 4 bytes length of the key, 4 bytes length of the
//! value, key, value); then 4 bytes zero and 8 bytes number of entries.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::directory::FORMAT;
use super::{Batch, Space, Storage, StorageError, StorageOptions};

/// The version of the copy's layout.
const VERSION: u32 = 1;
const MAGIC: &str = "riverrun backup ";
/// A chunk is written when it has so many bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// No chunk is longer: the largest value there can be, and a chunk before it.
const MAX_CHUNK_BYTES: usize = 1 << 30;
const ENTRY_HEAD: usize = 9;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// keys with their values
    pub entries: u64,
    /// bytes of the copy
    pub bytes: u64,
}

impl Storage {
    /// Writes all there is at this moment to `out`; commits go on meanwhile.
    ///
    /// # Errors
    /// What cannot be read here, or written there.
    pub fn export(&self, out: &mut dyn Write) -> Result<Copied, StorageError> {
        let snapshot = self.snapshot()?;
        let mut writer = Chunks { out, chunk: Vec::with_capacity(CHUNK_BYTES + (1 << 16)), copied: Copied::default() };
        writer.send(format!("{MAGIC}{VERSION} format {FORMAT}\n").as_bytes())?;
        for space in Space::ALL {
            for entry in snapshot.scan(space, &[], None) {
                let (key, value) = entry.read()?;
                writer.add(space, &key, &value)?;
            }
        }
        writer.flush()?;
        let entries = writer.copied.entries;
        writer.send(&0_u32.to_le_bytes())?;
        writer.send(&entries.to_le_bytes())?;
        writer.out.flush().map_err(|e| cannot_write(&e))?;
        Ok(writer.copied)
    }

    /// Makes the data directory `dir`, which must not be there or be empty, out of a copy. It appears when it is whole.
    ///
    /// # Errors
    /// A directory that holds something; a copy that is damaged, cut off, or of another version.
    pub fn import(input: &mut dyn Read, dir: &Path, options: StorageOptions) -> Result<Copied, StorageError> {
        let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        if occupied || dir.is_file() {
            return Err(StorageError::Io {
                what: format!("cannot restore into {}", dir.display()),
                reason: "it is not empty; name a folder that is empty or not there".into(),
            });
        }
        let mut reader = Reader { input, bytes: 0 };
        reader.check_head()?;
        let aside = Aside::beside(dir)?;
        let storage = Storage::open(&aside.0, options)?;
        let mut entries = 0;
        while let Some(chunk) = reader.chunk()? {
            let batch = entries_of(&chunk)?;
            entries += batch.len() as u64;
            storage.write(batch)?;
        }
        let expected = u64::from_le_bytes(reader.array()?);
        if entries != expected {
            return Err(damaged(&format!("it says it has {expected} entries and has {entries}")));
        }
        storage.sync()?;
        drop(storage);
        std::fs::rename(&aside.0, dir).map_err(|e| super::unusable(dir, &e))?;
        Ok(Copied { entries, bytes: reader.bytes })
    }
}

/// A folder that goes unless it was renamed.
struct Aside(PathBuf);

impl Aside {
    fn beside(dir: &Path) -> Result<Self, StorageError> {
        let name = dir.file_name().map_or_else(|| "data".into(), |n| n.to_string_lossy());
        let aside = dir.with_file_name(format!("{name}.restoring-{}", std::process::id()));
        std::fs::create_dir_all(&aside).map_err(|e| super::unusable(&aside, &e))?;
        Ok(Self(aside))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Nothing is there any more after a restore that went well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Chunks<'a> {
    out: &'a mut dyn Write,
    chunk: Vec<u8>,
    copied: Copied,
}

impl Chunks<'_> {
    fn add(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let too_long = |_| StorageError::Corrupt("an entry is longer than 4 GiB".into());
        self.chunk.push(space as u8);
        self.chunk.extend_from_slice(&u32::try_from(key.len()).map_err(too_long)?.to_le_bytes());
        self.chunk.extend_from_slice(&u32::try_from(value.len()).map_err(too_long)?.to_le_bytes());
        self.chunk.extend_from_slice(key);
        self.chunk.extend_from_slice(value);
        self.copied.entries += 1;
        if self.chunk.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        let too_long = |_| StorageError::Corrupt("a chunk is longer than 4 GiB".into());
        self.send(&u32::try_from(chunk.len()).map_err(too_long)?.to_le_bytes())?;
        self.send(&xxh3_64(&chunk).to_le_bytes())?;
        self.send(&chunk)?;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.copied.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| cannot_write(&e))
    }
}

struct Reader<'a> {
    input: &'a mut dyn Read,
    bytes: u64,
}

impl Reader<'_> {
    fn check_head(&mut self) -> Result<(), StorageError> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < 64 {
            line.extend_from_slice(&self.array::<1>().map_err(|_| no_copy())?);
        }
        let line = String::from_utf8(line).map_err(|_| no_copy())?;
        let (version, format) =
            line.trim_end().strip_prefix(MAGIC).and_then(|rest| rest.split_once(" format ")).ok_or_else(no_copy)?;
        if version != VERSION.to_string() || format != FORMAT.to_string() {
            return Err(StorageError::Format {
                dir: "of the backup".into(),
                found: format!("{format} in a backup of version {version}"),
                expected: FORMAT,
            });
        }
        Ok(())
    }

    /// The entries of the next chunk; `None` at the end.
    fn chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_CHUNK_BYTES {
            return Err(damaged("a chunk has an impossible length"));
        }
        let sum = u64::from_le_bytes(self.array()?);
        // by and by, so that a wrong length costs no memory that is not there
        let mut chunk = Vec::new();
        let read = self.input.take(length as u64).read_to_end(&mut chunk).map_err(|e| cannot_read(&e))?;
        self.bytes += read as u64;
        if read < length {
            return Err(damaged("it is cut off"));
        }
        if xxh3_64(&chunk) != sum {
            return Err(damaged(&format!("the checksum before byte {} does not agree", self.bytes)));
        }
        Ok(Some(chunk.into()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        let mut array = [0; N];
        self.input.read_exact(&mut array).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged("it is cut off"),
            _ => cannot_read(&e),
        })?;
        self.bytes += N as u64;
        Ok(array)
    }
}

fn entries_of(chunk: &Bytes) -> Result<Batch, StorageError> {
    let broken = || damaged("an entry is broken");
    let mut batch = Batch::default();
    let mut at = 0;
    while at < chunk.len() {
        let head = chunk.get(at..at + ENTRY_HEAD).ok_or_else(broken)?;
        let length = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]) as usize;
        let space = *Space::ALL.get(usize::from(head[0])).ok_or_else(broken)?;
        let key_end = at + ENTRY_HEAD + length(1);
        let end = key_end + length(5);
        if end > chunk.len() {
            return Err(broken());
        }
        batch.put(space, chunk.slice(at + ENTRY_HEAD..key_end), chunk.slice(key_end..end));
        at = end;
    }
    Ok(batch)
}

fn damaged(what: &str) -> StorageError {
    StorageError::Corrupt(format!("the backup cannot be restored: {what}"))
}

fn no_copy() -> StorageError {
    damaged("it does not begin as a file of 'riverrun backup' does")
}

fn cannot_write(error: &std::io::Error) -> StorageError {
    StorageError::Io { what: "cannot write the backup".into(), reason: error.to_string() }
}

fn cannot_read(error: &std::io::Error) -> StorageError {
    StorageError::Io { what: "cannot read the backup".into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> StorageOptions {
        StorageOptions { min_free_bytes: 0, ..StorageOptions::default() }
    }

    fn filled(dir: &Path) -> Storage {
        let storage = Storage::open(dir, options()).unwrap();
        let mut batch = Batch::default();
        for n in 0..300_u32 {
            let space = Space::ALL[n as usize % 4];
            batch.put(space, n.to_be_bytes().to_vec(), vec![n as u8; n as usize * 50]);
        }
        storage.write(batch).unwrap();
        storage
    }

    fn contents(storage: &Storage) -> Vec<(usize, Bytes, Bytes)> {
        let snapshot = storage.snapshot().unwrap();
        let of = |space: Space| snapshot.scan(space, &[], None).map(|e| e.read().unwrap()).collect::<Vec<_>>();
        Space::ALL.into_iter().flat_map(|s| of(s).into_iter().map(move |(k, v)| (s as usize, k, v))).collect()
    }

    #[test]
    fn a_copy_gives_the_same_storage_and_not_what_came_later() {
        let root = tempfile::tempdir().unwrap();
        let storage = filled(&root.path().join("a"));
        let before = contents(&storage);
        let mut copy = Vec::new();
        let copied = storage.export(&mut copy).unwrap();
        assert_eq!((copied.entries, copied.bytes), (300, copy.len() as u64));
        let mut later = Batch::default();
        later.put(Space::Meta, b"later".to_vec(), b"x".to_vec());
        storage.write(later).unwrap();
        let dir = root.path().join("b");
        assert_eq!(Storage::import(&mut copy.as_slice(), &dir, options()).unwrap(), copied);
        assert_eq!(contents(&Storage::open(&dir, options()).unwrap()), before);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn a_damaged_copy_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let storage = filled(&root.path().join("a"));
        let mut copy = Vec::new();
        storage.export(&mut copy).unwrap();
        let dir = root.path().join("b");
        let refused = |bytes: &[u8]| Storage::import(&mut &*bytes, &dir, options()).unwrap_err().to_string();
        for at in (0..copy.len()).step_by(copy.len() / 97).chain([0, 20, 32, 33, 40, copy.len() - 1]) {
            let mut flipped = copy.clone();
            flipped[at] ^= 4;
            refused(&flipped);
            assert!(!dir.exists(), "byte {at}");
        }
        for length in [0, 5, 33, 40, 1000, copy.len() - 9, copy.len() - 1] {
            refused(&copy[..length]);
        }
        assert!(
            refused(b"PK\x03\x04 this is something else entirely, and long enough for it")
                .contains("does not begin as")
        );
        assert!(refused(&copy[..copy.len() - 1]).contains("cut off"));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn only_an_empty_folder_takes_a_copy() {
        let root = tempfile::tempdir().unwrap();
        let storage = filled(&root.path().join("a"));
        let mut copy = Vec::new();
        storage.export(&mut copy).unwrap();
        let into = |dir: &Path| Storage::import(&mut copy.as_slice(), dir, options());
        assert!(into(&root.path().join("a")).unwrap_err().to_string().contains("not empty"));
        let empty = root.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        into(&empty).unwrap();
    }
}
