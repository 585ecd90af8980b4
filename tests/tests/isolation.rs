//! A hostile tenant tries every door: from inside its own container nothing answers but what is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use magrathea_tests::{Lab, run, site::Site};

/// Tries to connect to every `address:port` it is posted and tells which answered.
const PROBE: &str = r#"<?php
header('Cache-Control: no-store');
if (isset($_POST['sql'])) {
    $db = new mysqli(getenv('DB_HOST'), getenv('DB_USER'), getenv('DB_PASSWORD'), getenv('DB_NAME'), (int) getenv('DB_PORT'));
    try { $r = $db->query($_POST['sql']); echo json_encode($r instanceof mysqli_result ? $r->fetch_all() : $r); }
    catch (Throwable $e) { echo 'refused: ', $e->getMessage(); }
    exit;
}
if (isset($_POST['run'])) { echo shell_exec($_POST['run'] . ' 2>&1'); exit; }
$pending = [];
foreach (explode(',', $_POST['doors'] ?? '') as $door) {
    $socket = @stream_socket_client("tcp://$door", $no, $why, 1, STREAM_CLIENT_CONNECT | STREAM_CLIENT_ASYNC_CONNECT);
    if ($socket) { $pending[$door] = $socket; }
}
sleep(2);
echo json_encode(array_keys(array_filter($pending, fn($socket) => stream_socket_get_name($socket, true) !== false)));
"#;

fn addresses(lab: &Lab, container: &str) -> Vec<String> {
    let own = lab.docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", container]);
    let bridge = lab.docker(&["network", "inspect", "docker_gwbridge", "-f", "{{json .Containers}}"]);
    let bridge: BTreeMap<String, serde_json::Value> = serde_json::from_str(&bridge).unwrap();
    let gateway = bridge
        .get(container)
        .and_then(|c| c["IPv4Address"].as_str())
        .and_then(|a| a.split('/').next())
        .map(str::to_owned);
    own.split_whitespace().map(str::to_owned).chain(gateway).collect()
}

/// The ports in a set of the node's own rules.
fn ports_of(set: &str) -> BTreeSet<String> {
    let said = run(std::process::Command::new("nft").args(["list", "set", "inet", "magrathea", set])).ok().stdout;
    let elements = said.split("elements = {").nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
    elements.split(',').map(|port| port.trim().to_owned()).collect()
}

