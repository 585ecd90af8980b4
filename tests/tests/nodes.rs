//! A cluster of two nodes, each with an engine of its own: replicas are on both, and visitors meet all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use magrathea_tests::load::{Load, failures};
use magrathea_tests::second::Second;
use magrathea_tests::site::Site;
use magrathea_tests::{Lab, until};

const MANIFEST: &str = "app: twin\ncluster: far\nproxy: {kind: none}\nrouting: {drain: 2s}\n\
    app_layer: {stack: php, memory: 128MiB, replicas: 4}\n";

/// Which release, which replica, and who the visitor is to it.
fn page(version: usize) -> String {
    format!("<?php header('Cache-Control: no-store'); echo '{version} ', gethostname(), ' ', $_SERVER['REMOTE_ADDR'];")
}

/// The site first: it goes before its cluster does.
struct Twin {
    site: Site,
    second: Second,
    lab: Lab,
}

impl Twin {
    fn new() -> Self {
        let lab = Lab::get();
        Twin { second: Second::of_two_nodes(&lab), site: Site::new(&lab, "twin"), lab }
    }

    /// How many replicas of the release run on each of the nodes.
    fn replicas(&self, release: usize) -> [usize; 2] {
        let name = format!("name={}-web-v{release}.", self.site.slug());
        [1, 2].map(|node| self.second.docker_of(node, &["ps", "-q", "--filter", &name]).stdout.lines().count())
    }

    /// The words of the answers that so many visitors get, each in a set of its own.
    async fn meet(&self, visitors: usize) -> [BTreeSet<String>; 3] {
        let mut met = [const { BTreeSet::new() }; 3];
        for _ in 0..visitors {
            let answer = self.lab.client().get(self.second.url("twin.far.localhost", "/")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let text = answer.text().await.unwrap();
            for (met, word) in met.iter_mut().zip(text.split(' ')) {
                met.insert(word.to_owned());
            }
        }
        met
    }

    /// Deploys the next version.
    fn deploy(&self, version: usize) {
        self.site.file("index.php", page(version));
        self.site.deploy().ok();
    }
}

/// One cluster for all of it: making it and taking it away takes a minute.
#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn two_nodes_carry_one_app() {
    let twin = Twin::new();
    replicas_are_spread_over_nodes(&twin).await;
    what_needs_one_node_stays_there(&twin).await;
    a_lost_node_is_left_out_and_comes_back(&twin).await;
}

async fn replicas_are_spread_over_nodes(twin: &Twin) {
    let (second, site) = (&twin.second, &twin.site);
    site.file("magrathea.yml", MANIFEST);
    twin.deploy(1);
    assert_eq!(twin.replicas(1), [2, 2]);
    let [versions, replicas, addresses] = twin.meet(60).await;
    assert_eq!((versions, addresses), (["1".to_owned()].into(), ["127.0.0.1".to_owned()].into()));
    assert_eq!(replicas.len(), 4, "visitors meet all of them: {replicas:?}");

    // Nobody notices a change.
    let load = Load::start(twin.lab.client(), second.url("twin.far.localhost", "/"), 50, Duration::from_secs(300));
    for version in 2..=4 {
        twin.deploy(version);
        assert_eq!(twin.replicas(version), [2, 2], "v{version}");
    }
    site.td(&["release", "rollback", "v2"]).ok();
    assert_eq!(twin.replicas(2), [2, 2]);
    for count in [2, 6, 4] {
        site.td(&["app", "scale", "default", &format!("web={count}")]).ok();
    }
    assert_eq!(twin.meet(60).await[1].len(), 4);

    // A replica on the other node dies: it is left out, and another comes.
    let name = format!("name={}-web-v2.", site.slug());
    let one = second.docker_of(2, &["ps", "-q", "--filter", &name]).ok().stdout;
    let one = one.lines().next().unwrap().to_owned();
    second.docker_of(2, &["kill", &one]).ok();
    until(Duration::from_secs(30), "another has come", || twin.replicas(2).iter().sum::<usize>() == 4);

    // The manager's agent is killed, and knows the other node's replicas when it is back.
    second.restart_agent(1);
    twin.deploy(5);
    assert_eq!(twin.replicas(5), [2, 2]);
    let answers = load.finish();
    assert_eq!(failures(&answers), Vec::<String>::new(), "of {}", answers.len());
}

async fn what_needs_one_node_stays_there(twin: &Twin) {
    let site = &twin.site;
    site.file("magrathea.yml", format!("{MANIFEST}storage: {{writable: {{uploads: {{kind: shared}}}}}}\n"));
    site.file("index.php", page(6));
    let plan = site.td(&["app", "plan"]).ok();
    let said = "all replicas are on node node1: storage.writable.uploads is kept there";
    assert!(plan.stdout.contains(said) || plan.stderr.contains(said), "{plan:?}");
    twin.deploy(6);
    assert_eq!(twin.replicas(6), [4, 0]);

    // Without the shared folder they are spread, and together again with it.
    site.file("magrathea.yml", MANIFEST);
    twin.deploy(7);
    assert_eq!(twin.replicas(7), [2, 2]);
    site.td(&["release", "rollback", "v6"]).ok();
    assert_eq!(twin.replicas(6), [4, 0]);
    assert_eq!(twin.lab.td(site.path(), &["app", "run", "--app", &site.name, "ls uploads"]).ok().stdout, "");
}

async fn a_lost_node_is_left_out_and_comes_back(twin: &Twin) {
    let second = &twin.second;
    twin.site.file("magrathea.yml", MANIFEST);
    twin.deploy(8);
    assert_eq!(twin.replicas(8), [2, 2]);
    let load = Load::start(twin.lab.client(), second.url("twin.far.localhost", "/"), 20, Duration::from_secs(120));
    second.unplug();
    // Its agent is still heard, so it is asked for nothing that it could not do.
    until(Duration::from_secs(60), "the others are started here", || twin.replicas(8)[0] == 4);
    let began = Instant::now();
    while twin.meet(40).await[1].len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(30), "visitors do not meet what was started here");
    }
    let answers = load.finish();
    // What waits for a node that says nothing is asked of another after some seconds.
    assert_eq!(failures(&answers), Vec::<String>::new(), "of {}", answers.len());

    second.plug();
    until(Duration::from_secs(60), "the node is back", || second.takers() == 2);
    twin.deploy(9);
    assert_eq!(twin.replicas(9), [2, 2]);
    assert_eq!(twin.meet(60).await[1].len(), 4);
}
