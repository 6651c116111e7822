//! What the documents point at is there: files, headings, commands and their options.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use testbed::{program, source_root};

/// A Markdown file of the project's.
struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    fn name(&self) -> String {
        let relative = self.path.strip_prefix(source_root());
        relative.unwrap_or(&self.path).display().to_string()
    }

    /// The lines outside of fenced blocks.
    fn prose(&self) -> String {
        self.split().0
    }

    /// The lines of fenced blocks of shell commands, continued lines joined.
    fn shell(&self) -> String {
        self.split().1.replace("\\\n", " ")
    }

    fn split(&self) -> (String, String) {
        let (mut prose, mut shell) = (String::new(), String::new());
        let mut fence: Option<bool> = None;
        for line in self.text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fence = match fence {
                    Some(_) => None,
                    None => Some(language == "sh"),
                };
                continue;
            }
            let part = match fence {
                None => &mut prose,
                Some(true) => &mut shell,
                Some(false) => continue,
            };
            part.push_str(line);
            part.push('\n');
        }
        (prose, shell)
    }

    /// The anchors of its headings, as the hosting sites make them: lower case, blanks
    /// to hyphens, punctuation left out.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title.chars().filter_map(|c| match c {
                    ' ' => Some('-'),
                    '-' | '_' => Some(c),
                    _ => c.is_alphanumeric().then_some(c),
                });
                kept.collect()
            })
            .collect()
    }
}

fn documents() -> Vec<Document> {
    let root = source_root();
    let files = ["", "docs", "docs/decisions"].map(|folder| fs::read_dir(root.join(folder)));
    let mut documents: Vec<_> = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            entry
                .expect("a folder of the source tree can be read")
                .path()
        })
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| Document {
            text: fs::read_to_string(&path).expect("a document can be read"),
            path,
        })
        .collect();
    documents.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(documents.len() > 10, "only {} documents", documents.len());
    documents
}

/// The documents that are translated, by name without ending.
const TRANSLATED: [&str; 3] = ["README", "docs/migrating", "docs/operators-guide"];

/// A heading and what follows until the next.
#[derive(Debug)]
struct Section {
    heading: String,
    level: usize,
    /// Columns of each row of its tables.
    rows: Vec<usize>,
}

fn sections(document: &Document) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in document.prose().lines() {
        if line.starts_with('#') {
            sections.push(Section {
                heading: line.to_owned(),
                level: line.bytes().take_while(|byte| *byte == b'#').count(),
                rows: Vec::new(),
            });
        } else if line.starts_with('|') {
            let section = sections.last_mut().expect("a document has a title");
            section.rows.push(line.matches('|').count());
        }
    }
    sections
}

