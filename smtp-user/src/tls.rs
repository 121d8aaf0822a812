//! TLS to servers for which one of the operator's authorities vouches.
//!
//! Contract: nobody is believed without a certificate for the host that was asked for, of an authority in the
//! operator's file; there is no way around it. Whose certificate is refused hears nothing of what was to be said. Time
//! and octets are bounded by the stream below.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Whom the operator believes.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    config: Arc<ClientConfig>,
    authorities: PathBuf,
    key: &'static str,
}

impl Trust {
    /// The authorities in a file, which this key of the configuration names.
    ///
    /// # Errors
    ///
    /// It cannot be read, or there is none in it; in words.
    pub(crate) fn new(authorities: &Path, key: &'static str) -> Result<Self, String> {
        let unreadable = |error: String| {
            format!(
                "cannot read the authorities' certificates in {}: {error}; see {key}",
                authorities.display()
            )
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(authorities)
            .map_err(|error| unreadable(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            // One that the library does not like is not believed, and the others are.
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err(unreadable("there is none".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            authorities: authorities.to_owned(),
            key,
        })
    }

    /// Speaks TLS over a stream to this host, a name or an address without brackets.
    ///
    /// # Errors
    ///
    /// The host is none that can be in a certificate; in words.
    pub(crate) fn over<S: Read + Write>(
        &self,
        host: &str,
        stream: S,
    ) -> Result<Secured<S>, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let session =
            ClientConnection::new(self.config.clone(), name).map_err(|error| error.to_string())?;
        Ok(Secured {
            stream: StreamOwned::new(session, stream),
            trust: self.clone(),
        })
    }

    /// The error with the way out, where a certificate is what is wrong.
    fn explained(&self, error: io::Error) -> io::Error {
        let refused = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
        if !refused {
            return error;
        }
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{error}: it is believed only with a certificate for this name that an authority in {} has issued ({})",
                self.authorities.display(),
                self.key
            ),
        )
    }
}

/// A stream of TLS. Where the other side ends it without saying so, it ends: whether what came is whole has to be
/// known otherwise.
pub(crate) struct Secured<S: Read + Write> {
    stream: StreamOwned<ClientConnection, S>,
    trust: Trust,
}

impl<S: Read + Write> Read for Secured<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(self.trust.explained(error)),
            Ok(read) => Ok(read),
        }
    }
}

impl<S: Read + Write> Write for Secured<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream
            .write(bytes)
            .map_err(|error| self.trust.explained(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream
            .flush()
            .map_err(|error| self.trust.explained(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_authority_nobody_is_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("authorities.pem");
        for text in [None, Some(""), Some("no certificate\n")] {
            if let Some(text) = text {
                std::fs::write(&file, text).expect("written");
            }
            let error = Trust::new(&file, "notice.authorities").expect_err("none");
            assert!(
                error.contains("authorities.pem") && error.contains("see notice.authorities"),
                "{error}"
            );
        }
    }
}
