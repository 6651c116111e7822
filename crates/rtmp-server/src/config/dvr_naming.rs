//! The names of recordings: which files a `dvr_path` has named.

use std::path::{Path, PathBuf};

use regex::{Regex, escape};

/// The name of a file that is not finished has this behind it, as in SRS.
pub(crate) const UNFINISHED: &str = "tmp";

/// The vhost's variable: its value is the vhost's name.
const VHOST: &str = "[vhost]";
/// What the other variables' values look like, and one of them. Those of a stream may have
/// slashes.
const VALUES: [(&str, &str, &str); 10] = [
    ("[app]", ".+", "a"),
    ("[stream]", ".+", "s"),
    ("[2006]", "[0-9]{4}", "2006"),
    ("[01]", "[0-9]{2}", "01"),
    ("[02]", "[0-9]{2}", "02"),
    ("[15]", "[0-9]{2}", "15"),
    ("[04]", "[0-9]{2}", "04"),
    ("[05]", "[0-9]{2}", "05"),
    ("[999]", "[0-9]{3}", "999"),
    ("[timestamp]", "[0-9]+", "1"),
];

/// The directory before the first variable of `template`, and the rest.
pub(crate) fn directory_and_name(template: &str) -> (&str, &str) {
    let variables = template.find('[').unwrap_or(template.len());
    let directory = template[..variables].rfind('/');
    template.split_at(directory.map_or(0, |slash| slash + 1))
}

/// The directory below which all files of `template` lie, as an absolute path. No disk is
/// asked: it may have symbolic links and `..`.
pub(crate) fn base_directory(template: &str) -> PathBuf {
    let directory = match directory_and_name(template).0 {
        "" => Path::new("."),
        directory => Path::new(directory),
    };
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

/// The names that a `dvr_path` gives.
#[derive(Debug)]
pub(crate) struct Naming {
    /// All of its files lie below.
    pub(crate) directory: PathBuf,
    names: Regex,
    /// A file that it names.
    example: PathBuf,
}

impl Naming {
    /// That of `template`, which is the `dvr_path` of `vhost`; `None` if it is too long.
    pub(crate) fn of(template: &str, vhost: &str) -> Option<Self> {
        let (_, name) = directory_and_name(template);
        let (stem, extension) = name.rsplit_once('.')?;
        let values = VALUES.iter();
        let pattern = values.fold(escape(stem), |stem, (variable, value, _)| {
            stem.replace(&escape(variable), value)
        });
        let pattern = pattern.replace(&escape(VHOST), &escape(vhost));
        let extension = escape(extension);
        let names = format!(r"(?s)\A{pattern}(-[0-9]+)?\.{extension}(\.{UNFINISHED})?\z");
        let example = VALUES
            .iter()
            .fold(name.to_owned(), |name, (variable, _, value)| {
                name.replace(variable, value)
            });
        let directory = base_directory(template);
        Some(Self {
            names: Regex::new(&names).ok()?,
            example: directory.join(example.replace(VHOST, vhost)),
            directory,
        })
    }

    /// True if a file may have the name `name` below the directory, finished or not.
    pub(crate) fn names(&self, name: &Path) -> bool {
        name.to_str().is_some_and(|name| self.names.is_match(name))
    }

    /// True if some file may be one of both, as far as an example tells.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let takes = |naming: &Self, example: &Path| {
            let name = example.strip_prefix(&naming.directory);
            name.is_ok_and(|name| naming.names(name))
        };
        takes(self, &other.example) || takes(other, &self.example)
    }
}

/// The name that an unfinished file is to have; `None` for other files.
pub(crate) fn finished_name(path: &Path) -> Option<PathBuf> {
    let is_unfinished = path.extension().is_some_and(|it| it == UNFINISHED);
    is_unfinished.then(|| path.with_extension(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        let template = "/data/[app]/[2006]-[01]/[stream].[timestamp].flv";
        let naming = Naming::of(template, "v").unwrap();
        assert_eq!(naming.directory, Path::new("/data/"));
        for name in [
            "live/2026-11/s.1795943287045.flv",
            "live/inst/2026-11/a.b.1795943287045-3.flv",
            "live/2026-11/s.17.flv.tmp",
        ] {
            assert!(naming.names(Path::new(name)), "{name}");
        }
        for name in [
            "live/2026-11/s.flv",
            "live/2026-11/s.17.mp4",
            "live/2026-11/s.17.flv.bak",
            "live/x/s.17.flv",
        ] {
            assert!(!naming.names(Path::new(name)), "{name}");
        }
        let finished = |path: &str| finished_name(Path::new(path));
        assert_eq!(finished("/d/s.17.flv.tmp"), Some("/d/s.17.flv".into()));
        assert_eq!(finished("/d/s.17.flv"), None);
    }

    #[test]
    fn a_path_without_variables_names_one_file_and_those_numbered() {
        let naming = Naming::of("a+b.mp4", "v").unwrap();
        let names = |name: &str| naming.names(Path::new(name));
        assert!(names("a+b.mp4") && names("a+b-12.mp4"));
        assert!(!names("aab.mp4"));
    }

    #[test]
    fn a_vhosts_files_are_not_those_of_another_one() {
        let template = "/data/[vhost]/[app]/[stream].flv";
        let of = |vhost: &str| Naming::of(template, vhost).unwrap();
        assert!(of("a.com").names(Path::new("a.com/live/s.flv")));
        assert!(!of("a.com").names(Path::new("b.com/live/s.flv")));
        assert!(!of("a.com").overlaps(&of("b.com")));
        let archive = Naming::of("/data/archive/[app]/[stream].flv", "v").unwrap();
        let all = Naming::of("/data/[app]/[stream].flv", "v").unwrap();
        assert!(all.overlaps(&archive) && archive.overlaps(&all));
    }
}
