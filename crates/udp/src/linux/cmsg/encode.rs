use super::{HEADER, align, space};

/// No room is left for a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Control messages under construction, in storage of `CAPACITY` bytes aligned for the kernel.
///
/// `CAPACITY` is a sum of [`space`]s, worked out at compile time by whoever knows which messages
/// can meet.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Control<const CAPACITY: usize> {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl<const CAPACITY: usize> Default for Control<CAPACITY> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CAPACITY: usize> Control<CAPACITY> {
    /// No messages yet.
    #[inline]
    pub const fn new() -> Self {
        Self {
            bytes: [0; CAPACITY],
            length: 0,
        }
    }

    /// Appends one message. The next one starts `CMSG_SPACE` further on: after `CMSG_LEN` the kernel
    /// would drop it without a word.
    ///
    /// # Errors
    /// [`Full`] if it does not fit; nothing is written then.
    #[inline]
    pub fn push(&mut self, level: i32, kind: i32, payload: &[u8]) -> Result<(), Full> {
        let start = self.length;
        let end = start
            .checked_add(space(payload.len()))
            .filter(|end| *end <= CAPACITY)
            .ok_or(Full)?;
        let message = &mut self.bytes[start..end];
        let (header, body) = message.split_at_mut(HEADER);
        let (length, kinds) = header.split_at_mut(size_of::<usize>());
        length.copy_from_slice(&(HEADER + payload.len()).to_ne_bytes());
        kinds[..4].copy_from_slice(&level.to_ne_bytes());
        kinds[4..].copy_from_slice(&kind.to_ne_bytes());
        body[..payload.len()].copy_from_slice(payload);
        self.length = end;
        Ok(())
    }

    /// Appends one message whose payload is a C `int`.
    ///
    /// # Errors
    /// [`Full`] if it does not fit; nothing is written then.
    #[inline]
    pub fn push_int(&mut self, level: i32, kind: i32, value: i32) -> Result<(), Full> {
        self.push(level, kind, &value.to_ne_bytes())
    }

    /// The messages as the kernel takes them; empty if there are none.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

// The storage is aligned for the kernel's header wherever `usize` is no wider than 8 bytes.
const _: () = assert!(super::ALIGNMENT <= 8 && align(1) == super::ALIGNMENT);
