//! TLS towards others: hooks by `https://`, origins by `rtmps://`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::stream::lock;

/// The TLS clients, each with the authorities that it trusts.
#[derive(Default)]
pub(crate) struct TlsClient {
    /// Made when first needed, since it reads the system's certificates.
    system: OnceLock<Result<TlsConnector, String>>,
    /// By the file of the certificates.
    own: Mutex<HashMap<PathBuf, (Vec<u8>, TlsConnector)>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl TlsClient {
    /// A client that trusts the certificates in the file `authorities`, or without one
    /// those of this machine's `ca-certificates`, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub(crate) fn connector(&self, authorities: Option<&Path>) -> Result<TlsConnector, String> {
        let Some(file) = authorities else {
            return self.system.get_or_init(system).clone();
        };
        let cannot = |error: &dyn std::fmt::Display| {
            format!("`origin_ca` {} cannot be used: {error}", file.display())
        };
        let text = std::fs::read(file).map_err(|error| cannot(&error))?;
        let mut own = lock(&self.own);
        if let Some((known, connector)) = own.get(file)
            && *known == text
        {
            return Ok(connector.clone());
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|error| cannot(&error))?;
        let connector = trusting(certificates)
            .map_err(|error| cannot(&error))?
            .ok_or_else(|| cannot(&"it has no certificate of an authority"))?;
        own.insert(file.to_owned(), (text, connector.clone()));
        Ok(connector)
    }
}

fn system() -> Result<TlsConnector, String> {
    let found = rustls_native_certs::load_native_certs();
    trusting(found.certs)?.ok_or_else(|| {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        format!(
            "there are no certificates of authorities on this machine (Debian: \
             ca-certificates; or SSL_CERT_FILE) {}",
            why.join("; ")
        )
    })
}

/// A client that trusts `certificates`; `None` if none of them can be used.
fn trusting(certificates: Vec<CertificateDer<'static>>) -> Result<Option<TlsConnector>, String> {
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Ok(None);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::new(config).into()))
}
