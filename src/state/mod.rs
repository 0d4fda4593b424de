//! Keyed memory of operators: typed structures in memory, their changelog, and the keyed store behind them.
//!
//! An operator owns its stores and calls them synchronously; the runtime collects what is dirty at a commit
//! ([`Store::take_block`]), hands the block to the log, writes behind now and then ([`Store::take_writes`]) and restores after a start
//! ([`Store::attach`], [`Store::apply_block`]). The subtle thing: to the outside every store is entries of bytes, `key → row`, in the
//! encodings of [`encoding`]; what it looks like in memory is its own business, and clean entries may leave memory at any time.

mod arena;
pub use crate::topic::changelog_block as block;
pub mod encoding;
pub(crate) mod filter;
pub mod keyed;
mod order;
pub mod overlay;
mod write_only;

use std::sync::Arc;

use bytes::Bytes;

use crate::topic::{KeyedSnapshot, KeyedWrites, TopicError};

/// About how many entries one [`Store::take_writes`] gives at most.
pub const WRITE_ENTRIES: usize = 1 << 14;

pub use keyed::{KeyedTable, RowRef, WARM_ROWS};
pub use order::sort_writes;
pub use overlay::Overlay;
pub use write_only::WriteOnlyTable;

/// What the runtime needs of a store. One store belongs to one task and is called by one thread at a time.
///
/// *Order*: `take_block` holds every change since the last one, one entry a key (the last state), so that applying blocks in order
/// gives the state at the last block. *Failure*: after an error the task is thrown away and restored; stores need no roll-back.
/// *Ownership*: entries that are dirty (changed since the last `take_writes`) stay in memory; clean ones may be dropped by `evict`.
pub trait Store: Send {
    /// The store's name in its query, by its role in the SQL; part of its physical identity.
    fn name(&self) -> &str;

    /// The changelog block of all changes since the last call, `None` if there are none. Format: [`block`].
    ///
    /// # Errors
    /// If a block cannot be encoded (a row beyond a limit).
    fn take_block(&mut self) -> Result<Option<Bytes>, TopicError>;

    /// Bytes of changes that the next `take_block` would hold, about; drives `commit.max.bytes`.
    fn dirty_bytes(&self) -> usize;

    /// The next entries to write behind, of those that changed and have been in a block; none if there are no more. To be called right
    /// after a block was taken or restored, until it gives nothing, so that memory for them stays small. They count as clean once the
    /// caller has written all of them and attached the new snapshot.
    fn take_writes(&mut self) -> KeyedWrites;

    /// Bytes of entries waiting for `take_writes`, about.
    fn unwritten_bytes(&self) -> usize;

    /// The keyed store behind, to be asked for keys that are not in memory. Called at start and after each write-behind.
    fn attach(&mut self, behind: Arc<dyn KeyedSnapshot>);

    /// Replays a changelog block at restore, before the first record is processed. Replayed entries count as unwritten.
    ///
    /// # Errors
    /// If the block is damaged or of an unknown version.
    fn apply_block(&mut self, block: &Bytes) -> Result<(), TopicError>;

    /// Bytes of memory held, about.
    fn memory(&self) -> usize;

    /// Drops clean entries, least recently used first, until about `target` bytes are held or none is clean; returns bytes held now.
    fn evict(&mut self, target: usize) -> usize;
}