/// Its commands, without comments, which are in the language of the document.
fn commands_alone(document: &Document) -> Vec<String> {
    let comment = Regex::new(r"\s+#.*").expect("it is a pattern");
    let shell = document.shell();
    let lines = shell.lines().map(|line| comment.replace(line, ""));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// The files that it links to, without those of `pair`.
fn links_but_to(pair: &str, document: &Document) -> BTreeSet<String> {
    let link = Regex::new(r"\]\(([^)\s#]+)").expect("it is a pattern");
    let prose = document.prose();
    let links = link.captures_iter(&prose).map(|found| found[1].to_owned());
    links.filter(|target| !target.starts_with(pair)).collect()
}

/// The link of a translation that corresponds to `target` of its original: to the
/// translation, where there is one.
fn translated(target: &str) -> String {
    let base = target.strip_suffix(".md").unwrap_or_default();
    let file = base.rsplit('/').next().unwrap_or_default();
    let mut translated = TRANSLATED.iter().map(|name| name.rsplit('/').next());
    if translated.any(|name| name == Some(file)) {
        return format!("{base}.zh-CN.md");
    }
    target.to_owned()
}

#[test]
fn a_translation_has_the_headings_tables_commands_and_links_of_its_original() {
    let documents = documents();
    let find = |name: String| {
        let found = documents.iter().find(|document| document.name() == name);
        found.unwrap_or_else(|| panic!("there is no {name}"))
    };
    for name in TRANSLATED {
        let original = find(format!("{name}.md"));
        let translation = find(format!("{name}.zh-CN.md"));
        let (theirs, ours) = (sections(translation), sections(original));
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(
                (theirs.level, &theirs.rows),
                (ours.level, &ours.rows),
                "{name}: level and tables of `{}`, the translation of `{}`",
                theirs.heading,
                ours.heading
            );
        }
        assert_eq!(theirs.len(), ours.len(), "headings of {name}");
        assert_eq!(
            commands_alone(translation),
            commands_alone(original),
            "commands of {name}"
        );
        let pair = name.rsplit('/').next().unwrap_or_default();
        let links = links_but_to(pair, original);
        assert_eq!(
            links_but_to(pair, translation),
            links.iter().map(|target| translated(target)).collect(),
            "links of {name}"
        );
    }
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let documents = documents();
    let anchors: BTreeMap<_, _> = documents
        .iter()
        .map(|document| (document.path.clone(), document.anchors()))
        .collect();
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("it is a pattern");
    let mut broken = Vec::new();
    for document in &documents {
        for found in link.captures_iter(&document.prose()) {
            let target = &found[1];
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                document.path.clone()
            } else {
                let folder = document.path.parent().expect("a file lies in a folder");
                folder.join(file)
            };
            let leads_somewhere = path.canonicalize().is_ok_and(|path| {
                anchor.is_empty()
                    || anchors
                        .get(&path)
                        .is_some_and(|anchors| anchors.contains(anchor))
            });
            if !leads_somewhere {
                broken.push(format!("{}: {target}", document.name()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    let named = Regex::new(
        r"`((?:lb-\w+|rtmp-\w+|testbed|xtask|fuzz|scripts|examples|docs|crates)/[\w./-]+)`",
    )
    .expect("it is a pattern");
    let mut missing = Vec::new();
    for document in documents() {
        for found in named.captures_iter(&document.prose()) {
            let path = source_root().join(&found[1]);
            if !path.exists() {
                missing.push(format!("{}: {}", document.name(), &found[1]));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "these files are not there: {missing:#?}"
    );
}

/// Programs of ours with subcommands and options that documents may show.
const PROGRAMS: [&str; 5] = ["lb-user", "rtmp-origin", "rtmp-edge", "rtmp-load", "xtask"];

/// The commands of ours within a piece of shell: the words of each.
fn commands(shell: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in shell.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        for part in line.split(['|', ';', '&']) {
            let words: Vec<_> = part.split_whitespace().map(str::to_owned).collect();
            let begins = words
                .iter()
                .position(|word| PROGRAMS.contains(&word.as_str()) || word.starts_with("scripts/"));
            // What stands before must be a word that runs another.
            let Some(begins) = begins else { continue };
            let leads_in = |word: &String| ["sudo", "cargo"].contains(&word.as_str());
            if words[..begins].iter().all(leads_in) {
                found.push(words[begins..].to_vec());
            }
        }
    }
    found
}

/// What a program says about itself and, where the words name one, its subcommand.
fn help(path: &Path, subcommands: &[&str]) -> Option<String> {
    let output = Command::new(path)
        .args(subcommands)
        .arg("--help")
        .output()
        .expect("a program of ours can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// What is wrong with a command that a document shows.
fn fault(words: &[String]) -> Option<String> {
    let (name, words) = words.split_first()?;
    let path = match name.strip_prefix("scripts/") {
        Some(_) => source_root().join(name),
        None => program(name).expect("the programs are built"),
    };
    if !path.is_file() {
        return Some("no such script".to_owned());
    }
    let has_subcommands = ["lb-user", "xtask"].contains(&name.as_str());
    let subcommands: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .take_while(|word| has_subcommands && word.starts_with(|c: char| c.is_ascii_lowercase()))
        .take(2)
        .collect();
    // `cargo xtask bench rtmp cost`: `cost` is an argument; `build-ebpf` has none.
    let least = usize::from(!subcommands.is_empty());
    let mut counts = (least..=subcommands.len()).rev();
    let text = counts.find_map(|count| help(&path, &subcommands[..count]));
    let Some(text) = text else {
        return Some(format!("no subcommand {}", subcommands.join(" ")));
    };
    words
        .iter()
        .take_while(|word| *word != "--")
        .filter(|word| word.starts_with('-') && word.len() > 1)
        .filter(|word| !word[1..].starts_with(|c: char| c.is_ascii_digit()))
        .map(|word| word.split('=').next().unwrap_or_default())
        .find(|option| !text.contains(option))
        .map(|option| format!("no option {option}"))
}

#[test]
fn every_command_of_ours_in_the_documents_can_be_given() {
    let inline = Regex::new("`([^`\n]+)`").expect("it is a pattern");
    let mut faults = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let mut shell = document.shell();
        for found in inline.captures_iter(&document.prose()) {
            // A bare name is a name.
            if found[1].contains(' ') {
                shell.push_str(&found[1]);
                shell.push('\n');
            }
        }
        for words in commands(&shell) {
            seen += 1;
            if let Some(fault) = fault(&words) {
                faults.push(format!(
                    "{}: `{}`: {fault}",
                    document.name(),
                    words.join(" ")
                ));
            }
        }
    }
    assert!(seen > 30, "only {seen} commands were found");
    assert!(faults.is_empty(), "{faults:#?}");
}
