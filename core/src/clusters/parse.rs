//! Reading `clusters.yml`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Cluster, Clusters};
use crate::access::is_list_name;
use crate::diagnostics::Diagnostics;
use crate::names::Layer;
use crate::schema::check::{Checker, join};
use crate::schema::json_schema;
use crate::yaml::{self, Mark, Node};

/// Parses the text of a `clusters.yml`; `file` is the name shown in diagnostics.
pub fn parse_clusters(file: &str, text: &str) -> Result<Clusters, Diagnostics> {
    let document = yaml::parse(file, text)?;
    let mut checker = Checker { file, text, findings: Vec::new() };
    let root = checker.check(&clusters_json_schema(), &document, "").map(Node::without_nulls);
    let clusters = root.as_ref().and_then(|root| {
        let typed: Result<Clusters, _> = serde_json::from_value(root.to_json());
        typed.map_err(|error| checker.report(root.mark, "", format!("cannot be used: {error}"), None)).ok()
    });
    if let (Some(root), Some(clusters)) = (&root, &clusters) {
        check_clusters(&mut checker, root, clusters);
    }
    match (clusters, checker.finish()) {
        (Some(clusters), findings) if !findings.has_errors() => Ok(clusters),
        (_, findings) => Err(findings),
    }
}

/// The JSON Schema of `clusters.yml`.
pub fn clusters_json_schema() -> Value {
    let mut schema = json_schema::<Clusters>();
    schema.insert("title".into(), "clusters.yml".into());
    schema.insert(
        "description".into(),
        "The static clusters, their nodes, and the layers that each node carries.".into(),
    );
    schema.insert("patternProperties".into(), json!({"^x-": {}}));
    Value::Object(schema)
}

fn check_clusters(checker: &mut Checker<'_>, root: &Node, clusters: &Clusters) {
    let mut owners = BTreeMap::new();
    for (name, cluster) in &clusters.clusters {
        let path = join("clusters", name.as_str());
        let at = |keys: &[&str]| root.place(&[&["clusters", name.as_str()], keys].concat()).0;
        check_layers(checker, at(&["nodes"]), &path, cluster);
        check_ports(checker, &at, &path, cluster);
        check_others(checker, &at, &path, cluster);
        for (node, one) in &cluster.nodes {
            if let Some(other) = owners.insert(one.address, (name, node)) {
                let (mark, path) =
                    (at(&["nodes", node.as_str(), "address"]), join(&path, &format!("nodes.{node}.address")));
                let message = format!("the nodes `{}/{}` and `{name}/{node}` have the same address", other.0, other.1);
                checker.report(mark, &path, message, Some("a node carries layers of one cluster".into()));
            }
        }
    }
    if clusters.clusters.is_empty() {
        let hint = Some("add a cluster with at least one node".into());
        checker.report(root.place(&["clusters"]).0, "clusters", "there is no cluster".into(), hint);
    }
    for (name, entries) in &clusters.access_lists {
        for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| is_list_name(entry)) {
            let mark = root.place(&["access_lists", name, &n.to_string()]).0;
            let message = format!("`{entry}` is not an address: a list cannot hold another list");
            let hint = Some("write the addresses themselves".into());
            checker.report(mark, &format!("access_lists.{name}[{n}]"), message, hint);
        }
    }
}

fn check_layers(checker: &mut Checker<'_>, mark: Mark, path: &str, cluster: &Cluster) {
    let path = join(path, "nodes");
    if cluster.nodes.is_empty() {
        checker.report(mark, &path, "the cluster has no node".into(), Some("add at least one".into()));
        return;
    }
    let carried = |layer: &Layer| cluster.nodes.values().any(|node| node.layers.contains(layer));
    let missing: Vec<&str> = Layer::ALL.iter().filter(|layer| !carried(layer)).map(|layer| layer.as_str()).collect();
    if !missing.is_empty() {
        let message = format!("no node carries the layers {}", missing.join(", "));
        checker.report(mark, &path, message, Some("add each to the `layers` of at least one node".into()));
    }
}

