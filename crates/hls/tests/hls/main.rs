//! HLS segments and playlists, judged by readers that share nothing with the writer.

mod boxes;
mod encoder;
mod packets;
mod real_peers;
mod stream;
