//! Reads configuration files, with the files that they include.

use std::fs;
use std::path::{Path, PathBuf};

use conf_kit::text;

use super::directive::{Directive, Location, Mistake};
use super::{conf, json};

/// Reads the directives of a file: JSON if its name ends in `.json`, SRS's
/// grammar otherwise. `include FILE …;` stands for what is in those files; a
/// relative name is looked for in the working directory, as SRS does, and then
/// beside the file that includes it.
///
/// # Errors
/// An unreadable file, one that includes itself, or the first break of the
/// grammar.
pub fn read_file(path: &Path) -> Result<Vec<Directive>, Mistake> {
    let directives = read_one(path)?;
    include(directives, &mut vec![path.to_owned()])
}

/// Puts the directives of included files in the place of `include`; `chain`
/// leads from the main file to the one that `directives` are of.
fn include(
    directives: Vec<Directive>,
    chain: &mut Vec<PathBuf>,
) -> Result<Vec<Directive>, Mistake> {
    let mut all = Vec::with_capacity(directives.len());
    for mut directive in directives {
        if directive.name == "include" {
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
    chain: &mut Vec<PathBuf>,
) -> Result<Vec<Directive>, Mistake> {
    let path = locate(Path::new(name), chain);
    if chain.iter().any(|above| is_same(above, &path)) {
        let message = format!("`include {name}` would include a file in itself");
        return Err(Mistake::new(location, message));
    }
    let directives = read_one(&path).map_err(|mistake| match mistake.location.line {
        Some(_) => mistake,
        None => Mistake::new(location, format!("`include {name}`: {}", mistake.message)),
    })?;
    chain.push(path);
    let directives = include(directives, chain);
    chain.pop();
    directives
}

fn locate(name: &Path, chain: &[PathBuf]) -> PathBuf {
    let beside = chain.last().and_then(|above| above.parent());
    match beside {
        Some(directory) if !name.exists() => directory.join(name),
        _ => name.to_owned(),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn read_one(path: &Path) -> Result<Vec<Directive>, Mistake> {
    let source = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| {
        let location = Location::whole(&source.as_str().into());
        Mistake::new(
            &location,
            format!("cannot read the configuration file: {error}"),
        )
    })?;
    let text = text::decode(&bytes);
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    if !is_json {
        return conf::parse(&source, &text);
    }
    // JSON has no comments.
    if let Some(line) = text::first_undecodable_line(&text) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let location = Location::line(&source.as_str().into(), line);
        return Err(Mistake::new(&location, text::NOT_UTF8));
    }
    json::parse(&source, &text)
}

#[cfg(test)]
mod tests {
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
        let names: Vec<_> = directives.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["listen", "pid", "max_connections", "vhost"]);
        let inside = directives[3].children.as_ref().expect("a block");
        assert_eq!(inside[0].name, "gop_cache");
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
                "main.conf:1: `include` takes the names of files, not nothing",
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
