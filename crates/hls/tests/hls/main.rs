//! HLS segments and playlists, judged by readers that share nothing with the writer.

mod boxes;
mod encoder;
mod encryption;
mod enhanced;
mod packets;
mod playlists;
mod properties;
mod real_peers;
mod segment_times;
mod segmenting;
mod stream;
mod synthetic;
