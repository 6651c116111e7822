//! Playlists, as text.
