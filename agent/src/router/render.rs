//! The router's texts, from its configuration and the routes. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use magrathea_core::plan::hash_text;

use super::route::{Lane, Route, Server, Slot};

/// Where the router sees its folder; the maps are named by these paths on its runtime sockets.
pub const ROUTER_FOLDER: &str = "/etc/magrathea/router";

/// An address that nothing listens on, for places without a replica.
const NOWHERE: &str = "127.0.0.1:1";

/// The maps, by file name below `maps/`.
pub type Maps = BTreeMap<&'static str, BTreeMap<String, String>>;

pub const HOSTS: &str = "hosts.map";
pub const WILDCARDS: &str = "wildcards.map";
pub const ACTIVE: &str = "active.map";
pub const CANARY: &str = "canary.map";
/// Whose visitors get less; the keeper fills it.
pub const LIMITS: &str = "limits.map";

/// Everything that the router reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    pub config: String,
    /// The hash of everything that only a reload can bring about: all but addresses and maps.
    pub shape: String,
    pub maps: Maps,
}

/// The configuration without the addresses that a node without IPv6 cannot listen on.
pub fn listenable(config: &str, ipv6: bool) -> String {
    let possible = |line: &&str| ipv6 || !line.trim_start().starts_with("bind [");
    config.lines().filter(possible).map(|line| format!("{line}\n")).collect()
}

/// Renders the texts.
pub fn render(config: &str, routes: &BTreeMap<String, Route>) -> Texts {
    let mut text = format!("{}\n", config.trim_end());
    let mut shape = text.clone();
    for route in routes.values() {
        for slot in Slot::BOTH {
            // An empty slot looks like the other, so that the next release of the same text needs no reload.
            let Some(like) = route.lane(slot).or_else(|| route.lane(slot.other())) else { continue };
            let head = format!("\nbackend {}\n{}\n", slot.backend(&route.slug), indented(&like.text));
            text.push_str(&head);
            shape.push_str(&head);
            for (name, server) in servers(route, slot) {
                let backup = if name.starts_with(STANDBY) { " backup" } else { "" };
                let options = format!("{}{backup}", like.options.trim());
                let _ = match server {
                    Some(server) => writeln!(text, "    server {name} {} {options}", server.address),
                    None => writeln!(text, "    server {name} {NOWHERE} {options} disabled"),
                };
                let _ = writeln!(shape, "    server {name} {options}");
            }
        }
        let _ = writeln!(shape, "# {}", route.files_hash);
    }
    Texts { config: text, shape: hash_text(&shape), maps: maps(routes) }
}

/// What the name of a server begins with, by what it is: a replica of the slot's own release, or one that stands by.
const OWN: char = 'r';
const STANDBY: char = 's';

/// Whether a server is one of the slot's own release.
pub fn is_own(name: &str) -> bool {
    name.starts_with(OWN)
}

/// The servers of a slot's backend by name, with the replicas in their places.
pub fn servers(route: &Route, slot: Slot) -> impl Iterator<Item = (String, Option<&Server>)> {
    let lanes = [(OWN, route.lane(slot)), (STANDBY, route.standby_of(slot))];
    lanes.into_iter().flat_map(|(start, lane)| {
        (0..places(route))
            .map(move |place| (format!("{start}{}", place + 1), lane.and_then(|lane| lane.places.get(place)?.as_ref())))
    })
}

/// How many servers of each kind a route's backends have.
fn places(route: &Route) -> usize {
    route.lanes().map(|lane: &Lane| lane.places.len()).max().unwrap_or_default().max(1)
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn maps(routes: &BTreeMap<String, Route>) -> Maps {
    let serving = || routes.values().filter(|route| route.active.is_some());
    let names = |pick: fn(&Route) -> &Vec<String>, start: &'static str| {
        serving().flat_map(move |r| pick(r).iter().map(move |n| (format!("{start}{n}"), r.slug.clone()))).collect()
    };
    BTreeMap::from([
        (HOSTS, names(|route| &route.hosts, "")),
        (WILDCARDS, names(|route| &route.wildcards, ".")),
        (CANARY, serving().filter_map(|route| Some((route.slug.clone(), route.canary_value()?))).collect()),
        (LIMITS, BTreeMap::new()),
        (ACTIVE, serving().filter_map(|route| Some((route.slug.clone(), route.active_value()?))).collect()),
    ])
}

/// A map as its file.
pub fn render_map(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key} {value}\n")).collect()
}

/// The map's name on the runtime sockets.
pub fn map_path(name: &str) -> String {
    format!("{ROUTER_FOLDER}/maps/{name}")
}

