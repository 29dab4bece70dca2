//! Names that nobody can guess.

/// 128 random bits, in hexadecimal.
pub(crate) fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Whether it may be such a name.
pub(crate) fn is_one(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
