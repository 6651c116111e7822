//! Reads configuration files, with the files that they include.

use std::path::{Path, PathBuf};

use conf_kit::source::{self, IncludeChain};
use conf_kit::{Diagnostic, Directive, Location, text};

use super::{conf, json};

/// Reads the directives of a file: JSON if its name ends in `.json`, SRS's
/// grammar otherwise. `include FILE …;` stands for what is in those files; a
/// relative name is looked for in the working directory, as SRS does, and then
/// beside the file that includes it.
///
/// # Errors
/// An unreadable file, one that includes itself, or the first break of the
/// grammar.
pub fn read_file(path: &Path) -> Result<Vec<Directive>, Diagnostic> {
    let directives = read_one(path)?;
    let mut chain = IncludeChain::default();
    chain.enter(path.to_owned());
    include(directives, &mut chain)
}

/// Puts the directives of included files in the place of `include`; `chain`
/// ends with the file that `directives` are of.
fn include(
    directives: Vec<Directive>,
    chain: &mut IncludeChain,
) -> Result<Vec<Directive>, Diagnostic> {
    let mut all = Vec::with_capacity(directives.len());
    for mut directive in directives {
        if directive.keyword == "include" {
            for name in directive.words("the names of files")? {
                all.extend(included(name, &directive.location, chain)?);
            }
            continue;
        }
        directive.children = directive
            .children
            .map(|children| include(children, chain))
            .transpose()?;
        all.push(directive);
    }
    Ok(all)
}

fn included(
    name: &str,
    location: &Location,
    chain: &mut IncludeChain,
) -> Result<Vec<Directive>, Diagnostic> {
    let path = locate(Path::new(name), chain);
    if chain.contains(&path) {
        let message = format!("`include {name}` would include a file in itself");
        return Err(Diagnostic::error(location, message));
    }
    let directives = read_one(&path).map_err(|mistake| match mistake.location.has_line() {
        true => mistake,
        false => Diagnostic::error(location, format!("`include {name}`: {}", mistake.message)),
    })?;
    chain.enter(path);
    let directives = include(directives, chain);
    chain.leave();
    directives
}

fn locate(name: &Path, chain: &IncludeChain) -> PathBuf {
    match name.exists() {
        true => name.to_owned(),
        false => chain.directory().join(name),
    }
}

fn read_one(path: &Path) -> Result<Vec<Directive>, Diagnostic> {
    let name = path.display().to_string();
    let text = source::read(path).map_err(|error| {
        let message = format!("cannot read the configuration file: {error}");
        Diagnostic::error(&Location::whole(&name), message)
    })?;
    if !source::is_json(path) {
        return conf::parse(&name, &text);
    }
    // JSON has no comments.
    if let Some(line) = text::first_undecodable_line(&text) {
        let location = Location::line(&name.into(), line);
        return Err(Diagnostic::error(&location, text::NOT_UTF8));
    }
    json::parse(&name, &text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory with these files.
    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("written");
        }
        directory
    }

    fn read(directory: &tempfile::TempDir) -> Result<Vec<Directive>, String> {
        let main = directory.path().join("main.conf");
        let shown = format!("{}/", directory.path().display());
        read_file(&main).map_err(|mistake| mistake.to_string().replace(&shown, ""))
    }

    #[test]
    fn included_files_stand_in_the_place_of_include_at_any_depth() {
        let directory = files(&[
            (
                "main.conf",
                "include a.conf b.conf;\nvhost v { include c.conf; }",
            ),
            ("a.conf", "listen 1936;"),
            ("b.conf", "pid b.pid;\ninclude d.json;"),
            ("c.conf", "gop_cache off;"),
            ("d.json", r#"{ "max_connections": 5 }"#),
        ]);
        let directives = read(&directory).expect("they can be read");
        let names: Vec<_> = directives.iter().map(|it| it.keyword.as_str()).collect();
        assert_eq!(names, ["listen", "pid", "max_connections", "vhost"]);
        let inside = directives[3].children.as_ref().expect("a block");
        assert_eq!(inside[0].keyword, "gop_cache");
        assert!(inside[0].location.to_string().ends_with("/c.conf:1"));
    }

    #[test]
    fn what_is_wrong_with_an_included_file_is_told_at_its_place() {
        for (main, other, expected) in [
            (
                "\ninclude absent.conf;",
                "",
                "main.conf:2: `include absent.conf`: cannot read the configuration file: \
                 No such file or directory (os error 2)",
            ),
            (
                "include other.conf;",
                "listen 1935;\ninclude ./main.conf;",
                "other.conf:2: `include ./main.conf` would include a file in itself",
            ),
            (
                "include;",
                "",
                "main.conf:1: `include` expects the names of files, found nothing",
            ),
        ] {
            let directory = files(&[("main.conf", main), ("other.conf", other)]);
            assert_eq!(read(&directory), Err(expected.to_owned()), "{main}");
        }
        let directory = files(&[("main.conf", "include other.conf;"), ("other.conf", "\n}")]);
        let mistake = read(&directory).expect_err("a break of the grammar");
        assert!(mistake.starts_with("other.conf:2: "), "{mistake}");
    }
}
