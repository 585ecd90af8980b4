//! Every rendered text is read by the program it is for, out of the image that will read it on a node.
//!
//! Needs a Docker Engine with the images of `layers/images/build.sh`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::{Case, texts};
use magrathea_core::manifest::{Replicas, Stack};

const SETUP: &str = "these tests need a Docker Engine with the layer images: run layers/images/build.sh";

/// The newest image of a name.
fn image(name: &str) -> String {
    let filter = format!("label=magrathea.image={name}");
    let listed = Command::new("docker").args(["images", "-q", "--filter", &filter]).output().expect(SETUP);
    let ids = String::from_utf8(listed.stdout).unwrap();
    ids.lines().next().unwrap_or_else(|| panic!("there is no image {name}; {SETUP}")).to_owned()
}

/// Runs a command in a container of the image with a folder of files in it; the error is what it said.
fn accepts<Target: AsRef<str>>(name: &str, files: &BTreeMap<Target, String>, command: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut script = String::from("set -e\n");
    for (n, (target, content)) in files.iter().enumerate() {
        let target = target.as_ref();
        std::fs::write(folder.path().join(n.to_string()), content).unwrap();
        let parent = Path::new(target).parent().unwrap().display();
        script.push_str(&format!("mkdir -p {parent}\ncp /given/{n} {target}\n"));
    }
    script.push_str(command);
    let out = Command::new("docker")
        .args(["run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "sh"])
        .arg("--volume")
        .arg(format!("{}:/given:ro", folder.path().display()))
        .args([&image(name), "-c", &script])
        .output()
        .expect(SETUP);
    let said = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "{name} refuses:\n{}", String::from_utf8_lossy(&said));
}

fn cases() -> Vec<Case> {
    let quiet = |case: &mut Case| {
        case.sections.access = Default::default();
        case.sections.proxy.bypass_cookies.clear();
    };
    vec![
        Case::full(),
        Case::full().nginx().with(quiet),
        Case::small(Stack::Php),
        Case::small(Stack::Static),
        Case::small(Stack::Tomcat).with(|case| {
            case.sections.app_layer.replicas = Replicas::Fixed(3);
            case.sections.routing.redirects = vec!["www.localhost".into()];
        }),
    ]
}

/// The router's configuration with both backends of an instance in it, as the agent puts it together.
fn router_files(case: &Case) -> BTreeMap<String, String> {
    let plan = case.plan().unwrap();
    let rendered = texts(&plan);
    let mut config = texts(&case.cluster_plan())["haproxy.cfg"].clone();
    for slot in ["a", "b"] {
        let server = "check inter 2s fastinter 250ms downinter 500ms fall 2 rise 1 pool-purge-delay 10s";
        config.push_str(&format!("\nbackend i0123456789ab_{slot}\n{}", rendered["backend.cfg"]));
        config.push_str(&format!(
            "    server r1 172.18.0.3:8080 {server}\n    server r2 127.0.0.1:1 {server} disabled\n"
        ));
    }
    let maps = "/etc/magrathea/router/maps/";
    let mut files = BTreeMap::from([
        ("/etc/magrathea/router/haproxy.cfg".to_owned(), config),
        (format!("{maps}hosts.map"), "blog.example i0123456789ab\n".into()),
        (format!("{maps}wildcards.map"), ".blog.example i0123456789ab\n".into()),
        (format!("{maps}canary.map"), "i0123456789ab i0123456789ab_b,8,10\n".into()),
        (format!("{maps}limits.map"), "i0123456789ab throttle\n".into()),
        (format!("{maps}active.map"), "i0123456789ab i0123456789ab_a,7\n".into()),
    ]);
    // The instance's own files: their names hold a hash of their content.
    for (name, content) in &rendered {
        if ["allow-", "deny-", "maintenance-", "auth-"].iter().any(|start| name.starts_with(start)) {
            files.insert(format!("/etc/magrathea/router/instances/i0123456789ab/{name}"), content.clone());
        }
    }
    files
}

#[test]
fn haproxy_accepts_the_router() {
    let certificate = "mkdir -p /etc/magrathea/router/certs /run/magrathea/admin /run/magrathea/sockets\n\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout /tmp/k -out /tmp/c 2>/dev/null\n\
        cat /tmp/c /tmp/k >/etc/magrathea/router/certs/default.pem\n";
    for case in cases() {
        let check = format!("{certificate}haproxy -c -dW -f /etc/magrathea/router/haproxy.cfg");
        accepts("router", &router_files(&case), &check);
    }
}

#[test]
fn varnish_accepts_every_vcl() {
    for case in cases() {
        let Some(vcl) = texts(&case.plan().unwrap()).remove("cache").filter(|text| text.starts_with("vcl")) else {
            continue;
        };
        let files = BTreeMap::from([("/tmp/instance.vcl", vcl)]);
        accepts(
            "varnish",
            &files,
            "varnishd -C -j none -n /tmp/v -f /tmp/instance.vcl 2>/tmp/said || { cat /tmp/said; exit 1; }",
        );
    }
}

#[test]
fn nginx_accepts_the_cache() {
    let instance = texts(&Case::full().nginx().plan().unwrap())["cache"].clone();
    let main = texts(&Case::small(Stack::Php).cluster_plan())["/etc/magrathea/nginx.conf"].clone();
    let files = BTreeMap::from([
        ("/etc/magrathea/nginx.conf", main),
        ("/etc/magrathea/nginx/instances/i0123456789ab.conf", instance),
    ]);
    accepts(
        "nginx",
        &files,
        "mkdir -p /run/nginx /var/cache/nginx /run/magrathea/sockets; nginx -t -c /etc/magrathea/nginx.conf",
    );
}

#[test]
fn apache_and_php_accept_their_files() {
    for case in cases() {
        let rendered = texts(&case.plan().unwrap());
        let take = |names: &[&'static str]| -> BTreeMap<&str, String> {
            names.iter().filter_map(|name| Some((*name, rendered.get(*name)?.clone()))).collect()
        };
        let apache = "mkdir -p /app/web && apache2 -t -f /etc/magrathea/apache.conf";
        match case.stack {
            Stack::Static => accepts("static", &take(&["/etc/magrathea/apache.conf"]), apache),
            Stack::Php => {
                let files = take(&[
                    "/etc/magrathea/apache.conf",
                    "/etc/magrathea/fpm.conf",
                    "/etc/magrathea/php/app.ini",
                    "/etc/magrathea/guard.php",
                ]);
                let ini = &rendered["/etc/magrathea/php/app.ini"];
                let mut php = String::new();
                for line in ini.lines().filter(|line| line.starts_with("mail.log")) {
                    php.push_str(&line.replace("mail.log = ", ""));
                }
                let said = php.trim_matches('"').replace('\'', "'\\''");
                accepts(
                    "php",
                    &files,
                    &format!(
                        "{apache}\nphp-fpm8.4 -R -t --fpm-config /etc/magrathea/fpm.conf\n\
                     test \"$(php -r 'echo ini_get(\"mail.log\");')\" = '{said}'\n\
                     test \"$(php -r 'echo ini_get(\"realpath_cache_ttl\");')\" = 600
                         mkdir -p /app/storage/public && ln -s ../storage/public /app/web/link
                         echo evil >/app/storage/public/x.php && guard=/etc/magrathea/guard.php
                         test ! -e $guard || test -z \"$(php -d auto_prepend_file=$guard /app/web/link/x.php)\""
                    ),
                );
            }
            Stack::Tomcat => {
                let files = take(&["/etc/magrathea/tomcat/server.xml", "/etc/magrathea/tomcat/logging.properties"]);
                let base = "mkdir -p /tmp/b/conf /tmp/b/logs /app && cp /usr/share/tomcat10/etc/*.xml /usr/share/tomcat10/etc/*.properties /tmp/b/conf && cp /etc/magrathea/tomcat/* /tmp/b/conf\n";
                accepts(
                    "tomcat",
                    &files,
                    &format!("{base}CATALINA_BASE=/tmp/b /usr/share/tomcat10/bin/catalina.sh configtest"),
                );
            }
        }
    }
}

#[test]
fn mariadb_runs_the_statements_twice() {
    let rendered = texts(&Case::full().plan().unwrap());
    let config = texts(&Case::full().cluster_plan())["/etc/magrathea/mariadb.cnf"].replace("172.18.0.1", "127.0.0.1");
    let ensure =
        rendered["ensure.sql"].replace("${secret:DB_PASSWORD}", "Pw0").replace("${secret:DB_PASSWORD_OLD}", "Pw1");
    let files = BTreeMap::from([
        ("/etc/magrathea/mariadb.cnf", config),
        ("/tmp/ensure.sql", ensure),
        ("/tmp/destroy.sql", rendered["destroy.sql"].clone()),
    ]);
    accepts(
        "mariadb",
        &files,
        r#"
        /usr/lib/magrathea/entrypoint >/tmp/log 2>&1 & server=$!
        trap 'cat /tmp/log' EXIT
        until mariadb -e 'select 1' >/dev/null 2>&1; do kill -0 $server; sleep 0.1; done
        mariadb </tmp/ensure.sql
        mariadb </tmp/ensure.sql
        own="mariadb -h 127.0.0.1 -u i0123456789ab -pPw0"
        $own -e 'create table t (x int)' i0123456789ab
        test "$($own -NBe 'select @@max_user_connections')" = 50
        ! $own -e 'select * from user' mysql 2>/dev/null
        ! mariadb -h 127.0.0.1 -u root -e 'select 1' 2>/dev/null
        mariadb </tmp/destroy.sql
        ! $own -e 'select 1' 2>/dev/null
        kill $server; wait $server
        trap - EXIT
    "#,
    );
}
