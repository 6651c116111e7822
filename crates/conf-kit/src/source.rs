//! Configuration files on disk, and those that they include.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::text;

/// Mark that editors of other systems put before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads a file. A byte that is not UTF-8 becomes [`text::UNDECODABLE`], which harms
/// only outside comments; a byte order mark is left out.
///
/// # Errors
/// The file cannot be read.
pub fn read(file: &Path) -> io::Result<String> {
    let bytes = fs::read(file)?;
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    Ok(text::decode(bytes))
}

/// True if a file is read as JSON: its name ends in `.json`.
pub fn is_json(file: &Path) -> bool {
    let extension = file.extension();
    extension.is_some_and(|extension| extension == "json")
}

/// The files that are being read: the main file, and each that the one before it
/// includes.
#[derive(Debug, Default)]
pub struct IncludeChain(Vec<PathBuf>);

impl IncludeChain {
    /// Begins to read `file`.
    pub fn enter(&mut self, file: PathBuf) {
        self.0.push(file);
    }

    /// Ends what [`IncludeChain::enter`] began.
    pub fn leave(&mut self) {
        self.0.pop();
    }

    /// Number of files that are being read.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// True if `file` is being read, under whatever name: it would include itself.
    pub fn contains(&self, file: &Path) -> bool {
        self.0.iter().any(|open| is_same(open, file))
    }

    /// The directory of the file that is being read.
    pub fn directory(&self) -> &Path {
        let parent = self.0.last().and_then(|file| file.parent());
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
