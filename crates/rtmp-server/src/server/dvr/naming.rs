//! The names of recordings: which files a `dvr_path` has named.

use std::path::{Path, PathBuf};

use regex::{Regex, escape};

use super::file::UNFINISHED;

/// What a variable's value looks like. Those of a stream may have slashes.
const VALUES: [(&str, &str); 11] = [
    ("[vhost]", ".+"),
    ("[app]", ".+"),
    ("[stream]", ".+"),
    ("[2006]", "[0-9]{4}"),
    ("[01]", "[0-9]{2}"),
    ("[02]", "[0-9]{2}"),
    ("[15]", "[0-9]{2}"),
    ("[04]", "[0-9]{2}"),
    ("[05]", "[0-9]{2}"),
    ("[999]", "[0-9]{3}"),
    ("[timestamp]", "[0-9]+"),
];

/// The directory before the first variable of `template`, and the rest.
pub(super) fn directory_and_name(template: &str) -> (&str, &str) {
    let variables = template.find('[').unwrap_or(template.len());
    let directory = template[..variables].rfind('/');
    template.split_at(directory.map_or(0, |slash| slash + 1))
}

/// The names that a `dvr_path` gives.
#[derive(Debug)]
pub(super) struct Naming {
    /// All of its files lie below.
    pub(super) directory: PathBuf,
    names: Regex,
}

/// Whether a file is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Finished,
    /// It is written, or was when its server ended; with the name that it is to have.
    Unfinished(PathBuf),
}

impl Naming {
    /// That of `template`, which is a `dvr_path`; `None` if it is too long.
    pub(super) fn of(template: &str) -> Option<Self> {
        let (directory, name) = directory_and_name(template);
        let (stem, extension) = name.rsplit_once('.')?;
        let stem = VALUES.iter().fold(escape(stem), |stem, (variable, value)| {
            stem.replace(&escape(variable), value)
        });
        let extension = escape(extension);
        let names = format!(r"(?s)\A{stem}(-[0-9]+)?\.{extension}(\.{UNFINISHED})?\z");
        Some(Self {
            directory: match directory {
                "" => PathBuf::from("."),
                directory => PathBuf::from(directory),
            },
            names: Regex::new(&names).ok()?,
        })
    }

    /// What `path`, which lies below the directory, is by its name; `None` if no recording has
    /// it.
    pub(super) fn of_path(&self, path: &Path) -> Option<Named> {
        let name = path.strip_prefix(&self.directory).ok()?.to_str()?;
        if !self.names.is_match(name) {
            return None;
        }
        let is_unfinished = path.extension().is_some_and(|it| it == UNFINISHED);
        Some(match is_unfinished {
            true => Named::Unfinished(path.with_extension("")),
            false => Named::Finished,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        let naming = Naming::of("/data/[app]/[2006]-[01]/[stream].[timestamp].flv").unwrap();
        assert_eq!(naming.directory, Path::new("/data/"));
        let of = |name: &str| naming.of_path(Path::new(name));
        for name in [
            "/data/live/2026-11/s.1795943287045.flv",
            "/data/live/inst/2026-11/a.b.1795943287045-3.flv",
        ] {
            assert_eq!(of(name), Some(Named::Finished), "{name}");
        }
        let finished = "/data/live/2026-11/s.17.flv".into();
        let unfinished = of("/data/live/2026-11/s.17.flv.tmp");
        assert_eq!(unfinished, Some(Named::Unfinished(finished)));
        for name in [
            "/data/live/2026-11/s.flv",
            "/data/live/2026-11/s.17.mp4",
            "/data/live/2026-11/s.17.flv.bak",
            "/data/live/x/s.17.flv",
            "/other/live/2026-11/s.17.flv",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_path_without_variables_names_one_file_and_those_numbered() {
        let naming = Naming::of("a+b.mp4").unwrap();
        let of = |name: &str| naming.of_path(&naming.directory.join(name));
        assert_eq!(of("a+b.mp4"), Some(Named::Finished));
        assert_eq!(of("a+b-12.mp4"), Some(Named::Finished));
        assert_eq!(of("aab.mp4"), None);
    }
}
