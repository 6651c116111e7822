//! Programs that operators name in their configuration, and files whose number is
//! followed.

pub mod script;
pub mod track_file;
