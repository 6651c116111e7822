//! Whole runs of players whose protocol lies on HTTP: against the project's own
//! server, against what ffmpeg writes, and against servers that do badly in a
//! known way.

mod files;
mod flv;
mod hls;
mod origin;
mod run;
mod scripted;
mod tls;
