use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What an operator proves with that clients may be looked at and changed: whoever has it may.
///
/// It is never printed but by [`reveal`](Self::reveal).
#[derive(Clone)]
pub struct Token {
    text: Arc<str>,
    /// What is compared: of one length, whatever is offered.
    digest: [u8; 32],
    label: Arc<str>,
}

/// The fewest characters that a token of one's own has.
const SHORTEST: usize = 16;

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has at least {SHORTEST} characters, letters, digits and -._~+/= only")]
pub struct NotAToken;

impl Token {
    /// 256 random bits, as base64url (RFC 4648 §5).
    #[must_use]
    pub fn generate() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self::new(&URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A token of one's own; white space around it does not count.
    ///
    /// # Errors
    /// What no `Authorization` header can carry (RFC 6750 §2.1), and what is too short.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        let may = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.len() < SHORTEST || !text.bytes().all(may) {
            return Err(NotAToken);
        }
        Ok(Self::new(text))
    }

    /// The token in a file, or a new one that is put there, for this user alone, if there is no such file. Says whether
    /// it is new.
    ///
    /// # Errors
    /// When the file cannot be read, or made, or has no token in it.
    pub fn load_or_create(path: &Path) -> io::Result<(Self, bool)> {
        let not_a_token = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        match fs::read_to_string(path) {
            Ok(text) => Ok((Self::parse(&text).map_err(not_a_token)?, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = Self::generate();
                let mut options = OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                writeln!(options.open(path)?, "{}", token.text)?;
                Ok((token, true))
            }
            Err(error) => Err(error),
        }
    }

    fn new(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        Self {
            text: text.into(),
            // Of the digest, because the trail of who did what must not tell any of the token.
            label: format!("{:02x}{:02x}", digest[0], digest[1]).into(),
            digest,
        }
    }

    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Four digits that tell tokens apart, and nothing of them.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Whether it is this one. It takes the same time, wherever the two differ.
    #[must_use]
    pub fn is(&self, offered: &str) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        self.digest.ct_eq(&offered).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let (one, other) = (Token::generate(), Token::generate());
        assert_eq!(one.reveal().len(), 43);
        assert!(one.is(one.reveal()));
        assert!(!one.is(other.reveal()) && !one.is("") && !one.is(&one.reveal()[..42]));
        assert!(Token::parse(one.reveal()).is_ok());
        assert!(!format!("{one:?}").contains(&one.reveal()[..8]));
    }

    #[test]
    fn what_no_header_carries_is_no_token() {
        assert!(Token::parse("  0123456789abcdef\n").is_ok());
        for text in ["", "short", "0123456789 abcdef", "0123456789äbcdef"] {
            assert_eq!(Token::parse(text).err(), Some(NotAToken), "{text:?}");
        }
    }

    #[test]
    fn a_file_is_made_once_and_read_from_then_on() {
        let folder = std::env::temp_dir().join(crate::ids::random());
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join("token");
        let (made, new) = Token::load_or_create(&path).expect("made");
        assert!(new);
        let (read, new) = Token::load_or_create(&path).expect("read");
        assert!(!new && read.is(made.reveal()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let permissions = fs::metadata(&path).expect("there").permissions();
            assert_eq!(permissions.mode() & 0o777, 0o600);
        }
        fs::write(&path, "no").expect("written");
        assert!(Token::load_or_create(&path).is_err());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
