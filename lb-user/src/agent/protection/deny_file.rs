//! The file that `lb_deny_file` names: networks whose packets are dropped.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use conf_kit::{Diagnostic, Location};
use lb_config::ConfigError;
use net_types::Network;

/// Length of the longest file that is read: one that is full of the longest networks would
/// fill the largest table.
const MAX_BYTES: u64 = 64 << 20;

/// Reads the networks of the file: one per line, `ADDRESS` or `ADDRESS/LENGTH`; what
/// follows `#` is a comment.
///
/// # Errors
/// The file cannot be read, or has a line that is no network.
pub(crate) fn read(path: &Path) -> Result<Vec<Network>, ConfigError> {
    let name = path.display().to_string();
    let place = Location::whole(&name);
    let text = text(path).map_err(|error| {
        let message = format!("cannot read the file of `lb_deny_file`: {error}");
        Diagnostic::error(&place, message)
    })?;
    parse(&text).map_err(|(number, message)| {
        Diagnostic::error(&Location::whole(&format!("{name}:{number}")), message).into()
    })
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// The networks, or the number of the first wrong line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<Network>, (usize, String)> {
    let mut networks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let word = line.split('#').next().unwrap_or_default().trim();
        if !word.is_empty() {
            networks.push(word.parse().map_err(|message| (index + 1, message))?);
        }
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_network_per_line_and_comments() {
        let networks = parse("# all of them\n\n10.0.0.0/8 # private\n 2001:db8::1\n");
        let expected = ["10.0.0.0/8", "2001:db8::1"].map(|text| text.parse().expect("a network"));
        assert_eq!(networks, Ok(expected.to_vec()));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let (line, message) = parse("10.0.0.1\n10.0.0.0/33\n").expect_err("too long a prefix");
        assert_eq!(line, 2);
        assert!(message.contains("10.0.0.0/33"), "{message}");
    }

    #[test]
    fn whatever_the_file_holds_it_is_read_or_refused() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let alphabet = b"0123456789abcdef.:/# \n\r\t";
            let length = random.usize(..40);
            let text: String = (0..length)
                .map(|_| char::from(alphabet[random.usize(..alphabet.len())]))
                .collect();
            if let Ok(networks) = parse(&text) {
                let written: Vec<String> = networks.iter().map(ToString::to_string).collect();
                assert_eq!(parse(&written.join("\n")), Ok(networks), "{text:?}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_of_the_configuration() {
        let error = read(Path::new("/nowhere/deny")).expect_err("it is not there");
        let text = error.to_string();
        assert!(
            text.contains("/nowhere/deny") && text.contains("lb_deny_file"),
            "{text}"
        );
    }
}
