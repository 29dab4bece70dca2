use super::{HEADER, align};

/// The control messages in `control`, as `(level, type, payload)`.
///
/// Trusts nothing: a message whose length is shorter than its header or runs past the end stops the
/// walk, and a payload is only as long as what is there.
pub fn messages(control: &[u8]) -> Messages<'_> {
    Messages { rest: control }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = (i32, i32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        let (length, after) = rest.split_first_chunk()?;
        let (level, after) = after.split_first_chunk()?;
        let (kind, _) = after.split_first_chunk()?;
        let length = usize::from_ne_bytes(*length);
        let payload = rest.get(HEADER..length)?;
        self.rest = rest.get(align(length)..).unwrap_or_default();
        Some((
            i32::from_ne_bytes(*level),
            i32::from_ne_bytes(*kind),
            payload,
        ))
    }
}

/// The C `int` that a payload starts with.
pub fn int(payload: &[u8]) -> Option<i32> {
    payload
        .first_chunk()
        .map(|bytes| i32::from_ne_bytes(*bytes))
}

/// A byte value that the kernel sends as one byte or as an `int`, whichever the option uses:
/// `IP_TOS` is one byte, `IP_TTL` an `int`.
pub fn byte(payload: &[u8]) -> Option<u8> {
    match payload {
        [byte] => Some(*byte),
        _ => int(payload).and_then(|value| u8::try_from(value).ok()),
    }
}
