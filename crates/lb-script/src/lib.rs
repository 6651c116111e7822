//! Scripts that operators name in their configuration, and track files.
//!
//! Scripts run without a shell, as the user that the configuration names, and within a
//! time limit: [`ScriptRunner`] runs those that report changes, [`run_script`] those whose
//! exit status counts.

mod check;
mod run;
mod runnable;
mod runner;
mod safety;
mod standard_error;
mod track_file;

pub use check::NotRunnable;
pub use run::run_script;
pub use runnable::Runnable;
pub use runner::ScriptRunner;
pub use track_file::{Factor, NumberFile, READ_INTERVAL, initialise_files};
