//! The file with the user and the password of HTTP.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use service_kit::Credentials;

/// Maximum length of the file, in bytes.
const MAX_BYTES: u64 = 4096;
/// The mode's bits for others than owner and group.
const OTHERS: u32 = 0o007;

/// Reads `USER:PASSWORD`, one line.
///
/// # Errors
/// The file cannot be read, others may read or write it, or it holds something else.
pub(crate) fn read(path: &Path) -> anyhow::Result<Credentials> {
    let place = || format!("--http-auth {}", path.display());
    let file = File::open(path).with_context(place)?;
    let mode = file.metadata().with_context(place)?.mode();
    ensure!(
        mode & OTHERS == 0,
        "{}: others may open it; chmod 600 keeps the password secret",
        place()
    );
    let mut text = String::new();
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(place)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let parts = line.split_once(':').filter(|(user, password)| {
        !user.is_empty() && !password.is_empty() && !line.contains('\n')
    });
    let (username, password) =
        parts.with_context(|| format!("{}: it holds one line, USER:PASSWORD", place()))?;
    Ok(Credentials {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_that_only_its_owner_may_open() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("auth");
        let read_with = |text: &str, mode| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its own");
            read(&path).map(|it| (it.username, it.password))
        };
        let good = ("admin".to_owned(), "a:b".to_owned());
        assert_eq!(read_with("admin:a:b\n", 0o600).expect("good"), good);
        assert_eq!(read_with("admin:a:b", 0o640).expect("good"), good);
        assert_eq!(read_with("admin:a:b\r\n", 0o600).expect("good"), good);
        for (text, mode) in [
            ("admin:a:b\n", 0o644),
            ("", 0o600),
            ("admin\n", 0o600),
            ("admin:\n", 0o600),
            (":secret\n", 0o600),
            ("admin:a\nb:c\n", 0o600),
        ] {
            let error = read_with(text, mode).expect_err(text);
            assert!(format!("{error:#}").contains("--http-auth"), "{error:#}");
        }
    }
}
