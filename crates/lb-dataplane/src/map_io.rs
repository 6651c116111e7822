//! Access to maps, with errors that name the map.

use std::io;

use aya::maps::{Array, MapData, MapError};
use aya::{Ebpf, Pod};

use super::error::Error;

/// Takes an array out of a loaded object.
pub(crate) fn array<V: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<Array<MapData, V>, Error> {
    take(ebpf, name)
}

/// Takes a map out of a loaded object.
pub(crate) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = ebpf
        .take_map(name)
        .expect("the embedded object has all maps of lb_abi::maps");
    read(name, M::try_from(map))
}

/// Adds the map's name to a failed read.
pub(crate) fn read<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, Error> {
    result.map_err(|error| Error::Map {
        operation: "read",
        map,
        source: io_error(error),
    })
}

/// Adds the map's name to a failed write.
pub(crate) fn write<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, Error> {
    result.map_err(|error| Error::Map {
        operation: "write",
        map,
        source: io_error(error),
    })
}

fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
