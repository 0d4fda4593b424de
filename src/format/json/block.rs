//! Sixteen bytes looked at together: the one primitive that the JSON scanner's speed rests on.
//!
//! Knows bytes, not JSON grammar. The subtle thing: a block may reach past its record into the next one of the batch (bytes
//! past the whole buffer read as zero), so whoever takes a position from a mask must check it against the record's end.

use imp::Raw;

/// Bytes in a block.
pub(super) const BLOCK_LEN: usize = 16;

/// Sixteen consecutive bytes.
#[derive(Clone, Copy)]
pub(super) struct Block(Raw);

impl Block {
    /// The bytes from `at` on; zeros where the buffer ends before.
    #[inline(always)]
    pub(super) fn load(bytes: &[u8], at: usize) -> Self {
        match bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK_LEN>()) {
            Some(chunk) => Self(imp::load(chunk)),
            None => Self::load_tail(bytes, at),
        }
    }

    /// These bytes.
    #[inline(always)]
    pub(super) fn of(chunk: &[u8; BLOCK_LEN]) -> Self {
        Self(imp::load(chunk))
    }

    #[cold]
    fn load_tail(bytes: &[u8], at: usize) -> Self {
        let mut chunk = [0; BLOCK_LEN];
        let rest = bytes.get(at..).unwrap_or_default();
        chunk[..rest.len()].copy_from_slice(rest);
        Self(imp::load(&chunk))
    }

    /// Bit `i` is set where byte `i` is a quote, a backslash or a control character: where plain string text stops.
    #[inline(always)]
    pub(super) fn string_stops(self) -> u32 {
        imp::string_stops(self.0)
    }

    /// Bit `i` is set where byte `i` is no decimal digit.
    #[inline(always)]
    pub(super) fn non_digits(self) -> u32 {
        imp::non_digits(self.0)
    }

    /// Bit `i` is set where the bytes `i` of both are equal.
    #[inline(always)]
    pub(super) fn equal(self, other: Self) -> u32 {
        imp::equal(self.0, other.0)
    }
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
        _mm_sub_epi8,
    };

    pub(super) type Raw = __m128i;

    #[inline(always)]
    pub(super) fn load(chunk: &[u8; 16]) -> Raw {
        // SAFETY: `chunk` is 16 readable bytes, the load asks no alignment, and SSE2 is part of x86-64.
        unsafe { _mm_loadu_si128(chunk.as_ptr().cast()) }
    }

    #[inline(always)]
    fn mask(lanes: Raw) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        (unsafe { _mm_movemask_epi8(lanes) }) as u32
    }

    #[inline(always)]
    pub(super) fn string_stops(v: Raw) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        mask(unsafe {
            let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
            _mm_or_si128(_mm_or_si128(quote, backslash), control)
        })
    }

    #[inline(always)]
    pub(super) fn non_digits(v: Raw) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        let digits = mask(unsafe {
            let from_zero = _mm_sub_epi8(v, _mm_set1_epi8(b'0' as i8));
            _mm_cmpeq_epi8(_mm_min_epu8(from_zero, _mm_set1_epi8(9)), from_zero)
        });
        digits ^ 0xffff
    }

    #[inline(always)]
    pub(super) fn equal(a: Raw, b: Raw) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        mask(unsafe { _mm_cmpeq_epi8(a, b) })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    pub(super) type Raw = [u8; 16];

    #[inline(always)]
    pub(super) fn load(chunk: &[u8; 16]) -> Raw {
        *chunk
    }

    #[inline(always)]
    fn mask(test: impl Fn(usize) -> bool) -> u32 {
        (0..16).fold(0, |mask, i| mask | (u32::from(test(i)) << i))
    }

    #[inline(always)]
    pub(super) fn string_stops(v: Raw) -> u32 {
        mask(|i| v[i] == b'"' || v[i] == b'\\' || v[i] < 0x20)
    }

    #[inline(always)]
    pub(super) fn non_digits(v: Raw) -> u32 {
        mask(|i| !v[i].is_ascii_digit())
    }

    #[inline(always)]
    pub(super) fn equal(a: Raw, b: Raw) -> u32 {
        mask(|i| a[i] == b[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_agree_with_bytes() {
        for byte in 0..=255_u8 {
            let bytes = [[b'0'; 15].as_slice(), &[byte]].concat();
            let stops = byte == b'"' || byte == b'\\' || byte < 0x20;
            assert_eq!(Block::load(&bytes, 0).string_stops(), u32::from(stops) << 15, "{byte}");
            assert_eq!(Block::load(&bytes, 0).non_digits(), u32::from(!byte.is_ascii_digit()) << 15, "{byte}");
        }
    }

    #[test]
    fn past_the_buffer_are_zeros() {
        assert_eq!(Block::load(b"abc", 1).string_stops(), 0xfffc);
        assert_eq!(Block::load(b"abc", 9).string_stops(), 0xffff);
        let same = Block::load(b"abc", 0).equal(Block::load(b"abd", 0));
        assert_eq!(same, 0xfffb);
    }
}