/// The runtime commands that turn one map into the other.
pub fn map_commands(name: &str, held: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let path = map_path(name);
    let gone = held.keys().filter(|key| !wanted.contains_key(*key)).map(|key| format!("del map {path} {key}"));
    let set = wanted.iter().filter_map(|(key, value)| match held.get(key) {
        Some(same) if same == value => None,
        Some(_) => Some(format!("set map {path} {key} {value}")),
        None => Some(format!("add map {path} {key} {value}")),
    });
    set.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use magrathea_core::names::ReleaseNumber;

    use super::super::route::Canary;
    use super::*;

    fn lane(release: u32, places: usize) -> Lane {
        Lane {
            service: format!("i0-web-v{release}"),
            release: ReleaseNumber(release),
            port: 8080,
            text: "balance leastconn\noption redispatch".into(),
            options: "check inter 2s".into(),
            places: (0..places)
                .map(|n| Some(Server { container: n.to_string(), address: ([172, 18, 0, 3 + n as u8], 8080).into() }))
                .collect(),
            spare: 0,
            files: Vec::new(),
        }
    }

    fn routes(a: Option<Lane>, b: Option<Lane>, active: Slot) -> BTreeMap<String, Route> {
        let mut route = Route::new("i0");
        route.hosts = vec!["blog.example".into()];
        route.wildcards = vec!["blog.example".into()];
        (route.a, route.b, route.active) = (a, b, Some(active));
        [("i0".to_owned(), route)].into()
    }

    #[test]
    fn both_lanes_and_the_maps() {
        let texts = render("global\n", &routes(Some(lane(1, 2)), None, Slot::A));
        insta::assert_snapshot!(texts.config);
        insta::assert_debug_snapshot!(texts.maps);
    }

    #[test]
    fn a_release_of_the_same_text_needs_no_reload() {
        let first = render("global\n", &routes(Some(lane(1, 1)), None, Slot::A));
        let both = render("global\n", &routes(Some(lane(1, 1)), Some(lane(2, 1)), Slot::A));
        let second = render("global\n", &routes(None, Some(lane(2, 1)), Slot::B));
        assert_eq!((&first.shape, &both.shape), (&both.shape, &second.shape));
        let more = render("global\n", &routes(Some(lane(1, 2)), None, Slot::A));
        assert_ne!(first.shape, more.shape, "another server does");
    }

    #[test]
    fn what_served_before_stands_by_without_a_reload() {
        let mut routes = routes(Some(lane(1, 1)), Some(lane(2, 1)), Slot::A);
        let before = render("global\n", &routes);
        let route = routes.get_mut("i0").unwrap();
        route.activate(Slot::B);
        let by_name = |route: &Route| {
            let held = servers(route, Slot::B).map(|(name, server)| (name, server.map(|s| s.address.to_string())));
            held.collect::<Vec<_>>()
        };
        let address = || Some("172.18.0.3:8080".to_owned());
        assert_eq!(by_name(route), [("r1".to_owned(), address()), ("s1".to_owned(), address())]);
        assert!(servers(route, Slot::A).all(|(_, server)| server.is_some()), "what was assigned to it is answered");
        route.activate(Slot::B);
        assert_eq!(route.standby, Some(Slot::A), "to be told twice changes nothing");
        assert_eq!(render("global\n", &routes).shape, before.shape);
        let route = routes.get_mut("i0").unwrap();
        route.standby = None;
        assert_eq!(by_name(route), [("r1".to_owned(), address()), ("s1".to_owned(), None)]);
    }

    #[test]
    fn a_release_on_trial_has_its_share_without_a_reload() {
        let mut routes = routes(Some(lane(1, 1)), Some(lane(2, 1)), Slot::A);
        let before = render("global\n", &routes);
        let route = routes.get_mut("i0").unwrap();
        route.canary = Some(Canary { slot: Slot::B, share: 10 });
        let tried = render("global\n", &routes);
        assert_eq!((&tried.shape, &tried.maps[ACTIVE]), (&before.shape, &before.maps[ACTIVE]));
        assert_eq!(tried.maps[CANARY]["i0"], "i0_b,2,10");
        let route = routes.get_mut("i0").unwrap();
        route.activate(Slot::A);
        assert!(render("global\n", &routes).maps[CANARY].is_empty(), "to lead all to one ends the trial");
    }

    #[test]
    fn a_node_without_ipv6_listens_on_what_it_has() {
        let config = "frontend public\n    bind 0.0.0.0:80\n    bind [::]:80 v6only\n";
        assert_eq!(listenable(config, true), config);
        assert_eq!(listenable(config, false), "frontend public\n    bind 0.0.0.0:80\n");
    }

    #[test]
    fn maps_change_by_their_differences() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let commands = map_commands(
            ACTIVE,
            &map(&[("i0", "i0_a,1"), ("i1", "x"), ("i2", "y")]),
            &map(&[("i0", "i0_b,2"), ("i2", "y"), ("i3", "z")]),
        );
        assert_eq!(
            commands,
            [
                "set map /etc/magrathea/router/maps/active.map i0 i0_b,2",
                "add map /etc/magrathea/router/maps/active.map i3 z",
                "del map /etc/magrathea/router/maps/active.map i1",
            ]
        );
    }
}
