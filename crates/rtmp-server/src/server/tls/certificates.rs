//! The certificates in force: read at the start, at a reload, and when their files change.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::{CertificateFiles, Config};
use crate::server::{EventKind, Events, Server};
use crate::stream::lock;

/// Interval at which the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Whose certificate it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The default one of HTTPS.
    Https,
    /// The default one of RTMPS.
    Rtmps,
    /// That of the HTTP API.
    HttpApi,
    /// A vhost's.
    Vhost(String),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Https => f.write_str("`https` of `http_server`"),
            Self::Rtmps => f.write_str("`rtmps`"),
            Self::HttpApi => f.write_str("`https` of `http_api`"),
            Self::Vhost(name) => write!(f, "the vhost `{name}`"),
        }
    }
}

/// State of a file, by which a change shows: inode, size, time of the last change.
type FileState = Option<(u64, u64, i64, i64)>;

fn state(path: &Path) -> FileState {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

fn states(files: &CertificateFiles) -> [FileState; 2] {
    [state(&files.cert), state(&files.key)]
}

/// Where a certificate came from.
#[derive(Debug)]
struct Origin {
    files: CertificateFiles,
    /// The files when they were last read, with success or not.
    read: [FileState; 2],
}

/// All certificates in force.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    keys: RwLock<HashMap<Owner, Arc<CertifiedKey>>>,
    /// Locked as long as certificates are read: what a reload reads is not replaced by what
    /// was read before.
    origins: Mutex<HashMap<Owner, Origin>>,
    /// Told of each other certificate.
    events: Arc<Events>,
}

impl Certificates {
    /// Reads the certificates of `config`; `events` hear of later ones.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn load(config: &Config, events: Arc<Events>) -> io::Result<Self> {
        let certificates = Self {
            events,
            ..Self::default()
        };
        for (owner, files) in wanted(config) {
            let read = states(&files);
            let key = load(&files)
                .map_err(|why| io::Error::other(format!("the certificate of {owner}: {why}")))?;
            certificates.put(owner.clone(), key);
            lock(&certificates.origins).insert(owner, Origin { files, read });
        }
        Ok(certificates)
    }

    /// Reads the certificates of `config` as [`Certificates::load`] does, or, if one of them
    /// cannot be used, those that can: a server that goes on throws nobody out.
    pub(super) fn load_what_can_be(config: &Config, events: Arc<Events>) -> Self {
        Self::load(config, events.clone()).unwrap_or_else(|_| {
            let certificates = Self {
                events,
                ..Self::default()
            };
            // It says why.
            certificates.reload(config);
            certificates
        })
    }

    fn put(&self, owner: Owner, key: CertifiedKey) {
        let mut keys = self
            .keys
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.insert(owner, Arc::new(key));
    }

    fn get(&self, owner: &Owner) -> Option<Arc<CertifiedKey>> {
        let keys = self
            .keys
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.get(owner).cloned()
    }

    /// Reads all certificates of `config`. One that cannot be read leaves the one of its
    /// owner in force.
    pub(super) fn reload(&self, config: &Config) {
        let wanted = wanted(config);
        let is_wanted = |owner: &Owner| wanted.iter().any(|(wanted, _)| wanted == owner);
        let mut origins = lock(&self.origins);
        origins.retain(|owner, _| is_wanted(owner));
        let mut keys = self
            .keys
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.retain(|owner, _| is_wanted(owner));
        drop(keys);
        for (owner, files) in wanted {
            self.read(&mut origins, owner, files);
        }
    }

    /// Reads the certificates whose files have changed since they were last read.
    fn check_files(&self) {
        let mut origins = lock(&self.origins);
        let changed = origins
            .iter()
            .filter(|(_, it)| states(&it.files) != it.read);
        let changed: Vec<_> = changed
            .map(|(owner, origin)| (owner.clone(), origin.files.clone()))
            .collect();
        for (owner, files) in changed {
            self.read(&mut origins, owner, files);
        }
    }

    fn read(&self, origins: &mut HashMap<Owner, Origin>, owner: Owner, files: CertificateFiles) {
        // Before: what changes while we read is read again.
        let read = states(&files);
        match load(&files) {
            Ok(key) => {
                let renewed = self.get(&owner).is_none_or(|old| old.cert != key.cert);
                if renewed {
                    let text = format!("new certificate of {owner}: {}", files.cert.display());
                    log::info!("TLS: {text}");
                    self.events.record(EventKind::Certificate, None, None, text);
                }
                self.put(owner.clone(), key);
            }
            Err(why) => {
                // Said once: the files are as they were read, until they change again.
                let consequence = match self.get(&owner) {
                    Some(_) => "the former one stays in force",
                    None => "the default one serves in its place",
                };
                let text = format!("the certificate of {owner}: {why}; {consequence}");
                log::error!("TLS: {text}");
                let kind = EventKind::CertificateFailed;
                self.events.record(kind, None, None, text);
            }
        }
        origins.insert(owner, Origin { files, read });
    }
}

