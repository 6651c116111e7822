//! The program's maps, read and rewritten past the data plane.

use aya::maps::{HashMap as BpfHashMap, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::util::nr_cpus;

pub(crate) fn program_of(id: u32) -> ProgramInfo {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .expect("our program is loaded")
}

pub(crate) fn maps_of(program: &ProgramInfo) -> Vec<(String, MapData)> {
    let ids = program
        .map_ids()
        .expect("the kernel tells")
        .expect("our program has maps");
    ids.into_iter()
        .map(|id| {
            let data = MapData::from_id(id).expect("the map can be opened");
            let info = data.info().expect("the kernel tells");
            (
                info.name_as_str().expect("map names are ASCII").to_owned(),
                data,
            )
        })
        .collect()
}

pub(crate) fn rewrite<K: aya::Pod, V: aya::Pod>(data: MapData, change: impl Fn(&mut V)) {
    let mut table: BpfHashMap<_, K, V> = Map::LruHashMap(data)
        .try_into()
        .expect("keys and values are as lb_abi says");
    let entries: Vec<(K, V)> = table.iter().collect::<Result<_, _>>().expect("can be read");
    for (key, mut value) in entries {
        change(&mut value);
        table.insert(key, value, 0).expect("can be written");
    }
}

pub(crate) fn clear<K: aya::Pod, V: aya::Pod>(data: MapData) {
    clear_table::<K, V>(Map::LruHashMap(data));
}

pub(crate) fn zero_per_cpu<V: aya::Pod + Default>(data: MapData) {
    let mut array: PerCpuArray<_, V> = Map::PerCpuArray(data)
        .try_into()
        .expect("values are as lb_abi says");
    let cpus = nr_cpus().expect("the kernel tells");
    for index in 0..array.len() {
        let zeros = PerCpuValues::try_from(vec![V::default(); cpus]).expect("one for each CPU");
        array.set(index, zeros, 0).expect("can be written");
    }
}

pub(crate) fn clear_table<K: aya::Pod, V: aya::Pod>(map: Map) {
    let mut table: BpfHashMap<_, K, V> =
        map.try_into().expect("keys and values are as lb_abi says");
    let keys: Vec<K> = table.keys().collect::<Result<_, _>>().expect("can be read");
    for key in keys {
        table.remove(&key).expect("can be written");
    }
}
