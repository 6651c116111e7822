//! TLS to a source, which is verified: what it says decides where viewers go.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes a TLS connection of a TCP connection. The certificate must be that of `host`, by one
/// of the authorities in the file, or without one of this machine's (`ca-certificates`,
/// `SSL_CERT_FILE`, `SSL_CERT_DIR`). They are read each time.
///
/// # Errors
/// Why no TLS connection comes about, in words.
pub(super) async fn connect(
    stream: TcpStream,
    host: &str,
    authorities: Option<&Path>,
) -> Result<TlsStream<TcpStream>, String> {
    let file = authorities.map(Path::to_owned);
    let roots = spawn_blocking(move || roots(file.as_deref())).await;
    let roots = roots.map_err(|error| error.to_string())??;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("`{host}` is no name that TLS can ask for"))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("no TLS connection: {error}"))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = match file {
        None => rustls_native_certs::load_native_certs().certs,
        Some(file) => {
            let cannot = |error| format!("`etcd_ca` {} cannot be used: {error}", file.display());
            let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
            found.map_err(cannot)?
        }
    };
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(match file {
            Some(file) => format!("`etcd_ca` {} has no certificate", file.display()),
            None => "there are no certificates of authorities on this machine (Debian: \
                     ca-certificates); name them with `etcd_ca`"
                .to_owned(),
        });
    }
    Ok(roots)
}
