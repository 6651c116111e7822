//! Routes

use super::super::model::{NextHop, Route, RouteKind, RouteScope, word_of};
use super::{Writer, quoted};

impl Writer {
    pub fn route(&mut self, route: &Route) {
        let Route {
            address,
            prefix,
            kind,
            via,
            dev,
            src,
            table,
            metric,
            mtu,
            scope,
            onlink,
            nexthop,
            no_track,
            origin: _,
        } = route;
        let mut words = Vec::new();
        if *kind != RouteKind::default() {
            words.push(word_of(&RouteKind::WORDS, kind).to_owned());
        }
        let prefix = prefix.map(|prefix| format!("/{prefix}"));
        words.push(format!("{address}{}", prefix.unwrap_or_default()));
        words.extend(via.map(|via| format!("via {via}")));
        words.extend(dev.as_ref().map(|dev| format!("dev {}", quoted(dev))));
        words.extend(src.map(|src| format!("src {src}")));
        words.extend(table.map(|table| format!("table {table}")));
        words.extend(metric.map(|metric| format!("metric {metric}")));
        words.extend(mtu.map(|mtu| format!("mtu {mtu}")));
        let scope = scope.map(|scope| word_of(&RouteScope::WORDS, &scope));
        words.extend(scope.map(|scope| format!("scope {scope}")));
        words.extend(onlink.then(|| "onlink".to_owned()));
        words.extend(no_track.then(|| "no_track".to_owned()));
        words.extend(nexthop.iter().map(next_hop));
        self.line(words.join(" "));
    }
}

fn next_hop(hop: &NextHop) -> String {
    let NextHop {
        via,
        dev,
        weight,
        onlink,
    } = hop;
    let mut words = vec!["nexthop".to_owned()];
    words.extend(via.map(|via| format!("via {via}")));
    words.extend(dev.as_ref().map(|dev| format!("dev {}", quoted(dev))));
    words.extend(weight.map(|weight| format!("weight {weight}")));
    words.extend(onlink.then(|| "onlink".to_owned()));
    words.join(" ")
}