/// Reads certificates again whose files change, until the task is dropped.
pub(in crate::server) async fn watch(server: Arc<Server>) {
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    loop {
        interval.tick().await;
        let certificates = server.tls.certificates.clone();
        if lock(&certificates.origins).is_empty() {
            continue;
        }
        let checked = tokio::task::spawn_blocking(move || certificates.check_files());
        if let Err(error) = checked.await {
            log::error!("TLS: the files of certificates cannot be looked at: {error}");
        }
    }
}

/// The certificates that `config` names.
fn wanted(config: &Config) -> Vec<(Owner, CertificateFiles)> {
    let ports = [
        (Owner::Https, config.https()),
        (Owner::Rtmps, config.rtmps.as_ref()),
        (Owner::HttpApi, config.http_api_https.as_ref()),
    ];
    let ports = ports
        .into_iter()
        .filter_map(|(owner, port)| Some((owner, port?.certificate.clone())));
    let vhosts = config.vhosts.values().filter(|vhost| vhost.enabled);
    let vhosts = vhosts
        .filter_map(|vhost| Some((Owner::Vhost(vhost.name.clone()), vhost.certificate.clone()?)));
    ports.chain(vhosts).collect()
}

/// Reads a certificate and its key.
fn load(files: &CertificateFiles) -> Result<CertifiedKey, String> {
    let CertificateFiles { key, cert } = files;
    let cannot = |path: &Path, error: &dyn std::fmt::Display| {
        format!("{} cannot be used: {error}", path.display())
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|error| cannot(cert, &error))?;
    if chain.is_empty() {
        return Err(cannot(cert, &"it has no `BEGIN CERTIFICATE`"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| cannot(key, &error))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|error| cannot(key, &format!("{error} (with {})", cert.display())))
}

/// Chooses the certificate for a client.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) certificates: Arc<Certificates>,
    /// Whose certificate clients get that name no vhost with one.
    pub(super) owner: Owner,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .map(|name| Owner::Vhost(name.to_owned()));
        let named = named.and_then(|vhost| self.certificates.get(&vhost));
        named.or_else(|| self.certificates.get(&self.owner))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;
    use crate::config::{self, Role};

    /// Makes a certificate for `name` in `directory`.
    fn issue(directory: &Path, name: &str) -> CertificateFiles {
        let files = CertificateFiles {
            key: directory.join(format!("{name}.key")),
            cert: directory.join(format!("{name}.crt")),
        };
        let mut openssl = Command::new("openssl");
        openssl.args("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
        openssl.args(["-subj", &format!("/CN={name}")]);
        let made = openssl.arg("-keyout").arg(&files.key);
        let made = made.arg("-out").arg(&files.cert).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        files
    }

    fn config(files: &CertificateFiles) -> Config {
        let CertificateFiles { key, cert } = files;
        let text = format!(
            "rtmps {{ enabled on; key {}; cert {}; }}",
            key.display(),
            cert.display()
        );
        config::load(&text, Role::Origin).unwrap().config
    }

    #[test]
    fn a_reload_is_not_undone_by_files_that_were_read_before() {
        let directory = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| issue(directory.path(), name));
        let certificates = Certificates::load(&config(&old), Arc::default()).unwrap();
        let text = fs::read(&old.cert).unwrap();
        fs::remove_file(&old.cert).unwrap();
        let made = Command::new("mkfifo").arg(&old.cert).status().unwrap();
        assert!(made.success());
        std::thread::scope(|scope| {
            scope.spawn(|| certificates.check_files());
            // It is opened once the other thread has begun to read it.
            let mut pipe = fs::OpenOptions::new().write(true).open(&old.cert).unwrap();
            let is_locked = certificates.origins.try_lock().is_err();
            pipe.write_all(&text).unwrap();
            drop(pipe);
            assert!(is_locked, "a reload would not wait for what is being read");
        });
        certificates.reload(&config(&new));
        let shown = certificates.get(&Owner::Rtmps).unwrap();
        let expected = CertificateDer::from_pem_file(&new.cert).unwrap();
        assert_eq!(shown.cert, [expected]);
    }
}