/// What is laid on one node reaches only instances of the same node: so one has it all, and the others carry replicas.
fn check_others(checker: &mut Checker<'_>, at: &impl Fn(&[&str]) -> Mark, path: &str, cluster: &Cluster) {
    let Some(manager) = cluster.manager().filter(|_| cluster.nodes.len() > 1) else { return };
    for (name, node) in &cluster.nodes {
        let path = |key: &str| join(path, &format!("nodes.{name}.{key}"));
        let wanted: &[Layer] = if name == manager { &Layer::ALL } else { &[Layer::App] };
        if !node.layers.is_empty() && !node.layers.iter().eq(wanted) {
            let message =
                format!("of several nodes one carries all layers, here `{manager}`, and the others `app` alone");
            let wanted = wanted.iter().map(|layer| layer.as_str()).collect::<Vec<_>>().join(", ");
            let (mark, hint) = (at(&["nodes", name.as_str(), "layers"]), format!("write `layers: [{wanted}]`"));
            checker.report(mark, &path("layers"), message, Some(hint));
        }
        if node.address.is_loopback() {
            let message = format!("the other nodes cannot reach `{name}` at {}", node.address);
            let hint = "give it the address that it has in the nodes' private network".to_owned();
            checker.report(at(&["nodes", name.as_str(), "address"]), &path("address"), message, Some(hint));
        }
    }
}

