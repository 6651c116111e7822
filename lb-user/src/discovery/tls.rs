//! TLS to a source, which is verified: what it says decides where viewers go.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The files that a connection needs, which are read each time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Files {
    /// The authorities that are trusted (PEM); `None`: this machine's (`ca-certificates`,
    /// `SSL_CERT_FILE`, `SSL_CERT_DIR`).
    pub(super) authorities: Option<PathBuf>,
    /// The certificate that the server is shown, and its private key (PEM).
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Makes a TLS connection of a TCP connection. The certificate must be that of `host`, by one
/// of the authorities.
///
/// # Errors
/// Why no TLS connection comes about, in words.
pub(super) async fn connect(
    stream: TcpStream,
    host: &str,
    files: &Files,
) -> Result<TlsStream<TcpStream>, String> {
    let files = files.clone();
    let config = spawn_blocking(move || client_config(&files)).await;
    let config = config.map_err(|error| error.to_string())??;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("`{host}` is no name that TLS can ask for"))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS connection: {error}"))
}

fn client_config(files: &Files) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(files.authorities.as_deref())?);
    let Some((certificate, key)) = &files.identity else {
        return Ok(config.with_no_client_auth());
    };
    let chain = certificates("etcd_cert", certificate)?;
    let private_key = PrivateKeyDer::from_pem_file(key);
    let private_key = private_key.map_err(|error| cannot_use("etcd_key", key, &error))?;
    config
        .with_client_auth_cert(chain, private_key)
        .map_err(|error| {
            let why = format!("with `etcd_key` {}: {error}", key.display());
            cannot_use("etcd_cert", certificate, &why)
        })
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match file {
        None => rustls_native_certs::load_native_certs().certs,
        Some(file) => certificates("etcd_ca", file)?,
    };
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(match file {
            Some(file) => cannot_use("etcd_ca", file, &"it has no certificate"),
            None => "there are no certificates of authorities on this machine (Debian: \
                     ca-certificates); name them with `etcd_ca`"
                .to_owned(),
        });
    }
    Ok(roots)
}

/// The certificates of a file, which `keyword` names.
fn certificates(keyword: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| cannot_use(keyword, file, &error))?;
    if found.is_empty() {
        return Err(cannot_use(keyword, file, &"it has no certificate"));
    }
    Ok(found)
}

fn cannot_use(keyword: &str, file: &Path, why: &dyn fmt::Display) -> String {
    format!("`{keyword}` {} cannot be used: {why}", file.display())
}
