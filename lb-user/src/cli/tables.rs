//! `--table NAME=ENTRIES`: capacities of the kernel's tables.

use conf_kit::did_you_mean;

use lb_dataplane::TableSizes;

/// One capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capacity {
    name: &'static str,
    entries: u32,
}

/// A table's name, and where its capacity stands.
type Table = (&'static str, fn(&mut TableSizes) -> &mut u32);

/// By the names of the fields of [`TableSizes`], which messages mention.
const TABLES: [Table; 11] = [
    ("connections", |sizes| &mut sizes.connections),
    ("half_open", |sizes| &mut sizes.half_open),
    ("templates", |sizes| &mut sizes.templates),
    ("services", |sizes| &mut sizes.services),
    ("servers", |sizes| &mut sizes.servers),
    ("ring_places", |sizes| &mut sizes.ring_places),
    ("fragments", |sizes| &mut sizes.fragments),
    ("denied", |sizes| &mut sizes.denied),
    ("proven", |sizes| &mut sizes.proven),
    ("rates", |sizes| &mut sizes.rates),
    ("maglev_places", |sizes| &mut sizes.maglev_places),
];

/// Reads `NAME=ENTRIES`.
///
/// # Errors
/// It is nothing of the kind, and what would be.
pub(super) fn parse(text: &str) -> Result<Capacity, String> {
    let names = || TABLES.iter().map(|(name, _)| *name);
    let (name, entries) = text
        .split_once('=')
        .ok_or_else(|| "expected NAME=ENTRIES, such as connections=1000000".to_owned())?;
    let (name, _) = TABLES
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| {
            let known: Vec<&str> = names().collect();
            format!(
                "there is no table `{name}`; there are: {}{}",
                known.join(", "),
                did_you_mean(name, names())
            )
        })?;
    // What is larger no index reaches, both halves taken together.
    let entries = entries
        .parse()
        .ok()
        .filter(|entries| (1..=1 << 28).contains(entries));
    Ok(Capacity {
        name,
        entries: entries.ok_or("expected a number of entries from 1 to 268435456")?,
    })
}

/// The default sizes but for these capacities; the last word on a table counts.
pub(super) fn with(capacities: &[Capacity]) -> TableSizes {
    let mut sizes = TableSizes::default();
    for capacity in capacities {
        for (name, field) in TABLES {
            if name == capacity.name {
                *field(&mut sizes) = capacity.entries;
            }
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_given_by_name() {
        let given = ["servers=2", "connections=1000000", "servers=3"].map(parse);
        let given: Vec<Capacity> = given.into_iter().map(|c| c.expect("right")).collect();
        let expected = TableSizes {
            servers: 3,
            connections: 1_000_000,
            ..TableSizes::default()
        };
        assert_eq!(with(&given), expected);
    }

    #[test]
    fn what_is_no_capacity_says_what_is() {
        let refused = |text| parse(text).expect_err("it is wrong");
        assert!(refused("servers").contains("NAME=ENTRIES"));
        assert!(
            refused("server=2").contains("did you mean `servers`?"),
            "{}",
            refused("server=2")
        );
        assert!(refused("servers=0").contains("from 1"));
        assert!(refused("servers=many").contains("from 1"));
    }
}
