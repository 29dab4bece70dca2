use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// A certificate and its key, for HTTPS.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file has not in it what it should.
    #[error("there is no {what} in {path}: expected is PEM")]
    Missing {
        /// What.
        what: &'static str,
        /// In which file.
        path: PathBuf,
    },
    /// The two cannot be used together.
    #[error("the certificate and the key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its private key, both PEM.
    ///
    /// # Errors
    /// Which file is wrong, and why.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let missing = |what, path: &Path| TlsError::Missing {
            what,
            path: path.to_owned(),
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| missing("certificate", certificate))?;
        let private =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| missing("private key", key))?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn into_config(self) -> RustlsConfig {
        RustlsConfig::from_config(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_of_the_file() {
        let folder = std::env::temp_dir().join(crate::ids::random());
        fs::create_dir(&folder).expect("a folder");
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let said = || {
            let error = Tls::from_pem_files(&certificate, &key).expect_err("refused");
            error.to_string()
        };
        assert!(said().starts_with("cannot read ") && said().contains("cert.pem"));
        fs::write(&certificate, "no PEM").expect("written");
        assert!(said().contains("no certificate in ") && said().contains("cert.pem"));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
