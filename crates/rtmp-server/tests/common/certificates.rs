//! Certificates for tests, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::program::{output, require};

/// An authority that exists as long as the test.
pub(crate) struct Authority {
    directory: TempDir,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) key: PathBuf,
    pub(crate) cert: PathBuf,
}

impl Certificate {
    /// The directives that name it.
    pub(crate) fn directives(&self) -> String {
        format!("key {}; cert {};", self.key.display(), self.cert.display())
    }

    /// Puts `other` in the place of this one.
    pub(crate) fn replace(&self, other: &Certificate) {
        for (from, to) in [(&other.key, &self.key), (&other.cert, &self.cert)] {
            let new = to.with_extension("new");
            std::fs::copy(from, &new).unwrap();
            std::fs::rename(&new, to).unwrap();
        }
    }
}

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

impl Authority {
    pub(crate) fn new() -> Self {
        require("openssl", &["version"]);
        let directory = tempfile::tempdir().unwrap();
        let authority = Self { directory };
        // The machine's own configuration may have extensions, or be missing.
        let configuration = "[req]\ndistinguished_name = dn\n[dn]\n";
        std::fs::write(authority.path("openssl.conf"), configuration).unwrap();
        let mut openssl = authority.request("authority of a test");
        openssl.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        openssl.arg("-keyout").arg(authority.path("ca.key"));
        output(openssl.arg("-out").arg(authority.file()));
        authority
    }

    /// A command that makes a certificate for `name`.
    fn request(&self, name: &str) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-days", "2", "-config"]);
        openssl.arg(self.path("openssl.conf"));
        openssl.args(["-subj", &format!("/CN={name}")]);
        openssl.args(NEW_KEY);
        openssl
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A new certificate for `name`, in files that are called `file`.
    pub(crate) fn issue(&self, file: &str, name: &str) -> Certificate {
        let certificate = Certificate {
            key: self.path(&format!("{file}.key")),
            cert: self.path(&format!("{file}.crt")),
        };
        let mut openssl = self.request(name);
        openssl
            .arg("-CA")
            .arg(self.file())
            .arg("-CAkey")
            .arg(self.path("ca.key"));
        let address = match name {
            "localhost" => ",IP:127.0.0.1",
            _ => "",
        };
        let names = format!("subjectAltName=DNS:{name}{address}");
        openssl.args([
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        openssl.arg("-keyout").arg(&certificate.key);
        output(openssl.arg("-out").arg(&certificate.cert));
        certificate
    }

    /// A client that trusts this authority alone.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(first(&self.file())).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// The first certificate in `file`.
pub(crate) fn first(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}
