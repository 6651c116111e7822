//! `exec { … }`: programs that run while a stream is published, as in SRS
//! (`srs_app_ng_exec.cpp`, `srs_app_process.cpp`).

use conf_kit::{Diagnostic, Diagnostics, Directive};
use serde::Serialize;

use super::model::Vhost;
use super::setting::{Setting, apply};
use super::value::switch;

/// `exec { enabled on; publish PROGRAM ARGUMENT …; }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exec {
    /// The programs that run while a stream is published.
    pub publish: Vec<ExecProgram>,
}

/// A program, with variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecProgram {
    /// Its path, or its name in `PATH`.
    pub path: String,
    /// Its arguments.
    #[serde(skip)]
    pub arguments: Vec<String>,
    /// The file that its output is appended to.
    pub stdout: Option<String>,
    /// The file that its error messages are appended to.
    pub stderr: Option<String>,
}

impl ExecProgram {
    /// Reads `PROGRAM ARGUMENT … [[1]>FILE] [2>FILE]`. There is no shell: of its grammar
    /// only this is understood, with and without blanks around `>`.
    fn parse(words: &[String]) -> Option<Self> {
        let mut program = Self {
            path: words.first()?.clone(),
            arguments: Vec::new(),
            stdout: None,
            stderr: None,
        };
        let mut words = words[1..].iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let next_redirects = || words.clone().next().is_some_and(|it| it.starts_with('>'));
            let (to_stderr, file) = if let Some(file) = word.strip_prefix("2>") {
                (true, file)
            } else if let Some(file) = word.strip_prefix("1>").or(word.strip_prefix('>')) {
                (false, file)
            } else if (word == "1" || word == "2") && next_redirects() {
                (word == "2", words.next()?.trim_start_matches('>'))
            } else {
                program.arguments.push(word.to_owned());
                continue;
            };
            let file = match file.trim_start_matches('>') {
                "" => words.next()?,
                file => file,
            };
            let target = match to_stderr {
                true => &mut program.stderr,
                false => &mut program.stdout,
            };
            *target = Some(file.to_owned());
        }
        Some(program)
    }
}

/// The block as it is read.
#[derive(Default)]
struct ExecBlock {
    enabled: bool,
    publish: Vec<ExecProgram>,
}

const EXEC: &[Setting<ExecBlock>] = &[
    Setting::new("enabled", |exec, directive| {
        exec.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::list("publish", publish),
];

fn publish(exec: &mut ExecBlock, directive: &Directive) -> Result<(), Diagnostic> {
    let expected = "a program, its arguments, and at most `> FILE` and `2> FILE`";
    // SRS: no program, no effect.
    if directive.arguments.first().is_none_or(String::is_empty) {
        return Ok(());
    }
    let program = ExecProgram::parse(&directive.arguments);
    exec.publish
        .push(program.ok_or_else(|| directive.expects(expected))?);
    Ok(())
}

/// Reads `exec { … }`.
pub(super) fn exec(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    let mut block = ExecBlock::default();
    let repeated = ["publish"];
    apply(
        &mut block,
        children,
        EXEC,
        "in `exec`",
        &repeated,
        diagnostics,
    );
    vhost.exec = Exec {
        publish: match block.enabled {
            true => block.publish,
            false => Vec::new(),
        },
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_goes_where_a_sign_points() {
        let parse = |text: &str| {
            let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
            let program = ExecProgram::parse(&words)?;
            Some((program.arguments.join(" "), program.stdout, program.stderr))
        };
        let file = |name: &str| Some(name.to_owned());
        for (text, expected) in [
            ("p -a [url]", ("-a [url]", None, None)),
            ("p a >out", ("a", file("out"), None)),
            ("p a > out", ("a", file("out"), None)),
            ("p a 1>out 2>err", ("a", file("out"), file("err"))),
            ("p 1 >out 2 > err b", ("b", file("out"), file("err"))),
            ("p a >>out", ("a", file("out"), None)),
            ("p 1 2", ("1 2", None, None)),
        ] {
            let (arguments, stdout, stderr) = expected;
            let expected = Some((arguments.to_owned(), stdout, stderr));
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("p >"), None);
        assert_eq!(parse("p 2 >"), None);
    }
}