fn check_ports(checker: &mut Checker<'_>, at: &impl Fn(&[&str]) -> Mark, path: &str, cluster: &Cluster) {
    let ports = [
        (&["routing", "http"][..], cluster.routing.http),
        (&["routing", "https"], cluster.routing.https),
        (&["db", "port"], cluster.db.port),
    ];
    for (n, (keys, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports.iter().take(n).find(|(_, taken)| taken == port) {
            let message = format!("the port {port} is taken by `{}`", other.join("."));
            checker.report(at(keys), &join(path, &keys.join(".")), message, Some("choose another port".into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "clusters:\n  local:\n    domain: localhost\n    routing: {http: 8080, https: 8443}\n    nodes:\n      here: {address: 127.0.0.1, layers: [storage, db, app, proxy, routing, support]}\naccess_lists: {office: [192.0.2.0/24]}\n";

    fn brief(text: &str) -> String {
        let findings = parse_clusters("clusters.yml", text).unwrap_err().0.into_iter();
        let line = |d: crate::diagnostics::Diagnostic| {
            format!("{}:{} {} [{}] {}\n", d.line, d.column, d.message, d.path, d.hint.unwrap_or_default())
        };
        findings.map(line).collect()
    }

    #[test]
    fn a_local_cluster_is_understood() {
        let clusters = parse_clusters("clusters.yml", LOCAL).unwrap();
        let local = clusters.clusters.values().next().unwrap();
        assert_eq!((local.routing.http, local.routing.https, local.db.port), (8080, 8443, 3306));
        let validator = jsonschema::validator_for(&clusters_json_schema()).unwrap();
        assert!(validator.is_valid(&yaml::parse("f", LOCAL).unwrap().to_json()));
    }

    #[test]
    fn all_mistakes_are_shown_at_once() {
        let text = "clusters:\n\
                    \x20 Milan: {nodes: {}}\n\
                    \x20 rome:\n\
                    \x20   domain: Rome.Example\n\
                    \x20   routing: {http: 3306, https: 0, listen: [nowhere]}\n\
                    \x20   storage: {driver: zfs, path: srv}\n\
                    \x20   nodes:\n\
                    \x20     one: {address: 192.0.2.1, layers: [storage, app, web]}\n\
                    \x20     two: {address: 192.0.2.1, layers: []}\n\
                    \x20     three: {layers: [db]}\n\
                    \x20 empty: {nodes: }\n\
                    access_lists: {office: [192.0.2.1/24, home, 10.0.0.0/8]}\n\
                    acess_lists: {}\n";
        insta::assert_snapshot!(brief(text), @r#"
        2:3 the key `Milan` is not valid: cluster name "Milan" must start with a lower-case letter [clusters.Milan] 
        3:3 the port 3306 is taken by `routing.http` [clusters.rome.db.port] choose another port
        4:13 `clusters.rome.domain` wants a host name in lower case, not "Rome.Example" [clusters.rome.domain] write "rome.example"
        5:34 `clusters.rome.routing.https` wants a whole number from 1 to 65535, not 0 [clusters.rome.routing.https] 
        5:46 `clusters.rome.routing.listen[0]` wants an IPv4 or IPv6 address, not "nowhere" [clusters.rome.routing.listen[0]] 
        6:23 `clusters.rome.storage.driver` wants `directory` or `btrfs`, not "zfs" [clusters.rome.storage.driver] 
        6:34 `clusters.rome.storage.path` wants an absolute path, as in `/srv/storage`, not "srv" [clusters.rome.storage.path] 
        7:5 no node carries the layers db, proxy, routing, support [clusters.rome.nodes] add each to the `layers` of at least one node
        8:56 `clusters.rome.nodes.one.layers[2]` wants `storage`, `db`, `app`, `proxy`, `routing` or `support`, not "web" [clusters.rome.nodes.one.layers[2]] 
        9:22 the nodes `rome/one` and `rome/two` have the same address [clusters.rome.nodes.two.address] a node carries layers of one cluster
        10:14 `clusters.rome.nodes.three` lacks the key `address` [clusters.rome.nodes.three] add `address`: an address
        11:11 the cluster has no node [clusters.empty.nodes] add at least one
        12:25 `access_lists.office[0]` is not valid: the block 192.0.2.1/24 has address bits beyond its prefix length [access_lists.office[0]] write 192.0.2.0/24 for the whole block, or the address without a prefix length
        12:39 `home` is not an address: a list cannot hold another list [access_lists.office[0]] write the addresses themselves
        13:1 unknown key `acess_lists` [acess_lists] did you mean `access_lists`?
        "#);
        insta::assert_snapshot!(brief("clusters: {}\n") + &brief(""), @r"
        1:1 there is no cluster [clusters] add a cluster with at least one node
        1:1 the file lacks the key `clusters` [] add `clusters`: a map of keys
        ");
    }

    #[test]
    fn of_several_nodes_one_carries_all_layers() {
        let two = |one: &str, other: &str| {
            let all = "[storage, db, app, proxy, routing, support]";
            format!(
                "clusters:\n  milan:\n    domain: m.example\n    nodes:\n\
                 \x20     alpha: {{address: {other}}}\n\
                 \x20     beta: {{address: {one}, layers: {all}}}\n"
            )
        };
        let good = two("192.0.2.1", "192.0.2.2, layers: [app], zone: rack-2");
        let clusters = parse_clusters("clusters.yml", &good).unwrap();
        let milan = clusters.clusters.values().next().unwrap();
        assert_eq!(milan.manager().map(|name| name.as_str()), Some("beta"));
        let carrying: Vec<_> = milan.carrying(Layer::App).map(|name| name.as_str()).collect();
        assert_eq!(carrying, ["beta", "alpha"], "the manager first");
        assert!(milan.can_spread());
        insta::assert_snapshot!(brief(&two("127.0.0.1", "192.0.2.2, layers: [app, db, storage]")), @r"
        5:43 of several nodes one carries all layers, here `beta`, and the others `app` alone [clusters.milan.nodes.alpha.layers] write `layers: [app]`
        6:23 the other nodes cannot reach `beta` at 127.0.0.1 [clusters.milan.nodes.beta.address] give it the address that it has in the nodes' private network
        ");
    }
}