/// The TCP ports on which anything inside a container listens.
fn listening(lab: &Lab, container: &str) -> Vec<u16> {
    let pid = lab.docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{}/net/{table}", pid.trim()));
    let tables = tables.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect::<Vec<_>>().concat();
    let listens = |line: &str| {
        let mut fields = line.split_whitespace();
        let port = fields.nth(1)?.rsplit(':').next()?.to_owned();
        (fields.nth(1)? == "0A").then(|| u16::from_str_radix(&port, 16).ok())?
    };
    tables.lines().filter_map(listens).collect()
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_hostile_container_finds_every_door_closed() {
    let lab = Lab::get();
    let victim = Site::new(&lab, "victim");
    victim
        .file(
            "index.php",
            "<?php $m = new Memcached(); $m->addServer('memcached', 11211); $m->set('k', 'v'); echo 'victim';",
        )
        .file("magrathea.yml", "db: {mysql: {}, memcache: 16MiB}\nstorage: {writable: {files: {kind: shared}}}\n");
    victim.deploy().ok();
    victim.get("/").await;
    let hostile = Site::new(&lab, "hostile");
    hostile.file("index.php", PROBE).file("magrathea.yml", "db: {mysql: {}, memcache: 16MiB}\n");
    hostile.deploy().ok();

    let ask = async |fields: &[(&str, &str)]| {
        let answer =
            lab.client().post(hostile.url("/")).timeout(Duration::from_secs(120)).form(fields).send().await.unwrap();
        answer.text().await.unwrap()
    };

    // What is its own answers, so that a probe which never works cannot pass for isolation.
    let gateway = lab
        .docker(&["network", "inspect", "docker_gwbridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"])
        .trim()
        .to_owned();
    let own = format!("memcached:11211,{gateway}:13306");
    assert_eq!(ask(&[("doors", &own)]).await, serde_json::to_string(&own.split(',').collect::<Vec<_>>()).unwrap());

    let hostile_slug = hostile.slug();
    let mut doors = Vec::new();
    let containers =
        lab.docker(&["ps", "-q", "--no-trunc", "--filter", &format!("label=magrathea.owner={}", lab.prefix())]);
    for container in containers.lines() {
        let slug = lab.docker(&["inspect", "-f", "{{index .Config.Labels \"magrathea.slug\"}}", container]);
        if slug.contains(&hostile_slug) {
            continue;
        }
        for address in addresses(&lab, container) {
            let usual = [80, 443, 3306, 6081, 6082, 9000, 11211];
            doors.extend(listening(&lab, container).iter().chain(&usual).map(|port| format!("{address}:{port}")));
        }
    }
    let web = lab.docker(&["ps", "-q", "--filter", &format!("label=magrathea.slug={}", victim.slug())]);
    let web = web.lines().find(|id| !listening(&lab, id).contains(&11211)).unwrap().to_owned();
    let ports = listening(&lab, &web);
    assert!(ports.iter().all(|port| doors.iter().any(|door| door.ends_with(&format!(":{port}")))), "{ports:?}");
    assert!(!ports.is_empty() && doors.len() > 8, "the victim's replicas have addresses and ports: {doors:?}");
    // An address that the engine gives to another instance later refuses who still asks for the victim there.
    let own = ask(&[("run", "echo $PORT")]).await;
    assert!(ports.iter().all(|port| port.to_string() != own.trim()), "{ports:?} and {own}");
    // Another installation on this node has public ports too.
    let public = ports_of("public_ports");
    assert!(public.contains(&lab.http.to_string()) && public.contains(&lab.https.to_string()));
    // Every port that anything on the node listens on, at every address of the node.
    let listening = run(std::process::Command::new("ss").args(["-Hltn"])).ok().stdout;
    let node = run(std::process::Command::new("ip").args(["-o", "-4", "addr"])).ok().stdout;
    let node: Vec<_> = node
        .lines()
        .filter_map(|l| l.split_whitespace().nth(3)?.split('/').next())
        .filter(|a| !a.starts_with("127."))
        .collect();
    for line in listening.lines() {
        let port = line.split_whitespace().nth(3).unwrap().rsplit(':').next().unwrap();
        if public.contains(port) {
            continue;
        }
        doors.extend(node.iter().map(|address| format!("{address}:{port}")));
    }
    // Databases are open to instances at one address of the node; only there, and only with an account.
    let databases = ports_of("instance_ports");
    doors.retain(|door| {
        let (address, port) = door.rsplit_once(':').unwrap();
        address != gateway || !databases.contains(port)
    });
    let open = ask(&[("doors", &doors.join(","))]).await;
    assert_eq!(open, "[]", "of {} doors these answered", doors.len());

    // Another tenant's database.
    let victim_db = victim.slug();
    let tried = ask(&[("sql", &format!("SHOW TABLES IN {victim_db}"))]).await;
    assert!(tried.starts_with("refused"), "{tried}");
    let seen = ask(&[("sql", "SHOW DATABASES")]).await;
    assert!(!seen.contains(&victim_db) && seen.contains(&hostile_slug), "{seen}");
    let file = ask(&[("sql", "SELECT LOAD_FILE('/etc/passwd')")]).await;
    assert!(!file.contains("root:"), "{file}");

    // Its own container gives it nothing to climb on.
    let checks = [
        ("test $(id -u) -ge 200000 && echo own", "own", true),
        ("cat /proc/self/status | grep -E '^CapEff'", "0000000000000000", true),
        ("cat /proc/self/status | grep NoNewPrivs", "1", true),
        ("touch /app/x || echo read-only", "read-only", true),
        ("touch /etc/x || echo read-only", "read-only", true),
        ("ls /var/run/docker.sock /run/magrathea 2>&1 | grep -c 'No such'", "2", true),
        ("env | grep -c victim", "0", true),
    ];
    for (command, wanted, equal) in checks {
        let said = ask(&[("run", command)]).await;
        assert_eq!(said.contains(wanted), equal, "{command}: {said}");
    }
}
