//! Live screens in a terminal.
//!
//! - [`Screen`], [`run`]: a screen that follows updates, keys and the terminal's size.
//! - [`plain`]: the same as plain lines, where there is no terminal.
//! - [`Column`], [`table()`]: a table that leaves columns out on a narrow terminal.
//! - [`Scroll`]: the part of a long table that is shown.
//! - [`sparkline`], [`bar`]: figures as block elements.
//! - [`Progress`]: a line about something that takes a while.

#![forbid(unsafe_code)]

mod blocks;
mod progress;
mod screen;
mod scroll;
mod table;

pub use blocks::{bar, sparkline};
pub use progress::Progress;
pub use screen::{Screen, has_terminal, plain, run};
pub use scroll::Scroll;
pub use table::{Column, Content, Width, table};
