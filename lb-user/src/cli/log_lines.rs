//! The log of `lb-user run`: to standard error, each record on one line.

use std::io::{self, IsTerminal};

use env_logger::{Builder, Env, Logger, WriteStyle};
use log::{Log, Metadata, Record};
use service_kit::OneLine;
use service_kit::systemd;

/// Levels where `RUST_LOG` says nothing. The netlink crates warn of every
/// attribute that they do not know.
const FILTER: &str = "info,netlink_proto=error,netlink_packet_route=error";

/// Sends every record of this process to standard error from now on.
pub(super) fn start() {
    let mut builder = Builder::from_env(Env::default().default_filter_or(FILTER));
    builder.format_target(false);
    if systemd::logs_to_journal() {
        builder.format(|line, record| {
            systemd::write_journal_line(line, record.level(), record.args())
        });
    }
    if !io::stderr().is_terminal() {
        builder.write_style(WriteStyle::Never);
    }
    let logger = builder.build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(OneLineEach(logger))).expect("the log is started once");
}

/// Has whatever is logged take one line, whoever has chosen its words.
struct OneLineEach(Logger);

impl Log for OneLineEach {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line())
                .args(format_args!("{}", OneLine(record.args())))
                .build(),
        );
    }

    fn flush(&self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use env_logger::Target;
    use log::{Level, LevelFilter};

    use super::*;

    /// The lines that a logger has written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_others_have_put_into_it() {
        let written = Written::default();
        let logger = Builder::new()
            .filter_level(LevelFilter::Info)
            .format_timestamp(None)
            .format_target(false)
            .write_style(WriteStyle::Never)
            .target(Target::Pipe(Box::new(written.clone())))
            .build();
        OneLineEach(logger).log(
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("it says \x1b[2Jno\n[ERROR] all is lost"))
                .build(),
        );
        let written = written.0.lock().expect("no panic");
        assert_eq!(
            String::from_utf8_lossy(&written),
            "[WARN ] it says \\u{1b}[2Jno\\n[ERROR] all is lost\n"
        );
    }
}
