//! Properties of our own that `connect` and its answer carry (docs/protocol.md).

/// The property of `connect`'s command object by which a client says where it
/// wants to begin to play, a boolean: at the newest keyframe, or at the next.
/// Other servers leave out what they do not know.
pub(super) const GOP_CACHE: &str = "gopCache";

/// The property of the answer to a `connect` with [`GOP_CACHE`], in its first
/// object, by which a server says that it tells of each publication that begins
/// (stream begin), and gives a player no picture before a keyframe that it has
/// not waited for.
pub(super) const MARKS_PUBLICATIONS: &str = "marksPublications";
